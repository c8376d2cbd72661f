"""An event loop that makes the turns of a pool."""

from __future__ import annotations

import time
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool._state.outcomes import tell

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._engine.exchange import Exchange

    Gather = Callable[[Callable[[], None]], None]

MAX_SLICE_SECONDS = 0.001
"""How long a loop keeps delivering outcomes while more come in, before it does its other work, in seconds."""


class LoopDriver:
    """An event loop that makes the turns of a pool. All methods but `call_soon` are called on the loop's thread.

    Args:
        exchange: The pool's exchange.
        loop: The loop.
        descriptor: Readable when something has arrived.
        gather: As in `Engine.attach`.

    Attributes:
        turns: How many turns it has made, which shows whether the loop is responsive.
    """

    def __init__(
        self,
        exchange: Exchange,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        gather: Gather,
    ) -> None:
        self.turns: int = 0
        self._exchange = exchange
        self._loop = loop
        self._descriptor = descriptor
        self._gather = gather
        self._thread = get_ident()
        self._is_at_it = False  # what callbacks submit now is sent before the turn ends
        self._is_due = False  # a turn is scheduled
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> bool:
        """Start to use the loop; return False if it cannot watch descriptors."""
        try:
            self._loop.add_reader(self._descriptor, self._turn)
        except NotImplementedError:
            return False
        self.call_soon()
        return True

    def call_soon(self) -> bool:
        """Make a turn soon. False if the caller is on another thread, where this is not possible."""
        if get_ident() != self._thread:
            return False
        if not self._is_at_it and not self._is_due:
            self._loop.call_soon(self._turn_that_was_due)
            self._is_due = True  # set second, in case a signal handler raises in between
        return True

    def _turn_that_was_due(self) -> None:
        self._is_due = False
        self._turn()

    def _turn(self) -> None:
        if self._is_closed:
            return  # it was already scheduled
        try:
            self._make_turn()
        except BaseException as error:  # noqa: BLE001 - passed on: a loop would only log it
            self._exchange.fail(error)
            self._gather(partial(_raise, error))

    def _make_turn(self) -> None:
        self.turns += 1
        self._is_at_it = True
        exchange = self._exchange
        until = time.monotonic() + MAX_SLICE_SECONDS
        if not exchange.has_outcomes():  # of the last turn
            exchange.turn()
        while outcomes := exchange.take_outcomes():
            self._gather(partial(tell, outcomes))
            del outcomes  # no live frame keeps a result alive
            if self._is_closed:
                return  # a callback has detached the loop
            exchange.turn(again=True)
            if time.monotonic() >= until:
                break
        exchange.note_duration(time.monotonic() - until)
        self._is_at_it = False
        if exchange.has_outcomes():
            self.call_soon()
        self.turns += 1
        if self._timer is None and (share_at := exchange.share_at()) is not None:
            self._timer = self._loop.call_later(max(0.0, share_at - time.monotonic()), self._share)

    def _share(self) -> None:
        self._timer = None
        self._turn()

    def disown(self) -> None:
        """Do nothing any more, in a forked copy of the process: the loop's descriptors are its parent's as well."""
        self._is_closed = True

    def close(self) -> None:
        """Stop using the loop."""
        self._is_closed = True
        self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()


def _raise(error: BaseException) -> None:
    raise error
