"""The calls of a map as they end, for a plain loop that drives the run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from concurrent.futures import BrokenExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from amltk.exceptions import (
    ExecutorBrokenError,
    FutureCancelledError,
    JournalUnsupportedError,
    SchedulerRunningError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from amltk.scheduling._results.outbox import Outbox
    from amltk.scheduling._results.steps import Steps
    from amltk.scheduling._run.lifecycle import EndCause
    from amltk.scheduling._run.policy import RunOptions
    from amltk.scheduling._run.run import Run
    from amltk.scheduling._scheduler.display import Display
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.exit_state import ExitState
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task_map import TaskMap

_log = logging.getLogger(__name__)

R = TypeVar("R")

BY_ASYNC_FOR = (
    "`async for` over results in a run with a journal: other things happen while the body waits, and in which order"
    " cannot be recorded. Use a plain `for`, or the callbacks of the task"
)
"""Why a loop is refused."""

LEFT = "the loop over the results was left"
"""The message of `@stop` when the user leaves the loop before the run ends."""


class Driver(Protocol):
    """Waits for the calls of a map on behalf of a plain loop."""

    def wake(self) -> None:
        """There may be something to take."""

    def wait(self) -> None:
        """Return when there may be something to take, or the run is over."""

    def over(self, outbox: Outbox) -> bool:
        """Whether no more calls will come."""
        ...

    def conclude(self) -> ExitState | None:
        """How the run ended, if this loop began it. Raises what the run raises."""
        ...

    def close(self) -> None:
        """The loop is left, or no more calls will come."""


class Results(Generic[R]):
    """The calls of a `Task.map` as they end. Go through it once, with `for` or `async for`. Made by `TaskMap.results`.

    `await` returns all of them as a list. Each call is the future of its submission, and has ended; see its `result()`,
    `exception()`, `args`, `kwargs`, `number` and `label`.

    Attributes:
        state: How the run ended; None before that, and if something else began the run.
    """

    def __init__(self, task_map: TaskMap[R], options: RunOptions, *, ordered: bool, display: Display) -> None:
        self.state: ExitState | None = None
        self._map = task_map
        self._scheduler: Scheduler = task_map.task.scheduler
        self._options = options
        self._ordered = ordered
        self._display = display
        self._cause: EndCause | None = None  # of the end of the run

    def __iter__(self) -> Generator[Future[R]]:
        """Run the scheduler and yield the calls as they end.

        Between two items the run stands still, as it does while a callback runs. If the loop is left early, the run
        ends at once. If there is a run already, in another thread or because of an enclosing loop, this loop joins it.

        Raises:
            SchedulerRunningError: The scheduler runs in this thread, which a plain loop would block: use `async for`.
                Or it is running, and the loop was given a journal.
            JournalUnsupportedError: The run has a journal, and is in another thread.
            JournalError: The journal cannot be used, or the program does something else than what it has recorded; see
                the subclasses.
            RuntimeError: Calls have ended before the loop began.
            BaseException: What a call or a callback raised, with `on_exception="raise"`.
        """
        self._map.check_given_to_nobody()
        call: Future[R] | None = None
        driver = self._driver()
        outbox = self._map.give_to(driver.wake, ordered=self._ordered)
        try:
            while True:
                if (call := self._next(outbox)) is not None:
                    yield call
                elif driver.over(outbox):
                    break
                else:
                    driver.wait()
            self.state = driver.conclude()
        finally:
            call = self._cause = None  # the traceback of what is raised refers to this frame
            outbox.close()
            self._map.cancel()
            driver.close()
            del driver

    async def _aiterate(self) -> AsyncGenerator[Future[R], None]:
        self._map.check_given_to_nobody()
        if self._options.journal is not None:
            raise JournalUnsupportedError(BY_ASYNC_FOR)
        call: Future[R] | None = None
        woken = asyncio.Event()
        wake = _waker(asyncio.get_running_loop(), woken)
        while self._scheduler.is_beginning():  # noqa: ASYNC110 - another loop over results begins it in this turn
            await asyncio.sleep(0)
        run = self._scheduler.find_run()
        if run is not None:
            if self._scheduler.has_journal():
                raise JournalUnsupportedError(BY_ASYNC_FOR)
            driver: AsyncOwn | Joined = Joined(self._scheduler, self._map, wake, run)
            del run
        else:
            driver = AsyncOwn(self._scheduler, self._options, self._display, wake)
        outbox = self._map.give_to(wake, ordered=self._ordered)
        try:
            while True:
                woken.clear()
                if (call := self._next(outbox)) is not None:
                    yield call
                elif driver.over(outbox):
                    break
                else:
                    await woken.wait()
            self.state = driver.conclude()
        finally:
            call = self._cause = None
            outbox.close()
            self._map.cancel()
            await driver.aclose()
            del driver

    def __aiter__(self) -> AsyncGenerator[Future[R]]:
        """Run the scheduler in the running event loop and yield the calls as they end.

        The run continues while the body of `async for` awaits something. If there is a run already, anywhere, the loop
        joins it. If the loop is left early, the run ends soon; use `contextlib.aclosing` around `aiter(...)` to wait
        for that.

        Raises:
            RuntimeError: Calls have ended before the loop began.
            JournalUnsupportedError: The run has a journal.
            BaseException: What a call or a callback raised, with `on_exception="raise"`.
        """
        return self._aiterate()

    def __await__(self) -> Generator[Any, None, list[Future[R]]]:
        """All calls, once the last one has ended. Raises as `async for` does."""
        return self._all().__await__()

    async def _all(self) -> list[Future[R]]:
        async with contextlib.aclosing(self._aiterate()) as calls:
            return [call async for call in calls]

    def _next(self, outbox: Outbox) -> Future[R] | None:
        """The next call, if there is one. If it is to raise, raise in its place."""
        run = self._scheduler.find_run()
        if run is not None:
            self._cause = run.lifecycle.cause
        call = outbox.take()
        try:
            try:
                self._map.fill()
            except Exception as error:
                if self._options.on_callback_exception.decide(error) == "raise":
                    raise
                self._scheduler.report(error, f"iterable of the map of {self._map.task.name}")
            if call is not None:
                self._check(call)
            return call
        finally:
            call = run = None

    def _check(self, call: Future[R]) -> None:
        error: BaseException | None = None
        try:
            if call.cancelled():
                if self._options.on_cancelled == "raise":
                    raise FutureCancelledError(f"the call {call.label} was cancelled, and on_cancelled is 'raise'")
                return
            error = call.exception()
            if isinstance(error, BrokenExecutor) and self._cause is not None:
                error = self._cause.exception or error  # the executor's, which ends the run under any policy
            if error is None:
                return
            if isinstance(error, ExecutorBrokenError) or self._options.on_exception.decide(error) == "raise":
                raise error
        finally:
            del call, error

    def _driver(self) -> Driver:
        scheduler = self._scheduler
        run = scheduler.find_run()
        if run is None:
            return Own(scheduler, self._options, self._display)
        if self._options.journal is not None:
            raise SchedulerRunningError(
                f"journal={self._options.journal!r}: the scheduler is already running, and this loop joins that run;"
                " give the journal to what begins the run"
            )
        steps = scheduler.steps
        if steps is not None and steps.can_step():
            return Nested(scheduler, self._map, steps)
        if run.is_here():
            raise SchedulerRunningError(
                "the scheduler runs in this thread, and a plain loop would hold it up: write `async for call in ...`,"
                " or use the callbacks of the task"
            )
        if scheduler.has_journal():
            raise JournalUnsupportedError(
                "a loop over results joins a run with a journal from another thread: what its body does has no place"
                " among the inputs of the run. Do it in a callback of the task"
            )
        return Elsewhere(scheduler, self._map, run)


class Own:
    """Drives a run that the loop itself began."""

    def __init__(self, scheduler: Scheduler, options: RunOptions, display: Display) -> None:
        self._steps = scheduler.begin_steps(options, display)
        self.wake: Callable[[], None] = self._steps.wake
        self.wait: Callable[[], None] = self._steps.step

    def over(self, outbox: Outbox) -> bool:  # noqa: ARG002 - as in `Driver`
        """Whether the run has ended."""
        return self._steps.over

    def conclude(self) -> ExitState:
        """How the run has ended; raises what it raises."""
        return self._steps.conclude()

    def close(self) -> None:
        """End the run, if it is not over."""
        self._steps.close(LEFT)


class AsyncOwn:
    """Begins a run in the running event loop."""

    def __init__(self, scheduler: Scheduler, options: RunOptions, display: Display, wake: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._run = scheduler.begin_async(options, display)
        self._run.add_done_callback(lambda _: wake())

    def over(self, outbox: Outbox) -> bool:  # noqa: ARG002 - as in `Driver`
        """Whether the run has ended."""
        return self._run.done()

    def conclude(self) -> ExitState:
        """How the run has ended; raises what it raises."""
        return self._run.result()

    async def aclose(self) -> None:
        """End the run, if it is not over, and wait for its end."""
        if self._run.done():
            return  # `conclude` was called, or is about to be
        if self._scheduler.is_beginning():
            self._run.cancel()
        else:
            self._scheduler.leave(LEFT)
        try:
            await asyncio.wait([self._run])
        except asyncio.CancelledError:
            self._run.cancel()  # which ends it cleanly
            raise
        if not self._run.cancelled() and (error := self._run.exception()) not in (None, sys.exc_info()[1]):
            _log.error("the run raised after the loop over its results was left", exc_info=error)


class Joined:
    """Follows a run that was begun elsewhere."""

    def __init__(self, scheduler: Scheduler, task_map: TaskMap[Any], wake: Callable[[], None], run: Run) -> None:
        self._map = task_map
        self._run = run
        if self._run.lifecycle.is_ending and not task_map.n_taken:
            scheduler.check_running(f"compute {task_map!r}")
        self._subscription: Subscription = scheduler.on_finished.register(wake, hidden=True)

    def over(self, outbox: Outbox) -> bool:
        """Whether no more calls of the map will come."""
        return self._map.nothing_left(outbox, run_is_over=self._run.lifecycle.is_over)

    def conclude(self) -> None:
        """Whatever began the run handles its outcome."""

    def close(self) -> None:
        """Stop following the run."""
        self._subscription.end()

    async def aclose(self) -> None:
        """The same."""
        self.close()


class Nested(Joined):
    """Drives, for a loop inside the body of another loop, the run that the outer loop began."""

    def __init__(self, scheduler: Scheduler, task_map: TaskMap[Any], steps: Steps) -> None:
        super().__init__(scheduler, task_map, steps.wake, steps.run)
        self.wake: Callable[[], None] = steps.wake
        self.wait: Callable[[], None] = steps.step


class Elsewhere(Joined):
    """Waits for the calls of a run in another thread."""

    def __init__(self, scheduler: Scheduler, task_map: TaskMap[Any], run: Run) -> None:
        self._wakes: SimpleQueue[None] = SimpleQueue()  # reentrant: a signal handler in this thread may use it
        super().__init__(scheduler, task_map, self.wake, run)

    def wake(self) -> None:
        """End the wait; from any thread."""
        self._wakes.put(None)

    def wait(self) -> None:
        """Wait."""
        self._wakes.get()
        while not self._wakes.empty():
            self._wakes.get()


def _waker(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> Callable[[], None]:
    """A function that sets the event from any thread."""

    def wake() -> None:
        if not woken.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(woken.set)

    return wake
