"""Receives everything that happens to a run, in order, from any thread, and handles it on the loop's thread."""

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
"""How long a busy inbox runs before the loop's timers, signals and other tasks get a turn, between two inputs."""

MAX_BURST = 1000
"""How many calls caused by one input are handled without a turn of the loop: the order must not depend on time, and a
callback that keeps causing more must not block the loop forever."""


class Inbox:
    """Two queues that are read on the loop's thread: inputs, from any thread, and what these cause.

    Inputs are handled one at a time, in the order in which they arrived: the next one is handled once everything that
    the last one caused was handled and coroutines that could continue have continued. So the order of a run's events is
    a function of the order of its inputs. However much arrives before the loop gets to it, the loop is woken once.

    Inputs are everything that happens to a run and that the run did not cause itself:

    - outcomes: executor futures that have ended (`put_work`);
    - timers that are due, messages of running calls, and answers that plugins waited for (`put_input`);
    - requests of other threads: submissions, cancellations, emitted events, reports (`put`);
    - the announcement of the end, whatever requested it: `stop`, the timeout, a policy, a lack of work
      (`put_and_wake`).

    The run takes each of them at one place, in `_handle_for_a_while`. Anything put in on the loop's thread counts as
    caused, and so do signals, which overtake everything (`put_first`).

    Args:
        loop: The loop of the run. Everything is handled on the creating thread, with its context variables.
        turns: Says when the loop needs a turn before the next input.
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

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self._inputs: deque[Any] = deque()
        self._caused: deque[Any] = deque()
        self._turns = turns
        self._loop = loop
        self._thread = get_ident()
        self._context = contextvars.copy_context()
        self._on_work: Callable[[Work[Any]], None]
        self._on_idle: Callable[[], None]
        self._on_crash: Callable[[BaseException], None]
        self._awake = False  # a drain is running or scheduled
        self._in_turn = False  # the loop gets a turn before anything else is handled
        self._closed = False

    def connect(
        self,
        *,
        on_work: Callable[[Work[Any]], None],
        on_idle: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        """Say who handles what, before the loop has its first turn.

        Args:
            on_work: Called with each executor future that has ended.
            on_idle: Called when everything that was put in has been handled.
            on_crash: Called with whatever a handler raised; handling continues afterwards.
        """
        self._on_work = on_work
        self._on_idle = on_idle
        self._on_crash = on_crash

    def __len__(self) -> int:
        return len(self._caused) + len(self._inputs)

    @property
    def replaying(self) -> bool:
        """Whether inputs of an earlier session are still to be told."""
        return False

    def is_handling(self) -> bool:
        """Whether what happens on the loop's thread now is caused by an input, as far as that has to be known."""
        return True

    def here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return get_ident() == self._thread

    def move_here(self) -> None:
        """Handle everything on this thread from now on, which drives the loop. Not while the loop is running."""
        self._thread = get_ident()

    def put_work(self, work: Work[Any]) -> None:
        """Note that an executor future has ended. The done-callback of all of them: no object for each."""
        self._inputs.append(work)
        if not self._awake:
            self._wake()

    def put(self, call: Callable[..., object], *args: Any) -> None:
        """Make `call(*args)` on the loop's thread: before the next input, or as an input if another thread asks."""
        queue = self._caused if get_ident() == self._thread else self._inputs
        queue.append((call, *args))
        if not self._awake:
            self._wake()

    def put_input(self, call: Callable[..., object], *args: Any) -> None:
        """Make the call as an input, after all earlier inputs, whichever thread this is called from."""
        self._inputs.append((call, *args))
        if not self._awake:
            self._wake()

    def put_own(self, call: Callable[..., object], *args: Any) -> None:
        """Like `put`, for a thread that belongs to the run itself."""
        self.put(call, *args)

    def put_and_wake(self, call: Callable[..., object], *args: Any) -> None:
        """Like `put_input`, but noticed at once even if a user's signal handler calls this on the loop's thread."""
        self._inputs.append((call, *args))
        self.wake()

    def wake(self) -> None:
        """Call `on_idle` soon, though nothing was put in. May be used wherever `put_and_wake` may."""
        self._awake = True
        self._loop.call_soon_threadsafe(self._drain, context=self._context)

    def run_here(self, call: Callable[..., object], *args: Any) -> None:
        """Make the call now if this is the loop's thread, else put it in."""
        if self.here():
            call(*args)
        else:
            self.put(call, *args)

    def put_first(self, call: Callable[..., object], *args: Any) -> None:
        """Like `put`, but before everything else. Takes no lock, so that a signal handler may use it."""
        self._caused.appendleft((call, *args))
        # Through the loop's self-pipe even on its own thread: a signal does not interrupt the wait for the next event.
        self.wake()

    def gather(self, put: Callable[[], None]) -> None:
        """Call `put`, which puts things in, and handle them at once. On the loop's thread, outside of callbacks.

        What `put` raises goes to `on_crash`.
        """
        is_first = not self._awake
        self._awake = True
        try:
            put()
        except BaseException as error:  # noqa: BLE001 - passed on
            self._on_crash(error)
        if is_first:
            self._context.run(self._drain)

    def put_and_wait(self, call: Callable[..., object], *args: Any) -> None:
        """Make the call after everything that is already caused, and return once it is made.

        For compute that blocks the loop on its own thread. Not for use in a call that was put in.
        """
        made: list[bool] = []
        self.put(call, *args)
        self.put(made.append, True)
        while not made and not self._closed:
            self._handle_for_a_while()

    def close(self) -> None:
        """Never wake the loop again. What executors still report is dropped."""
        self._awake = self._closed = True
        self._caused.clear()
        self._inputs.clear()

    def _wake(self) -> None:
        if get_ident() == self._thread:
            self._loop.call_soon(self._drain, context=self._context)
            self._awake = True  # set second, in case a signal handler raises in between
            return
        self._awake = True
        try:
            self._loop.call_soon_threadsafe(self._drain, context=self._context)
        except RuntimeError:
            # An executor that could not be stopped reports work after the run's own loop was closed.
            if not self._loop.is_closed():
                raise

    def _drain(self) -> None:
        if self._closed:
            return
        try:
            self._handle_for_a_while()
        except BaseException as error:  # noqa: BLE001 - passed on
            # Torn between two steps by a signal handler that raises. The loop would only log it.
            self._loop.call_soon(self._drain, context=self._context)
            self._on_crash(error)

    def _needs_turn(self) -> bool:
        """Whether the last input is not over yet; if so, the inbox is drained again after a turn of the loop."""
        if not self._in_turn and self._turns.take():
            self._in_turn = True  # waking the inbox in other ways does not count as a turn
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
                    item = inputs.popleft()  # the only place where a run takes an input
                    left = MAX_BURST
                    turns.needed = turns.alive
                else:
                    break
                if type(item) is tuple:
                    item[0](*item[1:])
                else:
                    on_work(item)
            except BaseException as error:  # noqa: BLE001 - passed on: the run must end, not hang
                self._on_crash(error)
            if not left or (not caused and monotonic() >= until):
                self._loop.call_soon(self._drain, context=self._context)
                return
        self._awake = False
        try:
            self._on_idle()
        except BaseException as error:  # noqa: BLE001 - as above
            self._on_crash(error)
        if (caused or inputs) and not self._awake:  # put in between the last check and the flag
            self._wake()
