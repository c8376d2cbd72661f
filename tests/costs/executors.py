"""Executors that cost next to nothing themselves, so that only the code driving them is counted."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Work(Future[Any]):
    """As small as an executor's own future can be: no lock, no waiters, one callback."""

    __slots__ = ("ended", "told", "value")

    def __init__(self) -> None:  # without super(), whose attributes make other futures big
        self.ended = False
        self.value: Any = None
        self.told: Callable[[Future[Any]], object] | None = None

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        self.told = fn
        if self.ended:
            fn(self)

    def set_result(self, result: Any) -> None:
        self.ended, self.value = True, result
        if self.told is not None:
            self.told(self)

    def done(self) -> bool:
        return self.ended

    def running(self) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return None

    def result(self, timeout: float | None = None) -> Any:
        return self.value


class AtOnce(Executor):
    """Every call is done when `submit` returns, with its first argument as the result."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = Work()
        work.set_result(args[0])
        return work


class Conveyor(Executor):
    """Keeps submissions in order until told to complete the oldest one.

    Args:
        works: What `submit` returns, one after the other; created on demand by default.
    """

    def __init__(self, works: Iterable[Work] = ()) -> None:
        self.pending: deque[Work] = deque()
        self._works = iter(works)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = next(self._works, None) or Work()
        self.pending.append(work)
        return work

    def end_oldest(self) -> None:
        self.pending.popleft().set_result(None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self.pending:
            self.end_oldest()
