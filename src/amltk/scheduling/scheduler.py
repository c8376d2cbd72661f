"""The scheduler: submits work to an executor and emits an event for everything that happens."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from amltk import _extras
from amltk._checks import check_bool, check_count, explains_options
from amltk.scheduling._run.policy import OnException, Reaction, RunOptions, TimeoutFrom
from amltk.scheduling._scheduler.display import Display
from amltk.scheduling._scheduler.factories import Factories
from amltk.scheduling._scheduler.runs import Runs
from amltk.scheduling.events import Event, check_computable, raise_attribute_error
from amltk.scheduling.executors.registry import kind_named
from amltk.scheduling.task import Task

if TYPE_CHECKING:
    import os
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from amltk.scheduling._journal.options import Journal
    from amltk.scheduling.exit_state import ExitState
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugin import GivingPlugin, HoldingPlugin, PassingPlugin, Plugin
    from amltk.types import Duration

__all__ = ["Display", "Scheduler"]

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Scheduler(Runs, Factories):
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
        resources: What calls share, by name, for the plugin `Resources`: a list of ids, or an amount, as a number or a
            text such as `"60 GB"`. `"gpu"` may also be `"auto"`, or how many of the visible ones. None for nothing.

    Raises:
        TypeError: `executor` is not an executor, `terminate` is neither a bool nor callable, or `resources` is no dict
            of such values.
        ValueError: An amount in `resources` is negative, a text has no unit of memory, or the like.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        # Plugins see one submission at a time, whichever threads submit.
        self.submission_lock: AbstractContextManager[Any] = threading.RLock()
        super().__init__(executor, terminate, resources)
        self.tasks: list[Task[..., Any]] = []

    @classmethod
    def _made_by(
        cls,
        kind: str,
        terminate: Callable[[Executor], Any] | bool,
        resources: Mapping[str, Any] | None = None,
        /,
        **options: Any,
    ) -> Self:
        factory = kind_named(kind).factory
        assert factory is not None, f"the row {kind!r} has no factory"

        def remake() -> Executor:
            executor = factory(**options)
            _log.info("made %r", executor)
            return executor

        scheduler = cls(remake(), terminate=terminate, resources=resources)
        scheduler._remake = remake
        return scheduler

    # ------------------------------------------------------------------ compute

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Compute `fn(*args, **kwargs)` in the executor. May be called from any thread while the scheduler is running.

        `@future-submitted` is delivered, then exactly one ending: `@future-done` with `@future-result` or
        `@future-exception`, or else `@future-cancelled`. Prefer a `Task`, which has events for one function only.

        A future of this run among the arguments, or in a list, tuple or dict there, is computed first, and `fn`
        receives its result. If there is none, the call ends with a `DependencyError` and is not computed.

        Returns:
            The future. It can be cancelled and inspected, and `async def` callbacks can await it.

        Raises:
            SchedulerNotRunningError: Before `@start`, or after the end was requested.
            TypeError: `fn` is not callable, or is an `async def`; or an argument is another library's future.
            ValueError: A future among the arguments is not of this run.
        """
        check_computable(fn, "fn")
        return self.submit_for(None, fn, args, kwargs)

    # The first overload that fits wins: no plugins at all is not an iterable of plugins that hold calls back.
    @overload
    def task(  # type: ignore[overload-overlap]
        self,
        function: Callable[P, R],
        *,
        plugins: PassingPlugin | Iterable[PassingPlugin] = ...,
        init_plugins: bool = ...,
        priority: float | None = ...,
    ) -> Task[P, R, Future[R]]: ...
    @overload
    def task(
        self,
        function: Callable[..., R],
        *,
        plugins: GivingPlugin | Iterable[GivingPlugin | PassingPlugin],
        init_plugins: bool = ...,
        priority: float | None = ...,
    ) -> Task[..., R, Future[R]]: ...
    @overload
    def task(  # type: ignore[overload-overlap]
        self,
        function: Callable[P, R],
        *,
        plugins: Plugin | Iterable[HoldingPlugin | PassingPlugin],
        init_plugins: bool = ...,
        priority: float | None = ...,
    ) -> Task[P, R]: ...
    @overload
    def task(
        self,
        function: Callable[..., R],
        *,
        plugins: Iterable[Plugin],
        init_plugins: bool = ...,
        priority: float | None = ...,
    ) -> Task[..., R]: ...
    @explains_options(plugin="plugins")
    def task(
        self,
        function: Callable[..., Any],
        *,
        plugins: Plugin | Iterable[Plugin] = (),
        init_plugins: bool = True,
        priority: float | None = None,
    ) -> Any:
        """Make a `Task`: a function that is submitted many times and has its own events. Arguments as in `Task`."""
        task: Task[..., Any] = Task(function, self, plugins=plugins, init_plugins=init_plugins, priority=priority)
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

    # ------------------------------------------------------------------ running

    @explains_options(time_limit="timeout", n_jobs="pass the workers to the factory: Scheduler.with_processes(...)")
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
        journal: str | os.PathLike[str] | Journal | None = None,
        timeout_from: TimeoutFrom = "start",
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
                `"auto"` in notebooks only, or rich renderables to show below it. Needs rich. `"web"` shows it as a web
                page instead: a process of its own serves it on this machine until the program ends, and the link is
                printed to standard error. Needs the extra `web`.
            journal: The folder in which the run records its inputs, so that the same program, however it ended,
                continues where it was when it is started again; or a `Journal` with options. None for no journal.
            timeout_from: From when on the timeout counts: from `"start"`, or from when the `"first-worker"` is up, so
                that the time in a batch system's queue does not count. Where workers are there at once, as those of
                `with_processes` are, the two are the same. If no worker ever comes, there is no timeout; see
                `worker_timeout` of the factories.

        Returns:
            How the run ended.

        Raises:
            SchedulerRunningError: The scheduler is running already.
            NestingError: A worker process imports the module that calls this, or too many schedulers are nested.
            ExecutorShutdownError: The executor given to `Scheduler` was shut down by an earlier run.
            ExecutorBrokenError: The executor broke.
            FutureCancelledError: A future was cancelled, with `on_cancelled="raise"`.
            MissingExtraError: `display` was requested, and rich or, for `"web"`, the extra is not installed.
            JournalError: The journal cannot be used, or the program does something other than what is recorded; see
                its subclasses.
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
            journal=journal,
            timeout_from=timeout_from,
        )
        check_bool("asyncio_debug_mode", asyncio_debug_mode)
        return self._run_in_own_loop(options, display, debug=asyncio_debug_mode)

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
        journal: str | os.PathLike[str] | Journal | None = None,
        timeout_from: TimeoutFrom = "start",
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
            journal=journal,
            timeout_from=timeout_from,
        )
        return await self._run_in_this_loop(options, display)

    # ------------------------------------------------------------------ views

    @property
    def unique_ref(self) -> str:
        """A name that no other scheduler has. It never changes."""
        return self.emitter.unique_ref

    @property
    def event_counts(self) -> Counter[Event[..., Any]]:
        """How often each event was delivered, over all runs. Events that never happened are left out."""
        return self.emitter.event_counts

    def add_renderable(self, renderable: RenderableType) -> None:
        """Show your own renderable, anything that rich can draw, below the live display of later runs."""
        self._renderables.append(renderable)

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
