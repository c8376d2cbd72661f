"""Where everything that happens to a run comes in, in order, from any thread, to be handled on the loop's thread."""

from __future__ import annotations

import contextvars
from collections import deque
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future as Work

    from amltk.scheduling._loop.turns import Turns

MAX_SLICE_SECONDS = 0.005
"""Seconds after which a busy inbox lets the loop's timers, signals and other tasks have a turn, between two inputs."""

MAX_BURST = 1000
"""What one input has caused is handled without a turn of the loop, up to so much: what comes first must not depend on
time, and what goes on causing must not keep the loop for ever."""


class Inbox:
    """Two queues that are read on the loop's thread: of inputs, written from any thread, and of what these cause.

    Inputs are handled in the order in which they came, one at a time: the next one is taken when everything that the
    last one has caused was handled, and coroutines that can go on have gone on. So the order of a run's events is a
    function of the order of its inputs. However much is put in before the loop gets to it, the loop is woken once.

    Inputs are ends of the executor's futures, timers, messages of running calls, and what other threads ask for. What
    is put in on the loop's thread is taken for caused.

    Args:
        loop: The loop of the run. The thread and the context variables of the maker are those it is handled with.
        turns: Says when the loop needs a turn before the next input.
        on_work: Called with each executor's future that has ended.
        on_idle: Called when everything that was put in has been handled.
        on_crash: Called with whatever one of the handlers raised; handling goes on afterwards.
    """

    __slots__ = (
        "_awake",
        "_caused",
        "_closed",
        "_context",
        "_in_turn",
        "_inputs",
        "_loop",
        "_on_crash",
        "_on_idle",
        "_on_work",
        "_thread",
        "_turns",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turns: Turns,
        *,
        on_work: Callable[[Work[Any]], None],
        on_idle: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._inputs: deque[Any] = deque()
        self._caused: deque[Any] = deque()
        self._turns = turns
        self._loop = loop
        self._thread = get_ident()
        self._context = contextvars.copy_context()
        self._on_work = on_work
        self._on_idle = on_idle
        self._on_crash = on_crash
        self._awake = False  # a drain is under way or on its way
        self._in_turn = False  # the loop has a turn before anything else is taken
        self._closed = False

    def __len__(self) -> int:
        return len(self._caused) + len(self._inputs)

    def here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return get_ident() == self._thread

    def move_here(self) -> None:
        """Handle what comes on this thread from now on, which drives the loop; not while it is running."""
        self._thread = get_ident()

    def put_work(self, work: Work[Any]) -> None:
        """Note that the executor's future has ended. It is the done-callback of all of them: no object for each."""
        self._inputs.append(work)
        if not self._awake:
            self._wake()

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """Have `call(*args)` made on the loop's thread: before the next input, or as one if another thread asks."""
        queue = self._caused if get_ident() == self._thread else self._inputs
        queue.append((call, *args))
        if not self._awake:
            self._wake()

    def put_input(self, call: Callable[..., object], *args: Any) -> None:
        """Have the call made as an input, after all that came in before, whichever thread asks for it."""
        self._inputs.append((call, *args))
        if not self._awake:
            self._wake()

    def put_and_wake(self, call: Callable[..., object], *args: Any) -> None:
        """As `put_input`, and noticed at once even where the user's own handler of a signal asks on this thread."""
        self._inputs.append((call, *args))
        self.wake()

    def wake(self) -> None:
        """Have `on_idle` called soon, though nothing was put in; may be used wherever `put_and_wake` may."""
        self._awake = True
        self._loop.call_soon_threadsafe(self._drain, context=self._context)

    def run_here(self, call: Callable[..., object], *args: Any) -> None:
        """Make the call now if this is the loop's thread, else put it in."""
        if self.here():
            call(*args)
        else:
            self.put(call, *args)

    def put_first(self, call: Callable[..., object], *args: Any) -> None:
        """As `put`, before everything else; takes no lock, so that a signal handler may use it."""
        self._caused.appendleft((call, *args))
        # Through the loop's self-pipe even on its own thread: a signal does not end the wait for the next event.
        self.wake()

    def gather(self, put: Callable[[], None]) -> None:
        """Call `put`, which puts things in, and handle them right away; on the loop's thread, outside of callbacks.

        What it raises goes to `on_crash`.
        """
        is_first = not self._awake
        self._awake = True
        try:
            put()
        except BaseException as error:  # noqa: BLE001 - handed on
            self._on_crash(error)
        if is_first:
            self._context.run(self._drain)

    def put_and_wait(self, call: Callable[..., object], *args: Any) -> None:
        """Have the call made, after everything that is caused already, and return then.

        For what holds up the loop on its own thread, as compute there does; not from a call that was put in.
        """
        made: list[bool] = []
        self.put(call, *args)
        self.put(made.append, True)
        while not made and not self._closed:
            self._handle_for_a_while()

    def close(self) -> None:
        """Wake the loop no more; what executors still report is dropped."""
        self._awake = self._closed = True
        self._caused.clear()
        self._inputs.clear()

    def _wake(self) -> None:
        if get_ident() == self._thread:
            self._loop.call_soon(self._drain, context=self._context)
            self._awake = True  # second, in case that a signal's handler raises in between
            return
        self._awake = True
        try:
            self._loop.call_soon_threadsafe(self._drain, context=self._context)
        except RuntimeError:
            # An executor that could not be stopped reports work after the run's own loop is gone.
            if not self._loop.is_closed():
                raise

    def _drain(self) -> None:
        if self._closed:
            return
        try:
            self._handle_for_a_while()
        except BaseException as error:  # noqa: BLE001 - handed on
            # Torn between two steps, by the handler of a signal that raises. The loop would only log it.
            self._loop.call_soon(self._drain, context=self._context)
            self._on_crash(error)

    def _needs_turn(self) -> bool:
        """Whether the last input is not over yet; if so, the inbox is drained again after a turn of the loop."""
        if not self._in_turn and self._turns.take():
            self._in_turn = True  # whatever else wakes the inbox meanwhile is no turn
            self._loop.call_soon(self._end_turn, context=self._context)
        return self._in_turn

    def _end_turn(self) -> None:
        self._in_turn = False
        self._drain()

    def _handle_for_a_while(self) -> None:
        caused, inputs, turns, on_work = self._caused, self._inputs, self._turns, self._on_work
        until = monotonic() + MAX_SLICE_SECONDS
        left = MAX_BURST
        while True:
            try:
                if caused:
                    item = caused.popleft()
                    left -= 1
                elif turns.needed and self._needs_turn():
                    return
                elif inputs:
                    item = inputs.popleft()
                    left = MAX_BURST
                    turns.needed = turns.alive
                else:
                    break
                if type(item) is tuple:
                    item[0](*item[1:])
                else:
                    on_work(item)
            except BaseException as error:  # noqa: BLE001 - handed on: the run must end, not hang
                self._on_crash(error)
            if not left or (not caused and monotonic() >= until):
                self._loop.call_soon(self._drain, context=self._context)
                return
        self._awake = False
        try:
            self._on_idle()
        except BaseException as error:  # noqa: BLE001 - as above
            self._on_crash(error)
        if (caused or inputs) and not self._awake:  # put in between the last look and the flag
            self._wake()
