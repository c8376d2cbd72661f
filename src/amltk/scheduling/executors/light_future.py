"""A cheaper future of the standard library, for executors that create many."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, TypeVar

from amltk._compat import FINISHED, PENDING, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_UNENDED = (PENDING, RUNNING)

_RLock: Any = type(threading.RLock())

_log = logging.getLogger("concurrent.futures")
"""Where the original logs what callbacks raise."""


class _Condition(_RLock):  # type: ignore[misc] # a type only at run time
    """A lock that becomes a condition variable once a thread waits for it, which is rare."""

    __slots__ = ("__dict__",)  # created only for those that are waited on

    waited_for: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Like `threading.Condition.wait`."""
        if self.waited_for is None:  # the caller holds the lock, so only one is created
            self.waited_for = threading.Condition(self)
        return self.waited_for.wait(timeout)

    def notify_all(self) -> None:
        """Like `threading.Condition.notify_all`."""
        if self.waited_for is not None:
            self.waited_for.notify_all()


class _Waiters:
    """Makes the list of the `concurrent.futures.wait` that wait for a future, when one asks for it."""

    def __get__(self, future: LightFuture[Any] | None, owner: type) -> list[Any]:
        """The list, which then takes the place of this descriptor; `wait` holds the future's lock."""
        assert future is not None, owner
        future._is_waited_for = True
        waiters: list[Any] = []
        future._waiters = waiters
        return waiters


class LightFuture(Future[T]):
    """A `concurrent.futures.Future` that takes a third of the time and memory.

    Most of a future's cost is its condition variable, which is only needed by threads that block until it has ended; a
    scheduler never blocks. It also has no list of waiters before there is one, and none of callbacks before there are
    two: the more objects calls consist of, the longer the garbage collector looks at those that are pending.
    """

    _waiters: Any = _Waiters()
    _is_waited_for: bool = False
    _first_callback: Callable[[Future[T]], object] | None = None
    _done_callbacks: Any = ()  # the other ones

    def __init__(self) -> None:  # without super(), which would make the condition variable; a test compares the two
        self._condition: Any = _Condition()
        self._state: str = PENDING
        self._result: T | None = None
        self._exception: BaseException | None = None

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Like `concurrent.futures.Future.add_done_callback`."""
        with self._condition:
            if self._first_callback is None and self._state in _UNENDED:
                self._first_callback = fn
                return
            if not self._done_callbacks:
                self._done_callbacks = []
        super().add_done_callback(fn)

    def _invoke_callbacks(self) -> None:
        first = self._first_callback
        if first is not None:
            try:
                first(self)
            except Exception:  # noqa: BLE001 - logged, as in the original
                _log.exception("exception calling callback for %r", self)
        if self._done_callbacks:
            super()._invoke_callbacks()  # type: ignore[misc]

    def check_waiting(self) -> None:
        """Called before this thread waits for the end; a subclass raises where that would not come."""

    def set_result(self, result: T) -> None:
        """Like `concurrent.futures.Future.set_result`."""
        condition = self._condition
        with condition:
            if self._state not in _UNENDED:
                raise InvalidStateError(f"{self._state}: {self!r}")
            self._result = result
            self._state = FINISHED
            if self._is_waited_for:
                for waiter in self._waiters:
                    waiter.add_result(self)
            if condition.waited_for is not None:
                condition.notify_all()
        self._invoke_callbacks()

    def result(self, timeout: float | None = None) -> T:
        """Like `concurrent.futures.Future.result`."""
        if self._state == FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value] # it was set before the state
        try:
            if self._state in _UNENDED:
                self.check_waiting()
            return super().result(timeout)
        finally:
            del self  # as in the original: the traceback holds this frame, and would keep the future alive

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `concurrent.futures.Future.exception`."""
        if self._state in _UNENDED:
            self.check_waiting()
        return self._exception if self._state == FINISHED else super().exception(timeout)


class Answer(LightFuture[Any]):
    """The outcome of a call that the executor need not compute: a plugin has it, or will have it."""
