"""Computes in this process and thread, one call after the other, for debugging and tests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from amltk.exceptions import SchedulerRunningError
from amltk.scheduling.executors.execution_info import ExecutionInfo

P = ParamSpec("P")
T = TypeVar("T")

Step = Callable[[], None]
Call = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class SequentialExecutor(Executor):
    """Computes in the calling process and thread, so that a debugger, `print` and shared objects simply work.

    In a run of a scheduler the loop makes each call, after `submit` has returned and after timers and signals had a
    turn: chains of submissions do not recurse, and timeouts work between calls. Only Ctrl-C can interrupt a call.
    Outside a run `submit` makes the call before it returns.
    """

    _broken = False
    """It cannot break: an error that looks so is the call's own. The attribute is that of the standard library."""

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()
        self._schedule: Callable[[Step], None] | None = None
        self._step_is_due = False
        self._shut_down = False

    def attach(self, schedule: Callable[[Step], None]) -> None:
        """Let a loop make the calls: `schedule` schedules a step to be called soon, never at once.

        Raises:
            SchedulerRunningError: Another run is using it: it has only one thread.
        """
        if self._schedule is not None:
            raise SchedulerRunningError(f"{self!r} is in use by another run; use a separate one for each scheduler")
        self._schedule = schedule

    @property
    def n_workers(self) -> int:
        """Always 1."""
        return 1

    def detach(self) -> None:
        """Make calls within `submit` again; waiting calls are cancelled."""
        self._schedule = None
        self._step_is_due = False
        while self._waiting:
            self._waiting.popleft()[0].cancel()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make the call, or let the loop make it.

        Raises:
            RuntimeError: The executor was shut down.
        """
        if self._shut_down:
            raise RuntimeError("this SequentialExecutor was shut down; create a new one")
        future: Future[T] = Future()
        if self._schedule is None:
            _compute(future, fn, args, kwargs)
        else:
            self._waiting.append((future, fn, args, kwargs))
            self._schedule_step()
        try:
            return future
        finally:
            del future  # as in `_compute`

    def _schedule_step(self) -> None:
        if self._schedule is not None and self._waiting and not self._step_is_due:
            self._step_is_due = True
            self._schedule(self._step)

    def _step(self) -> None:
        """Make the call that has waited longest. The next is a separate step, so that the loop has a turn between."""
        self._step_is_due = False
        if self._waiting:
            try:
                _compute(*self._waiting.popleft())
            finally:
                self._schedule_step()  # after the outcome is reported, so that its events come before the next call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - the interface's
        """Accept no more calls.

        Args:
            wait: Has no effect: nothing is running when this can be called.
            cancel_futures: Cancel the calls that a loop has not yet made.
        """
        self._shut_down = True
        if cancel_futures:
            for future, *_ in list(self._waiting):
                future.cancel()

    def __repr__(self) -> str:
        return "SequentialExecutor()"


def _compute(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    here = future.execution_info = ExecutionInfo().begin()  # type: ignore[attr-defined]
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - belongs to the future
        here.end()
        future.set_exception(error)
    else:
        here.end()
        future.set_result(result)
    finally:
        del future  # what was raised has this frame in its traceback, and would keep its own future
