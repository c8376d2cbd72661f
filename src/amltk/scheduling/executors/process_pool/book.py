"""The book-keeping of the pool: which call waits, which one was sent to which worker, who gets the next one.

A state machine without I/O, clock or thread: `engine` tells it what has happened and does what it decides.

**Tokens.** Calls are sent to a worker ahead of time, several where they are short, so that it need not wait for the
next one. With each call goes a token, one byte through a socket of its own that both sides read from. A worker takes a
token before it begins a call; the pool takes tokens back. The operating system gives each byte to one of them only, so
a call either begins in its worker or is free to be given to another one, and never both, whatever the timing.

Invariants, after every method:

- A call is in exactly one place: in `queue`, in the `sent` of one seat, or gone.
- Calls end in the order in which they were sent; what was begun and has not ended is at most the first of `sent`.
- Tokens are taken back all at once, which ends a *generation*: the worker drops the calls of a generation that it has
  received but gets no token for. No call is sent until what it is at has ended, so two generations never mix.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool.tokens import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amltk.scheduling.executors.process_pool.future import PoolFuture

SPAN = 0.004
"""Seconds of work that a worker is to have in advance."""

MOST = 128
"""Calls that are sent to a worker in advance, at most."""

WAKING = 0.0001
"""Seconds of work, done one call after the other, for which it is worth waking a second worker.

To wake one was measured to cost the pool some 15 microseconds, and takes the worker longer. With greater values than
this one, calls that do nothing gained no more.
"""

LONG = 0.02
"""Seconds from which on a call is long: nothing is sent in advance then."""

INERTIA = 0.75
"""How much the expected duration depends on the past rather than on the last call."""


class Seat:
    """A place for a worker, from its start to its end.

    Attributes:
        sent: The calls that it was sent and that have not ended, in order.
        ready: It is initialised.
        closed: Nothing is to be sent to it now.
        retired: Nothing is to be sent to it any more.
        generation: Of the tokens that it is sent.
        begun: How many calls were sent to it and not taken back.
    """

    __slots__ = ("begun", "closed", "generation", "number", "ready", "retired", "sent")

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.sent: deque[PoolFuture] = deque()
        self.ready: bool = False
        self.closed: bool = False
        self.retired: bool = False
        self.generation: int = 0
        self.begun: int = 0

    @property
    def open(self) -> bool:
        """Whether it may be sent calls."""
        return self.ready and not self.closed and not self.retired


class Book:
    """See the module.

    Args:
        max_workers: How many workers there may be.
        max_tasks_per_child: After how many calls a worker is replaced; None for never.
    """

    def __init__(self, max_workers: int, max_tasks_per_child: int | None) -> None:
        self.queue: deque[PoolFuture] = deque()
        self.seats: dict[int, Seat] = {}
        self.expected: float = math.inf  # seconds that a call takes
        self._max_workers = max_workers
        self._most_calls = max_tasks_per_child or math.inf
        self._last_seat = 0
        self.failed_starts: int = 0  # in succession

    # ------------------------------------------------------------------ workers

    def add_seat(self) -> Seat:
        """Make a place for a worker that is being started."""
        self._last_seat += 1
        seat = self.seats[self._last_seat] = Seat(self._last_seat)
        return seat

    def wants_seat(self) -> bool:
        """Whether another worker would find something to do."""
        if len(self.seats) >= self._max_workers:
            return False
        free = waiting = 0
        for seat in self.seats.values():
            if not seat.sent:
                free += not seat.retired
            elif len(seat.sent) > 1:
                waiting += len(seat.sent) - 1
        return len(self.queue) + (waiting if self.expected >= SPAN / 2 else 0) > free

    def welcome(self, seat: Seat) -> None:
        """Note that a worker is initialised."""
        seat.ready = True
        self.failed_starts = 0

    def remove_seat(self, seat: Seat) -> list[PoolFuture]:
        """Take out a worker that has ended, after what it had not begun was taken back.

        Returns:
            What is lost with it: at most one call.
        """
        del self.seats[seat.number]
        lost = list(seat.sent)
        seat.sent.clear()
        for call in lost:
            call.seat = None
        return lost

    # ------------------------------------------------------------------ calls

    def depth(self) -> int:
        """How many calls a worker is to have, the one that it is at included."""
        if self.expected >= LONG:
            return 1
        return max(2, min(MOST, int(SPAN / max(self.expected, 1e-9))))

    def room(self) -> int:
        """How many calls the workers could be sent now."""
        depth = self.depth()
        return sum(max(0, depth - len(seat.sent)) for seat in self.seats.values() if seat.open)

    def hungry(self) -> bool:
        """Whether a new call would be sent, or a worker started for it, at once."""
        depth = self.depth()
        return not self.queue and (
            len(self.seats) < self._max_workers
            or any(seat.open and len(seat.sent) < depth for seat in self.seats.values())
        )

    def urgent(self) -> bool:
        """Whether a worker may have nothing to do soon, unless it is sent the calls that wait at once."""
        if not self.queue:
            return False
        depth = self.depth()
        return any(seat.open and 2 * len(seat.sent) < depth for seat in self.seats.values())

    def assign(self) -> Iterator[tuple[Seat, list[PoolFuture]]]:
        """Give packed calls to the workers that have room, the ones with the least to do first."""
        self._drop_cancelled()
        if not self.queue:
            return
        seats = sorted((seat for seat in self.seats.values() if seat.open), key=lambda seat: len(seat.sent))
        depth = self.depth()
        worth_it = int(WAKING / max(self.expected, 1e-9))
        for n, seat in enumerate(seats):
            if not self.queue:
                return
            share = max(worth_it, -(-len(self.queue) // (len(seats) - n)))
            room = min(depth - len(seat.sent), share, int(min(MOST, self._most_calls - seat.begun)))
            if calls := self._take(seat, room):
                yield seat, calls

    def _take(self, seat: Seat, room: int) -> list[PoolFuture]:
        calls: list[PoolFuture] = []
        queue = self.queue
        while len(calls) < room and queue:
            call = queue[0]
            if call.dropped:
                queue.popleft()
                continue
            if call.parcel is None:
                break  # it has to be packed first
            if call.limits is not None and (seat.sent or calls):
                break  # what is limited is alone with its worker, which may be killed
            calls.append(queue.popleft())
            call.seat = seat
            if call.limits is not None:
                seat.closed = True
                break
        seat.sent.extend(calls)
        seat.begun += len(calls)
        return calls

    def _drop_cancelled(self) -> None:
        while self.queue and self.queue[0].dropped:
            self.queue.popleft()

    def finish(self, seat: Seat, key: int, seconds: float) -> PoolFuture | None:
        """Note that a call has ended.

        Returns:
            The call; None if it is not what the worker can be at.
        """
        if not seat.sent or seat.sent[0].key != key:
            return None
        call = seat.sent.popleft()
        call.seat = None
        seat.closed = False
        if seat.begun >= self._most_calls and not seat.sent:
            seat.retired = True
        self.expected = (
            seconds if self.expected == math.inf else INERTIA * self.expected + (1 - INERTIA) * max(seconds, 0.0)
        )
        return call

    def take_back(self, seat: Seat, tokens: int) -> None:
        """Put what the worker will not begin, since so many tokens were taken back, at the front of the queue."""
        calls = [seat.sent.pop() for _ in range(tokens)]
        for call in calls:  # the last one first
            call.seat = None
        self.queue.extendleft(calls)
        seat.begun -= tokens
        seat.generation = (seat.generation + 1) % GENERATIONS
        seat.closed = bool(seat.sent)

    def to_share(self) -> Seat | None:
        """Who has calls waiting behind one that takes long, while another worker has nothing to do or is not there."""
        if self.queue:
            return None
        is_one_free = len(self.seats) < self._max_workers
        blocked: Seat | None = None
        for seat in self.seats.values():
            if not seat.sent:
                is_one_free = is_one_free or seat.open
            # The oldest call stays the oldest, however many short ones come and go elsewhere meanwhile.
            elif len(seat.sent) > 1 and (blocked is None or seat.sent[0].key < blocked.sent[0].key):
                blocked = seat
        return blocked if is_one_free else None

    def drop(self, call: PoolFuture) -> Seat | None:
        """Forget a call that was cancelled.

        Returns:
            The worker that is at it and has to be ended, or None.
        """
        seat = call.seat
        call.dropped = True
        if seat is not None:
            seat.sent.remove(call)
            seat.retired = True
            call.seat = None
        return seat

    def pending(self) -> Iterable[PoolFuture]:
        """Everything that has not ended."""
        for seat in self.seats.values():
            yield from seat.sent
        yield from (call for call in self.queue if not call.dropped)

    def idle(self) -> bool:
        """Whether there is nothing to do."""
        self._drop_cancelled()
        return not self.queue and not any(seat.sent for seat in self.seats.values())
