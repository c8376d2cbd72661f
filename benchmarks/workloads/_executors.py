"""Executors that compute nothing, so that only the code driving them is measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class AtOnce(Executor):
    """Every submission is done when `submit` returns, with its first argument as the result."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(args[0])
        return future


class Conveyor(Executor):
    """Keeps submissions in order until told to complete the oldest one."""

    def __init__(self, make: Callable[[], Future[Any]] = Future) -> None:
        self.make = make
        self.pending: deque[Future[Any]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = self.make()
        self.pending.append(future)
        return future

    def end_oldest(self) -> None:
        self.pending.popleft().set_result(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Complete everything: the measurement is over."""
        while self.pending:
            self.pending.popleft().set_result(None)


class SlimFuture(Future[Any]):
    """As small as an executor's own future can be: no lock, no waiters, one callback. For one thread."""

    __slots__ = ("_ended", "_told", "_value")

    def __init__(self) -> None:  # without super(), whose attributes make other futures big
        self._ended = False
        self._value: Any = None
        self._told: Callable[[Future[Any]], object] | None = None

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        self._told = fn

    def set_result(self, result: Any) -> None:
        self._ended, self._value = True, result
        if self._told is not None:
            self._told(self)

    def done(self) -> bool:
        return self._ended

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def set_running_or_notify_cancel(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return None
