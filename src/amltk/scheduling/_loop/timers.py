"""Delayed calls of a run."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from amltk._shield import shielded
from amltk.scheduling.events import Event, callback_name

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling._loop.inbox import Inbox


CALL_LATER: Event[[], Any] = Event("call-later")
"""The event name, in messages, for a timer that is due."""


class Timer:
    """A call that is made later, unless it is cancelled or the run is over before then. Made by `call_later`.

    Attributes:
        when: When it is due, on the loop's clock, in seconds.
        number: Its place in the order in which timers were made, from 0 on.
        call: The function, its arguments and its keyword arguments.
    """

    __slots__ = ("_cancelled", "_timers", "call", "handle", "number", "when")

    def __init__(
        self,
        when: float,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        timers: Timers,
        number: int,
    ) -> None:
        self.when: float = when
        self.number: int = number
        self.call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] = call
        self.handle: asyncio.TimerHandle | None = None  # on the loop's thread only
        self._timers = timers
        self._cancelled = False

    def cancel(self) -> None:
        """Do not make the call. May be called from any thread and any number of times; harmless if it is too late."""
        self._cancelled = True
        self._timers.drop(self)

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else f"when={self.when:.3f}"
        return f"<Timer {callback_name(self.call[0])} {state}>"


class Timers:
    """The timers of one run.

    Args:
        loop: The loop of the run.
        inbox: Receives timers that are due, and requests of other threads.
        make_call: Makes the call of a timer that is due.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, inbox: Inbox, make_call: Callable[..., None]) -> None:
        self._loop = loop
        self._inbox = inbox
        self._make_call = make_call
        self._armed: dict[Timer, None] = {}
        self._numbers = itertools.count()

    @shielded
    def later(self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timer:
        """Call `fn` on the loop's thread after `delay` seconds. May be called from any thread."""
        timer = Timer(self._loop.time() + delay, (fn, args, kwargs), self, next(self._numbers))
        self._inbox.run_here(self._arm, timer)
        return timer

    @shielded
    def drop(self, timer: Timer) -> None:
        """Remove a timer. May be called from any thread."""
        self._inbox.run_here(self._disarm, timer)

    def clear(self) -> None:
        """Remove all timers."""
        for timer in list(self._armed):
            self._disarm(timer)

    def _arm(self, timer: Timer) -> None:
        if not timer.cancelled():
            self._armed[timer] = None
            timer.handle = self._loop.call_at(timer.when, self._fire, timer)

    def _disarm(self, timer: Timer) -> None:
        self._armed.pop(timer, None)
        if timer.handle is not None:
            timer.handle.cancel()

    def _fire(self, timer: Timer) -> None:
        del self._armed[timer]
        self._inbox.put_input(self.call, timer)

    def call(self, timer: Timer) -> None:
        """Make the call of a timer that is due, as an input. For the inbox only."""
        if timer.cancelled():
            return  # after it was due
        fn, args, kwargs = timer.call
        self._make_call(fn, args, kwargs, CALL_LATER)
