"""The calls of a map that have ended and are waiting to be taken."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable

    from amltk.scheduling.call import Call
    from amltk.scheduling.future import Future


class Outbox:
    """Keeps ended calls until they are taken, in the order in which they end or in the order of their items.

    While it has calls, or the taker is working on one, the run does not end for lack of work: the taker may bring more.
    May be used from any thread.

    Args:
        wake: Called when there may be something to take, or when no more calls will come.
        calls: The calls that have not ended, in the order of the items, if they are to be taken in that order; None for
            the order in which they end.
    """

    def __init__(self, wake: Callable[[], object], calls: Iterable[Call] | None) -> None:
        self.wake: Callable[[], object] = wake
        self._lock = threading.RLock()  # the garbage collector may call `close` while it is held
        self._ended: deque[Future[Any]] = deque()
        self._order: deque[Call] | None = None if calls is None else deque(calls)
        self._early: set[Future[Any]] = set()  # ended, but not their turn yet
        self._at_work = False  # the taker, on the last call that it took
        self._hold: asyncio.Future[None] | None = None
        self._may_hold = self._open = True

    @property
    def occupied(self) -> int:
        """How many calls have ended that the taker is not done with."""
        with self._lock:  # calls move from one to the other
            return len(self._ended) + len(self._early) + self._at_work

    def expect(self, call: Call) -> None:
        """Note the call of the next item."""
        with self._lock:
            if self._order is not None:
                self._order.append(call)

    def put(self, future: Future[Any], *, wanted: bool) -> Coroutine[Any, Any, None] | None:
        """Add a call that has ended. On the loop's thread.

        Args:
            future: The future of the call.
            wanted: Whether the taker is to get it.

        Returns:
            An awaitable that the run waits for; None if there is none, or if it already waits for one.
        """
        with self._lock:
            if not self._open:
                return None
            if self._order is None:
                if wanted:
                    self._ended.append(future)
            else:
                self._put_in_order(self._order, future, wanted=wanted)
                self._advance(self._order)
            hold = self._hold_run(future.get_loop()) if self._ended else None
        self.wake()
        return hold

    def _put_in_order(self, order: deque[Call], future: Future[Any], *, wanted: bool) -> None:
        if wanted:
            self._early.add(future)
        else:
            order.remove(next(call for call in order if call.future is future))

    def _advance(self, order: deque[Call]) -> None:
        while order and (order[0].future in self._early or (order[0].future is None and not order[0].kept)):
            next_one = order.popleft().future  # None if a plugin has dropped it
            if next_one is not None:
                self._early.discard(next_one)
                self._ended.append(next_one)

    def _hold_run(self, loop: asyncio.AbstractEventLoop) -> Coroutine[Any, Any, None] | None:
        if self._hold is not None or not self._may_hold:
            return None
        self._hold = loop.create_future()
        return _wait(self._hold)

    def take(self) -> Future[Any] | None:
        """Return the next call, and be done with the one before. None if there is none for now."""
        with self._lock:
            if self._order is not None:
                self._advance(self._order)
            next_one = self._ended.popleft() if self._ended else None
            self._at_work = next_one is not None
            if next_one is None:
                self._release()
            return next_one

    def finish(self) -> None:
        """Stop holding the run: it is ending."""
        with self._lock:
            self._may_hold = False
            self._release()

    def close(self) -> None:
        """Accept no more calls: nothing will take them."""
        with self._lock:
            self._open = self._at_work = False
            self._ended.clear()
            self._early.clear()
            self._release()

    def _release(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None and not (loop := hold.get_loop()).is_closed():
            loop.call_soon_threadsafe(_end, hold)


async def _wait(hold: asyncio.Future[None]) -> None:
    await hold


def _end(hold: asyncio.Future[None]) -> None:
    if not hold.done():
        hold.set_result(None)
