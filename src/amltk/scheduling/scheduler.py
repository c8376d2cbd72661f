"""The scheduler: submits work to an executor and emits an event for everything that happens."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeAlias, TypeVar, overload

from amltk import _extras
from amltk._checks import check_bool, check_count, check_seconds, explains_options
from amltk.exceptions import ExecutorShutdownError, SchedulerNotRunningError, SchedulerRunningError
from amltk.scheduling._loop import nested_loop
from amltk.scheduling._loop.signals import Interrupts
from amltk.scheduling._run.lifecycle import Phase
from amltk.scheduling._run.policy import OnException, Reaction, RunOptions
from amltk.scheduling.events import (
    Channel,
    Emitter,
    Event,
    callback_name,
    check_computable,
    deliver_now,
    raise_attribute_error,
)
from amltk.scheduling.executors.adapter import ExecutorAdapter
from amltk.scheduling.executors.registry import ExecutorSpec, kind_named, kind_of, workers_of
from amltk.scheduling.factories import Factories
from amltk.scheduling.scheduler_events import SchedulerEvents
from amltk.scheduling.task import Task

if TYPE_CHECKING:
    from collections import Counter
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from amltk.scheduling._loop.timers import Timer
    from amltk.scheduling._results.steps import Steps
    from amltk.scheduling._run.refresh import View
    from amltk.scheduling._run.run import Run
    from amltk.scheduling.executors.capabilities import Terminator
    from amltk.scheduling.exit_state import ExitState
    from amltk.scheduling.future import Future, Observer
    from amltk.scheduling.plugin import GivingPlugin, HoldingPlugin, PassingPlugin, Plugin
    from amltk.types import Duration

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

Display: TypeAlias = "bool | Literal['auto'] | Iterable[RenderableType]"


class Scheduler(SchedulerEvents, Factories):
    """Submits work to an executor and emits events, which plain callbacks handle.

    ```python
    from amltk.scheduling import Scheduler

    scheduler = Scheduler.with_processes(2)
    task = scheduler.task(expensive_function)

    @scheduler.on_start(repeat=2)
    def launch() -> None:
        task.submit(1)

    @task.on_result
    def report(future, result) -> None:
        print(result)

    scheduler.run()
    ```

    A scheduler made by one of the `with_...` factories can run any number of times, with a fresh executor for each run.
    Close one that you end up not running, see `close`. In a `with` or `async with` block all runs share one executor,
    whose workers stay warm; it is shut down at the end of the block:

    ```python
    with Scheduler.with_processes(4) as scheduler:
        task = scheduler.task(expensive_function)
        first = [call.result() for call in task.map(range(10)).results()]
        second = [call.result() for call in task.map(first).results()]
    ```

    Args:
        executor: Any `concurrent.futures.Executor`. Each run shuts it down at its end, unless `terminate` is False.
        terminate: What happens to running work when a run ends without waiting (`wait=False`, Ctrl-C). True terminates
            it as far as the executor can: a process pool kills its processes and everything they have started; threads
            cannot be terminated. A function is called with the executor instead, on a separate thread; work that is
            still running when it returns is reported as cancelled. False leaves the executor alone: it stays open and
            usable after every run.

    Raises:
        TypeError: `executor` is not an executor, or `terminate` is neither a bool nor callable.
    """

    def __init__(self, executor: Executor, *, terminate: Callable[[Executor], Any] | bool = True) -> None:
        if not isinstance(executor, Executor):
            raise TypeError(
                f"executor={executor!r}: must be a concurrent.futures.Executor, not {type(executor).__name__};"
                " Scheduler.with_processes() makes one for you"
            )
        if not isinstance(terminate, bool) and not callable(terminate):
            raise TypeError(f"terminate={terminate!r}: must be True, False or a function that takes the executor")
        self._executor = executor
        self._kind = kind_of(executor)
        self._remake: Callable[[], Executor] | None = None  # set by factories
        self._terminate = terminate
        self._executor_is_used_up = False
        self._is_kept = False  # between runs
        self._run: Run | None = None
        self._last_end = ""  # why the last run ended
        self._callback_exceptions = 0  # of earlier runs
        # Shared by `submit` and `Task.submit`: the run's own method while there is a run.
        self.submit_for: Callable[..., Future[Any]] = self._refuse
        self._backend: ExecutorAdapter | None = None  # of the run
        self._busy = threading.Lock()  # while there is a run
        self.steps: Steps | None = None  # of the run, if plain code steps through it
        self._begun: asyncio.Task[ExitState] | None = None  # by `begin_async`
        self._renderables: list[RenderableType] = []
        # Plugins see one submission at a time, whichever threads submit.
        self.submission_lock: AbstractContextManager[Any] = threading.RLock()
        self.tasks: list[Task[..., Any]] = []
        self._numbers = itertools.count()  # of submissions
        self.observers: list[Observer] = []  # for views that need more than events; must be quick and not raise
        super().__init__(Emitter("Scheduler", dispatch=self.dispatch))

    @classmethod
    def _made_by(cls, kind: str, terminate: Callable[[Executor], Any] | bool, /, **options: Any) -> Self:
        factory = kind_named(kind).factory
        assert factory is not None, f"the row {kind!r} has no factory"

        def remake() -> Executor:
            executor = factory(**options)
            _log.info("made %r", executor)
            return executor

        scheduler = cls(remake(), terminate=terminate)
        scheduler._remake = remake
        return scheduler

    # ------------------------------------------------------------------ compute

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Compute `fn(*args, **kwargs)` in the executor. May be called from any thread while the scheduler is running.

        `@future-submitted` is delivered, then exactly one ending: `@future-done` with `@future-result` or
        `@future-exception`, or else `@future-cancelled`. Prefer a `Task`, which has events for one function only.

        Returns:
            The future. It can be cancelled and inspected, and `async def` callbacks can await it.

        Raises:
            SchedulerNotRunningError: Before `@start`, or after the end was requested.
            TypeError: `fn` is not callable, or is an `async def`.
        """
        check_computable(fn, "fn")
        return self.submit_for(None, fn, args, kwargs)

    def _refuse(self, _task: Any, fn: Callable[..., Any], *_: Any) -> Future[Any]:
        """What `submit_for` is while there is no run."""
        raise self._not_started(f"submit {callback_name(fn)}")

    # The first overload that fits wins: no plugins at all is not an iterable of plugins that hold calls back.
    @overload
    def task(  # type: ignore[overload-overlap]
        self,
        function: Callable[P, R],
        *,
        plugins: PassingPlugin | Iterable[PassingPlugin] = ...,
        init_plugins: bool = ...,
    ) -> Task[P, R, Future[R]]: ...
    @overload
    def task(
        self,
        function: Callable[..., R],
        *,
        plugins: GivingPlugin | Iterable[GivingPlugin | PassingPlugin],
        init_plugins: bool = ...,
    ) -> Task[..., R, Future[R]]: ...
    @overload
    def task(  # type: ignore[overload-overlap]
        self,
        function: Callable[P, R],
        *,
        plugins: Plugin | Iterable[HoldingPlugin | PassingPlugin],
        init_plugins: bool = ...,
    ) -> Task[P, R]: ...
    @overload
    def task(
        self, function: Callable[..., R], *, plugins: Iterable[Plugin], init_plugins: bool = ...
    ) -> Task[..., R]: ...
    @explains_options(plugin="plugins")
    def task(
        self, function: Callable[..., Any], *, plugins: Plugin | Iterable[Plugin] = (), init_plugins: bool = True
    ) -> Any:
        """Make a `Task`: a function that is submitted many times and has its own events. Arguments as in `Task`."""
        task: Task[..., Any] = Task(function, self, plugins=plugins, init_plugins=init_plugins)
        self.tasks.append(task)
        return task

    async def wait_for_capacity(self, in_flight: int) -> bool:
        """Wait until fewer than `in_flight` submissions are pending. For an `async def` callback that produces work.

        ```python
        @scheduler.on_start
        async def produce() -> None:
            for config in endless_source():
                if not await scheduler.wait_for_capacity(64):
                    return
                task.submit(config)
        ```

        Submitting itself never waits. In a plain callback, submit from `@result`, or use `Task.map`.

        Args:
            in_flight: How many submissions may be pending after the next one, at least 1.

        Returns:
            Whether the scheduler is running. False means that the run is ending and accepts no more submissions.

        Raises:
            TypeError: `in_flight` is not an integer.
            ValueError: It is below 1.
        """
        in_flight = check_count("in_flight", in_flight)
        while self.running() and self.n_pending >= in_flight:
            ended = asyncio.get_running_loop().create_future()
            subscriptions = [
                self.emitter.register(event, partial(_note, ended), hidden=True)
                for event in (self.FUTURE_DONE, self.FUTURE_CANCELLED, self.FINISHING)
            ]
            try:
                await ended
            finally:
                for subscription in subscriptions:
                    subscription.end()
        return self.running()

    def call_later(self, delay: Duration, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Call `fn(*args, **kwargs)` on the loop's thread after a delay. May be called from any thread during a run.

        The executor is not involved: to compute something, submit it from `fn`. A pending timer does not keep the run
        going; see `end_on_empty`. What `fn` raises goes to `on_callback_exception`.

        Args:
            delay: How long to wait: seconds, a string such as `"1.5 h"`, or a `timedelta`.
            fn: A function, or an `async def`, which is awaited as part of the run.
            *args: The positional arguments of `fn`.
            **kwargs: The keyword arguments of `fn`.

        Returns:
            A handle with `cancel()`.

        Raises:
            SchedulerNotRunningError: Before `@start`, or after the end was requested.
            ValueError: `delay` is negative, infinite or NaN.
            TypeError: `delay` is not a duration, or `fn` is not callable.
        """
        seconds = check_seconds("delay", delay)
        if not callable(fn):
            raise TypeError(f"fn={fn!r}: must be callable")
        run = self._run  # read once, here and below: the run may end on another thread meanwhile
        if run is None:
            raise self._not_started(f"call {callback_name(fn)} later")
        return run.call_later(seconds, fn, args, kwargs)

    def check_running(self, what: str) -> None:
        """Raise a `SchedulerNotRunningError` saying that `what` cannot be done, unless the scheduler is running."""
        run = self._run
        if run is None:
            raise self._not_started(what)
        run.lifecycle.check_running(what)

    def _not_started(self, what: str) -> SchedulerNotRunningError:
        if self._last_end:
            return SchedulerNotRunningError(
                f"cannot {what}: the scheduler is not running any more, its last run has ended ({self._last_end});"
                " guard it with `if scheduler.running():`, or do it in a callback of @start (scheduler.on_start) or of"
                " a later event of another run"
            )
        return SchedulerNotRunningError(
            f"cannot {what}: the scheduler is not running; do it in a callback of @start (scheduler.on_start) or of a"
            " later event, and call scheduler.run()"
        )

    # ------------------------------------------------------------------ running

    @explains_options(time_limit="timeout", n_jobs="give the workers to the factory: Scheduler.with_processes(...)")
    def run(
        self,
        *,
        timeout: Duration | None = None,
        end_on_empty: bool = True,
        wait: bool = True,
        on_exception: OnException = "raise",
        on_callback_exception: OnException = "raise",
        on_cancelled: Reaction = "raise",
        asyncio_debug_mode: bool = False,
        display: Display = "auto",
    ) -> ExitState:
        """Run until there is nothing left to do or the end is requested. Works in scripts and notebooks alike.

        The order is guaranteed: `@start`; then events in the order in which they happen; `@stop` or `@timeout`, if that
        is why the run ends; `@finishing`; the endings of all pending futures; `@finished`.

        Ctrl-C and SIGTERM end the run cleanly, without waiting for compute, and then take their usual effect.

        Args:
            timeout: How long after `@start` the run ends: seconds, a string such as `"1.5 h"`, or a `timedelta`; None
                for no limit.
            end_on_empty: End when nothing is pending and the callbacks of `@empty` have submitted nothing. If False,
                the run goes on until `stop`, the timeout or an error ends it.
            wait: When the run ends, let all accepted work be computed and deliver its events. If False, cancel what has
                not begun and terminate what is running, see `terminate` of `Scheduler`.
            on_exception: How to react when a call raises: `"raise"` ends the run and raises the exception, `"end"` ends
                the run and reports it in the `ExitState`, `"continue"` carries on. Or a mapping from exception types to
                one of these, tried in order with `isinstance`; a group is matched by `ExceptionGroup`, not by its
                contents. What matches no type is raised. Whatever a call raises is its outcome, SystemExit and
                CancelledError included. A broken executor always ends the run.
            on_callback_exception: The same for what callbacks and plugins raise, independently of `on_exception`. With
                `"continue"` the exception is logged and the rest of the callback is skipped. A KeyboardInterrupt or
                SystemExit raised in this process always ends the run.
            on_cancelled: The same for futures that are cancelled by anything but the end of the run. What the end of
                the run cancels or kills is delivered as cancelled, and no policy applies.
            asyncio_debug_mode: Whether asyncio reports slow callbacks and misuse.
            display: Show the run: True in the terminal or notebook (elsewhere as an occasional line on standard error),
                `"auto"` in notebooks only, or rich renderables to show below it. Needs rich.

        Returns:
            How the run ended.

        Raises:
            SchedulerRunningError: The scheduler is running already.
            NestingError: A worker process imports the module that calls this, or too many schedulers are nested.
            ExecutorShutdownError: The executor given to `Scheduler` was shut down by an earlier run.
            ExecutorBrokenError: The executor broke.
            FutureCancelledError: A future was cancelled, with `on_cancelled="raise"`.
            MissingExtraError: `display` was requested and rich is not installed.
            ValueError: An argument has a value that is not allowed.
            TypeError: An argument has a type that is not allowed.
            BaseException: What a call raised, with `on_exception="raise"`, or a callback, with
                `on_callback_exception="raise"`.
        """
        options = RunOptions.check(
            timeout=timeout,
            end_on_empty=end_on_empty,
            wait=wait,
            on_exception=on_exception,
            on_callback_exception=on_callback_exception,
            on_cancelled=on_cancelled,
        )
        check_bool("asyncio_debug_mode", asyncio_debug_mode)
        view = self._view(display, options.timeout)
        with (
            self._exclusively(),
            nested_loop.running_loop_set_aside(),
            asyncio.Runner(debug=asyncio_debug_mode or None, loop_factory=nested_loop.new_loop) as runner,
        ):
            loop = runner.get_loop()
            run = loop.run_until_complete(self._make_run(options, view))
            life = loop.create_task(run.live(), name="amltk-run")  # before a signal can request its end
            with Interrupts(run, life, holds_up_others=True):
                nested_loop.drive(loop, life, run.end_requests.interrupt)
        return run.conclude()

    async def async_run(
        self,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109 - the run ends cleanly, which a cancellation does not
        end_on_empty: bool = True,
        wait: bool = True,
        on_exception: OnException = "raise",
        on_callback_exception: OnException = "raise",
        on_cancelled: Reaction = "raise",
        display: Display = "auto",
    ) -> ExitState:
        """The same as `run`, for code that already runs in an event loop: `await scheduler.async_run(...)`.

        The loop stays free for other tasks, and several schedulers may run in it at once. If the awaiting task is
        cancelled, the run ends cleanly, without waiting for compute, and then the cancellation propagates. The same
        holds for a cancelled scope of anyio, such as a Starlette or FastAPI request whose client has disconnected.

        Args, Returns, Raises: as in `run`.
        """
        options = RunOptions.check(
            timeout=timeout,
            end_on_empty=end_on_empty,
            wait=wait,
            on_exception=on_exception,
            on_callback_exception=on_callback_exception,
            on_cancelled=on_cancelled,
        )
        view = self._view(display, options.timeout)
        with self._exclusively():
            run = await self._make_run(options, view)
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

    def begin_steps(self, options: RunOptions, display: Display) -> Steps:
        """Begin a run that the caller drives step by step, and closes. For loops over results. Raises as `run` does."""
        from amltk.scheduling._results.steps import Steps  # few programs need it

        view = self._view(display, options.timeout)
        with ExitStack() as ends:
            ends.enter_context(self._exclusively())
            self.steps = Steps(partial(self._make_run, options, view))
            ends.callback(setattr, self, "steps", None)
            self.steps.ends = ends.pop_all()
            return self.steps

    def begin_async(self, run_options: Mapping[str, Any]) -> asyncio.Task[ExitState]:
        """Begin `async_run` in a separate task. For loops over results."""
        self._begun = asyncio.create_task(self.async_run(**run_options))
        return self._begun

    def is_beginning(self) -> bool:
        """Whether `begin_async` was called and its run does not exist yet."""
        begun = self._begun
        return begun is not None and not begun.done() and self._run is None

    def has_run(self) -> bool:
        """Whether there is a run, even one that is ending."""
        return self._run is not None

    def find_run(self) -> Run | None:
        """The run, even one that is ending; None if there is none."""
        return self._run

    def is_elsewhere(self) -> bool:
        """Whether the scheduler is running in a thread other than the caller's."""
        run = self._run
        return run is not None and run.running() and not run.is_here()

    def leave(self, why: str) -> None:
        """End the run in the current loop without waiting for compute: its results are no longer needed."""
        run = self._run
        if run is not None:
            run.loop.call_soon(run.end_requests.leave, why)  # takes effect once the run has begun

    def stop(
        self,
        *args: Any,
        stop_msg: str | None = None,
        exception: BaseException | None = None,
        **kwargs: Any,  # noqa: ARG002 - accepted so that it can be a callback
    ) -> None:
        """Ask the run to end. May be called from any thread, or used as a callback: `task.on_result(scheduler.stop)`.

        From now on `running()` is False and `submit` raises. `@stop` and `@finishing` are delivered, then the endings
        of all pending futures, then `@finished`. If the scheduler is not running, nothing happens.

        Args:
            *args: A single string is the message: `scheduler.stop("good enough")`. Anything else is ignored, so that
                this can be a callback of any event.
            stop_msg: The message, as shown by `@stop`, the log, the display and `ExitState.reason`.
            exception: The cause. The run then ends as `on_exception` decides for this exception: "raise" raises it,
                "end" and "continue" report it in the `ExitState`.
            **kwargs: Ignored.

        Raises:
            TypeError: `exception` is not an exception, or `stop_msg` is not a string.
        """
        if exception is not None and not isinstance(exception, BaseException):
            raise TypeError(f"exception={exception!r}: must be an instance of an exception, or None")
        if stop_msg is not None and not isinstance(stop_msg, str):
            raise TypeError(f"stop_msg={stop_msg!r}: must be a string, or None")
        if stop_msg is None:
            stop_msg = args[0] if len(args) == 1 and isinstance(args[0], str) else ""
        run = self._run
        if run is not None:
            run.end_requests.stop(stop_msg, exception)

    def running(self) -> bool:
        """Whether submissions are accepted: from `@start` until the end is requested or the timeout is reached."""
        run = self._run
        return run is not None and run.running()

    def empty(self) -> bool:
        """Whether nothing is pending."""
        run = self._run
        return run is None or not run.pending_calls

    @property
    def queue(self) -> list[Future[Any]]:
        """The futures that have not ended, oldest first."""
        run = self._run
        return [] if run is None else list(run.pending_calls)

    @property
    def n_pending(self) -> int:
        """How many submissions have not ended, whether a worker has begun them or not; counted in constant time."""
        run = self._run
        return 0 if run is None else len(run.pending_calls)

    @property
    def n_running(self) -> int:
        """The same as `n_pending`, under the name that AMLTK has for it."""
        return self.n_pending

    def running_calls(self) -> list[Future[Any]] | None:
        """The futures whose calls a worker has started. May be called from any thread.

        Its cost grows with the number of workers, not with what is pending.

        Returns:
            The futures; their `work` is the executor's own future. None if the executor does not tell: Ray, and
            executors unknown to this package while some hundred calls are pending there.
        """
        run = self._run
        return [] if run is None else run.submissions.running_calls()

    @property
    def unique_ref(self) -> str:
        """A name that no other scheduler has. It never changes."""
        return self.emitter.unique_ref

    @property
    def callback_exceptions(self) -> int:
        """How many exceptions callbacks and plugins have raised, over all runs."""
        run = self._run
        return self._callback_exceptions + (0 if run is None else run.end_requests.callback_exceptions)

    @property
    def event_counts(self) -> Counter[Event[..., Any]]:
        """How often each event was delivered, over all runs. Events that never happened are left out."""
        return self.emitter.event_counts

    @property
    def current_run(self) -> Run:
        """The current run, for plugins that need more of it than its events.

        Raises:
            SchedulerNotRunningError: There is no run.
        """
        run = self._run
        if run is None:
            raise self._not_started("use the run")
        return run

    def report(self, error: Exception, where: str) -> None:
        """Apply `on_callback_exception` to an error of a plugin that no caller can catch.

        May be called from any thread.

        Raises:
            Exception: `error` itself, if there is no run.
        """
        run = self._run
        if run is None:
            raise error
        run.report(error, where)

    @property
    def executor(self) -> Executor:
        """The current executor. A scheduler made by a factory has a new one for each run."""
        return self._executor

    @property
    def n_workers(self) -> int | None:
        """How many calls the executor can compute at a time right now; adaptive clusters change it. None if unknown."""
        return workers_of(self._executor)

    @property
    def executor_kind(self) -> ExecutorSpec:
        """The capabilities of the executor, and how it is terminated."""
        return self._kind

    def add_renderable(self, renderable: RenderableType) -> None:
        """Show your own renderable, anything that rich can draw, below the live display of later runs."""
        self._renderables.append(renderable)

    def dispatch(self, channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Deliver an event of the scheduler or of one of its tasks: through the run if there is one, else at once."""
        run = self._run
        if run is None:
            deliver_now(channel, args, kwargs)
        else:
            run.dispatch(channel, args, kwargs)

    # ------------------------------------------------------------------ one run

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Be the only run of this scheduler, with a usable executor."""
        from amltk import _guard  # here, to keep the import of this module light

        _guard.check("a run of a scheduler")
        if not self._busy.acquire(blocking=False):
            raise SchedulerRunningError("the scheduler is running already; stop() it first, or use another Scheduler")
        try:
            if self._executor_is_used_up:
                self._executor = self._fresh_executor()
                self._executor_is_used_up = False
            yield
        finally:
            if self._run is not None and self._run.lifecycle.phase is not Phase.IDLE:
                is_kept = self._backend is not None and self._backend.keep and not self._backend.is_used_up
                self._executor_is_used_up = self._terminate is not False and not is_kept
                self._last_end = self._run.lifecycle.cause.reason
                self._callback_exceptions += self._run.end_requests.callback_exceptions
            self._run = self._backend = None
            self.submit_for = self._refuse
            self._busy.release()

    def _fresh_executor(self) -> Executor:
        if self._remake is None:
            raise ExecutorShutdownError(
                f"{self._executor!r} was shut down by the run before; use a factory such as"
                " Scheduler.with_processes(), give a new executor, or keep it open with terminate=False"
            )
        return self._remake()

    async def _make_run(self, options: RunOptions, view: View | None) -> Run:
        from amltk.scheduling._run.run import Run  # workers import this module, and run nothing

        self._backend = self._make_backend(keep=self._is_kept)
        self._begun = None  # the run exists now
        self._run = Run(self.emitter, self._backend, options, view, numbers=self._numbers, observers=self.observers)
        self.submit_for = self._run.submissions.submit
        return self._run

    def _make_backend(self, *, keep: bool) -> ExecutorAdapter:
        terminators: dict[object, Terminator | None] = {True: self._kind.terminate, False: None}
        terminator = terminators[self._terminate] if isinstance(self._terminate, bool) else self._terminate
        is_own = self._terminate is True
        return ExecutorAdapter(self._executor, self._kind.capabilities, terminator, is_own=is_own, keep=keep)

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
            raise RuntimeError("the scheduler was entered by a `with` before, and not left: run it in that block")
        self._is_kept = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Shut the executor down; after an exception, without waiting for anything. A run in progress ends."""
        if not self._leave_block(at_once=kind is not None):
            with self._busy:  # until the run, which is in another thread, is over
                pass
        self._end_executor(at_once=kind is not None)

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
        await asyncio.to_thread(self._end_executor, at_once=kind is not None)

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

    def _end_executor(self, *, at_once: bool) -> None:
        if self._run is not None or self._executor_is_used_up or self._terminate is False:
            return  # the end of the run does this, or the executor stays open
        self._executor_is_used_up = True
        backend = self._make_backend(keep=False)
        if at_once:
            backend.kill()
        else:
            backend.close()

    def _view(self, display: bool | str | Iterable[RenderableType], timeout: float | None) -> View | None:
        if display is False or (display == "auto" and not _in_notebook()):
            return None
        if display is True or display == "auto":
            extra: list[RenderableType] = []
        elif isinstance(display, str) or not isinstance(display, Iterable):
            raise ValueError(f"display={display!r}: must be True, False, 'auto' or rich renderables")
        else:
            extra = list(display)
        live = _extras.load("amltk.display.live", needs="rich", extra="rich")
        view: View = live.LiveDisplay(self, [*self._renderables, *extra], timeout=timeout)
        return view

    def __rich__(self) -> Any:
        """A tree of the scheduler: executor, queue, events with counts and callbacks, tasks. Needs rich."""
        return _extras.load("amltk.display.trees", needs="rich", extra="rich").scheduler_tree(self)

    def _repr_html_(self) -> str | None:
        """The same in a notebook; None without rich, so that the notebook shows the `repr`."""
        return _extras.html_of(self)

    if not TYPE_CHECKING:  # type checkers know the attributes that exist

        def __getattr__(self, name: str) -> Any:
            raise_attribute_error(self, name, self.__dict__.get("emitter"))

    def __repr__(self) -> str:
        state = "running" if self.running() else "not running"
        return f"<Scheduler on {self._executor!r}, {state}, {self.n_pending} pending>"


def _note(ended: asyncio.Future[None], *_: object) -> None:
    if not ended.done():
        ended.set_result(None)


def _in_notebook() -> bool:
    """Whether this is a notebook kernel; IPython in a terminal is not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ in {"ZMQInteractiveShell", "Shell"}  # "Shell" is Colab's
