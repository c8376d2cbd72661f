"""The book-keeping of the pool: which calls are waiting, which were sent to which worker, and which worker is next.

A state machine without I/O, clock or thread: `engine` reports what happened and carries out its decisions.

**Tokens.** Calls are sent to a worker ahead of time, several if they are short, so that it need not wait for the next
one. With each call goes a token: one byte through a separate channel that both sides read from. A worker takes a token
before it begins a call; the pool takes tokens back. The operating system gives each byte to only one of them, so a call
either begins in its worker or is free to be sent to another, and never both, whatever the timing.

Invariants, after every method:

- A call is in exactly one place: in `queue`, in the `sent` of one seat, or gone.
- Calls end in the order in which they were sent; only the first of `sent` can have begun.
- Tokens are taken back all at once, which ends a *generation*: the worker drops received calls of a generation that it
  gets no token for. No call is sent until the worker's current call has ended, so two generations never mix.
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
"""How many seconds of work a worker should have in advance."""

MOST = 128
"""How many calls are sent to a worker in advance at most."""

WAKING = 0.0001
"""The seconds of waiting work above which it is worth waking a second worker.

Waking one was measured to cost the pool about 15 microseconds, and takes the worker longer. Larger values did not make
no-op calls any faster.
"""

LONG = 0.02
"""The seconds from which on a call is long: then nothing is sent in advance."""

INERTIA = 0.75
"""The weight of the past in the expected duration; the rest is the weight of the last call."""


class Seat:
    """A worker's place in the book, from its start to its end.

    Attributes:
        sent: The calls that were sent to it and have not ended, in order.
        ready: Whether it is initialised.
        closed: Whether nothing is to be sent to it now.
        retired: Whether nothing is to be sent to it any more.
        generation: The generation of its tokens.
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
        """Whether calls may be sent to it."""
        return self.ready and not self.closed and not self.retired


class Book:
    """See the module's docstring.

    Args:
        max_workers: The maximum number of workers.
        max_tasks_per_child: The number of calls after which a worker is replaced; None for never.
    """

    def __init__(self, max_workers: int, max_tasks_per_child: int | None) -> None:
        self.queue: deque[PoolFuture] = deque()
        self.seats: dict[int, Seat] = {}
        self.expected: float = math.inf  # seconds per call
        self._max_workers = max_workers
        self._most_calls = max_tasks_per_child or math.inf
        self._last_seat = 0
        self.failed_starts: int = 0  # in a row

    # ------------------------------------------------------------------ workers

    def add_seat(self) -> Seat:
        """Add a seat for a worker that is being started."""
        self._last_seat += 1
        seat = self.seats[self._last_seat] = Seat(self._last_seat)
        return seat

    def wants_seat(self) -> bool:
        """Whether another worker would have something to do."""
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
        """Remove a worker that has ended, after the calls that it had not begun were taken back.

        Returns:
            The calls lost with it: at most one.
        """
        del self.seats[seat.number]
        lost = list(seat.sent)
        seat.sent.clear()
        for call in lost:
            call.seat = None
        return lost

    # ------------------------------------------------------------------ calls

    def depth(self) -> int:
        """How many calls a worker should have, including the current one."""
        if self.expected >= LONG:
            return 1
        return max(2, min(MOST, int(SPAN / max(self.expected, 1e-9))))

    def room(self) -> int:
        """How many calls could be sent to the workers now."""
        depth = self.depth()
        return sum(max(0, depth - len(seat.sent)) for seat in self.seats.values() if seat.open)

    def hungry(self) -> bool:
        """Whether a new call would be sent at once, or a worker started for it."""
        depth = self.depth()
        return not self.queue and (
            len(self.seats) < self._max_workers
            or any(seat.open and len(seat.sent) < depth for seat in self.seats.values())
        )

    def urgent(self) -> bool:
        """Whether a worker may soon be idle unless the waiting calls are sent at once."""
        if not self.queue:
            return False
        depth = self.depth()
        return any(seat.open and 2 * len(seat.sent) < depth for seat in self.seats.values())

    def assign(self) -> Iterator[tuple[Seat, list[PoolFuture]]]:
        """Assign packed calls to the workers with room, those with the least to do first."""
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
                break  # it must be packed first
            if call.limits is not None and (seat.sent or calls):
                break  # a call with limits is sent alone, since its worker may be killed
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
            The call; None if the worker cannot be running it.
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
        """Return calls that the worker will not begin, since `tokens` were taken back, to the front of the queue."""
        calls = [seat.sent.pop() for _ in range(tokens)]
        for call in calls:  # last one first
            call.seat = None
        self.queue.extendleft(calls)
        seat.begun -= tokens
        seat.generation = (seat.generation + 1) % GENERATIONS
        seat.closed = bool(seat.sent)

    def to_share(self) -> Seat | None:
        """A worker with prefetched calls queued behind a long one, while another is idle or could be started."""
        if self.queue:
            return None
        is_one_free = len(self.seats) < self._max_workers
        blocked: Seat | None = None
        for seat in self.seats.values():
            if not seat.sent:
                is_one_free = is_one_free or seat.open
            # The oldest call stays the oldest, however many short ones come and go in other workers meanwhile.
            elif len(seat.sent) > 1 and (blocked is None or seat.sent[0].key < blocked.sent[0].key):
                blocked = seat
        return blocked if is_one_free else None

    def drop(self, call: PoolFuture) -> Seat | None:
        """Forget a cancelled call.

        Returns:
            The worker that is running it and must be ended, or None.
        """
        seat = call.seat
        call.dropped = True
        if seat is not None:
            seat.sent.remove(call)
            seat.retired = True
            call.seat = None
        return seat

    def pending(self) -> Iterable[PoolFuture]:
        """All calls that have not ended."""
        for seat in self.seats.values():
            yield from seat.sent
        yield from (call for call in self.queue if not call.dropped)

    def idle(self) -> bool:
        """Whether no calls are pending."""
        self._drop_cancelled()
        return not self.queue and not any(seat.sent for seat in self.seats.values())
