"""How a scheduler goes through its runs, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from amltk.exceptions import SchedulerRunningError
from amltk.scheduling._loop import nested_loop
from amltk.scheduling._loop.signals import Interrupts
from amltk.scheduling._run.lifecycle import Phase
from amltk.scheduling._scheduler.display import Display, view_of
from amltk.scheduling._scheduler.executor_owner import ExecutorOwner
from amltk.scheduling._scheduler.experiment import Experiment
from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from concurrent.futures import Executor

    from amltk.scheduling._admission.pools import Pools
    from amltk.scheduling._loop.refresh import View
    from amltk.scheduling._results.steps import Steps
    from amltk.scheduling._run.policy import RunOptions
    from amltk.scheduling._run.run import Run
    from amltk.scheduling.exit_state import ExitState
    from amltk.scheduling.future import Future, Observer

    Maker = Callable[[], Coroutine[Any, Any, Run]]
    """Makes a run, on its loop."""


class Runs(Experiment, ExecutorOwner):
    """Makes the runs of a scheduler, and drives them: in a loop of their own, in the caller's, or step by step.

    Owns the right to run: one run at a time, whichever threads ask. `close` and the `with` block may be used from any
    thread, everything else on the thread that runs.

    Args:
        executor: The first executor.
        terminate: As in `Scheduler`.
        resources: As in `Scheduler`.
    """

    def __init__(
        self,
        executor: Executor,
        terminate: Callable[[Executor], Any] | bool,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        ExecutorOwner.__init__(self, executor, terminate)
        self._pools: Pools | None = None
        if resources is not None:
            self._pools = _make_pools(resources)
        # Shared by `submit` and `Task.submit`: the run's own method while there is a run.
        self.submit_for: Callable[..., Future[Any]] = self._refuse
        self.tasks: list[Any] = []  # of `Task`, a layer above
        self.observers: list[Observer] = []  # for views that need more than events; must be quick and not raise
        self.steps: Steps | None = None  # of the run, if plain code steps through it
        self._busy = threading.Lock()  # while there is a run
        self._begun: asyncio.Task[ExitState] | None = None  # by `begin_async`
        self._numbers = itertools.count()  # of submissions
        self._renderables: list[Any] = []  # for rich
        Experiment.__init__(self)

    @property
    def pools(self) -> Pools:
        """What calls share, over all runs."""
        if self._pools is None:
            self._pools = _make_pools(None)
        return self._pools

    def _refuse(self, _task: Any, fn: Callable[..., Any], *_: Any) -> Future[Any]:
        """What `submit_for` is while there is no run."""
        raise self._not_started(f"submit {callback_name(fn)}")

    # ------------------------------------------------------------------ one run

    def _run_in_own_loop(self, options: RunOptions, display: Display, *, debug: bool) -> ExitState:
        """Carry out `Scheduler.run`. `debug`: in asyncio's debug mode."""
        with (
            self._only_run(options, display) as make_run,
            nested_loop.running_loop_set_aside(),
            asyncio.Runner(debug=debug or None, loop_factory=nested_loop.new_loop) as runner,
        ):
            loop = runner.get_loop()
            run = loop.run_until_complete(make_run())
            life = loop.create_task(run.live(), name="amltk-run")  # before a signal can request its end
            with Interrupts(run, life, holds_up_others=True):
                nested_loop.drive(loop, life, run.end_requests.interrupt)
        return run.conclude()

    async def _run_in_this_loop(self, options: RunOptions, display: Display) -> ExitState:
        """Carry out `Scheduler.async_run`."""
        with self._only_run(options, display) as make_run:
            run = await make_run()
            life = asyncio.create_task(run.live(), name="amltk-run")
            with Interrupts(run, life) as interrupts:
                cancelled = await nested_loop.attend(interrupts.lives, run.end_requests.interrupt)
            life.result()
        if cancelled is None:
            return run.conclude()
        run.lifecycle.drop_exception()
        try:
            raise cancelled
        finally:
            del cancelled  # its traceback refers to this frame: a reference cycle

    def begin_async(self, options: RunOptions, display: Display) -> asyncio.Task[ExitState]:
        """Begin a run in the running loop, as a separate task. For loops over results."""
        self._begun = asyncio.create_task(self._run_in_this_loop(options, display))
        return self._begun

    def is_beginning(self) -> bool:
        """Whether `begin_async` was called and its run does not exist yet."""
        begun = self._begun
        return begun is not None and not begun.done() and self._run is None

    def begin_steps(self, options: RunOptions, display: Display) -> Steps:
        """Begin a run that the caller drives step by step, and closes. For loops over results. Raises as `run` does."""
        from amltk.scheduling._results.steps import Steps  # few programs need it

        with ExitStack() as ends:
            self.steps = Steps(ends.enter_context(self._only_run(options, display)))
            ends.callback(setattr, self, "steps", None)
            self.steps.ends = ends.pop_all()
            return self.steps

    @contextmanager
    def _only_run(self, options: RunOptions, display: Display) -> Iterator[Maker]:
        """Be the only run of this scheduler, with a usable executor. Gives what makes the run."""
        from amltk import _guard  # here, to keep the import of this module light

        view = view_of(self, display, self._renderables, options.timeout, options.journal)
        _guard.check("a run of a scheduler")
        if not self._busy.acquire(blocking=False):
            raise SchedulerRunningError("the scheduler is already running; call stop() first, or use another Scheduler")
        try:
            self._renew_executor()
            self._open_journal(options)
            yield partial(self._make_run, options, view)
        finally:
            run = self._run
            if run is not None and run.lifecycle.phase is not Phase.IDLE:
                self._note_use_of_executor()
                self._last_end = run.lifecycle.cause.reason
                self._callback_exceptions += run.end_requests.callback_exceptions
            self._run = self._backend = None
            self.submit_for = self._refuse
            try:
                self._close_journal()
            finally:
                self._busy.release()

    def _open_journal(self, options: RunOptions) -> None:
        """Open the journal of the run, if it is to have one; it is locked from now on.

        Raises:
            JournalError: It cannot be opened, or the run has something that cannot be recorded.
        """
        if options.journal is None:
            return
        from amltk.scheduling._journal.run_journal import RunJournal  # few programs need them
        from amltk.scheduling._run.journaled.parts import check_plugins

        for task in self.tasks:
            check_plugins(task)
        self._journal = RunJournal(options.journal)

    def _close_journal(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            self._random = journal.random
            journal.close()

    async def _make_run(self, options: RunOptions, view: View | None) -> Run:
        from amltk.scheduling._run.run import Run  # workers import this module as well, and run nothing

        backend = self._lend_executor()
        self._begun = None  # the run exists now
        if self._journal is None:
            self._run = Run(
                self.emitter,
                backend,
                options,
                view,
                numbers=self._numbers,
                observers=self.observers,
                pools=self.pools,
            )
        else:
            from amltk.scheduling._run.journaled.run import JournaledRun

            backend.put_logs(self._journal.folder.jobs)
            self._run = JournaledRun(
                self.emitter,
                backend,
                options,
                view,
                journal=self._journal,
                tasks=self.tasks,
                observers=self.observers,
                pools=self.pools,
            )
        self.submit_for = self._run.submissions.submit
        return self._run

    # ------------------------------------------------------------------ several runs

    def close(self) -> None:
        """Shut the executor down now and wait for it, as the end of a `with` block does.

        For a scheduler that may never run: some executors, such as those of Dask and of clusters, have processes and
        connections from the start. A run in progress ends as with `stop`. Called from one of its callbacks, this
        returns at once and the end of the run does the rest. With `terminate=False` the executor stays open. May be
        called any number of times.

        A scheduler made by a `with_...` factory can run again afterwards, with a fresh executor; any other one raises
        `ExecutorShutdownError`.
        """
        self.__exit__(None)

    def __enter__(self) -> Self:
        """Keep the executor for all runs until the end of the block.

        If a run ends without waiting and the executor can terminate single calls, as that of `with_processes` can, it
        loses only the workers that were running its calls. With other executors the next run has a fresh one.

        Raises:
            RuntimeError: The scheduler has already been entered.
        """
        if self._is_kept:
            raise RuntimeError("the scheduler is already in a `with` block: run it within that block")
        self._is_kept = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Shut the executor down; after an exception, without waiting for anything. A run in progress ends."""
        if not self._leave_block(at_once=kind is not None):
            with self._busy:  # until the run, which is in another thread, is over
                pass
        self._end_unused_executor(at_once=kind is not None)

    async def __aenter__(self) -> Self:
        """The same for coroutines: the end of the block does not block the event loop."""
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The same, and wait until a run in progress has ended."""
        self._leave_block(at_once=kind is not None)
        ended = asyncio.create_task(asyncio.to_thread(self._busy.acquire))
        try:
            await asyncio.shield(ended)
        finally:
            ended.add_done_callback(lambda _: self._busy.release())
        await asyncio.to_thread(self._end_unused_executor, at_once=kind is not None)

    def _leave_block(self, *, at_once: bool) -> bool:
        """End the run in progress, if any. Return whether it is over, or must not be waited for here."""
        self._is_kept = False
        why = "the block of the scheduler was left"
        steps = self.steps
        if steps is not None and steps.can_step():
            steps.close(why)
        run, backend = self._run, self._backend
        if run is None or backend is None:
            return True
        backend.keep = False
        end = partial(run.end_requests.leave, why) if at_once else partial(run.end_requests.stop, why, None)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: the run is over
            run.loop.call_soon_threadsafe(end)  # takes effect once the run has begun
        return run.is_here()

    def _end_unused_executor(self, *, at_once: bool) -> None:
        if self._run is None:  # else the end of the run does this
            self._end_executor(at_once=at_once)
            self._close_shared()


def _make_pools(resources: Mapping[str, Any] | None) -> Pools:
    from amltk.scheduling._admission.pools import Pools  # what only a run needs comes with the first one

    return Pools(resources)
