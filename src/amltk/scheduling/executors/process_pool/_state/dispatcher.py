"""The dispatcher: which calls are waiting, which were sent to which worker, and which worker gets the next one.

A state machine without I/O, clock or thread: `WorkerIO` and others report what happened and carry out its decisions.

**Tokens.** Calls are sent to a worker ahead of time, several if they are short, so that it need not wait for the next
one. With each call goes a token: one byte through a separate channel that both sides read from. A worker takes a token
before it begins a call; the pool takes tokens back. The operating system gives each byte to only one of them, so a call
either begins in its worker or is free to be sent to another, and never both, whatever the timing.

Invariants, after every method:

- A call is in exactly one place: in `queue`, in `bound` if it needs certain devices, in the `sent` of one slot, or
  gone.
- Calls end in the order in which they were sent; only the first of `sent` can have begun.
- While calls are long, none is sent in advance, and only workers without calls are looked at, in `_idle`: what a call
  costs then does not grow with the number of workers. Short calls come and go many at a time, which makes up for it.
- Tokens are taken back all at once, which ends a *generation*: the worker drops received calls of a generation that it
  gets no token for. No call is sent until the worker's current call has ended, so two generations never mix.
- A worker drops calls only when it takes a token, so one that is stopped, or not scheduled, keeps those of many
  generations. There are only `GENERATIONS` different ones. Before it could take calls of an old one for those of the
  current one, it is *pinged*: sent an empty call, and nothing else until that has ended.
"""

from __future__ import annotations

import math
import time
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool._state.bound_calls import BoundCalls
from amltk.scheduling.executors.process_pool._system.tokens import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from amltk.scheduling.executors.process_pool.binding import Binding
    from amltk.scheduling.executors.process_pool.future import PoolFuture

PREFETCH_SECONDS = 0.004
"""How many seconds of work a worker should have in advance."""

MAX_PREFETCH = 128
"""How many calls are sent to a worker in advance at most."""

MIN_WORK_TO_WAKE_SECONDS = 0.0001
"""The seconds of waiting work above which it is worth waking a second worker.

Waking one was measured to cost the pool about 15 microseconds, and takes the worker longer. Larger values did not make
no-op calls any faster.
"""

LONG_CALL_SECONDS = 0.02
"""The seconds from which on a call is long: then nothing is sent in advance."""

NOVELTY = 0.25
"""The weight of the last call in the expected duration; the rest is the weight of the past."""

BEING_PACKED: tuple[()] = ()
"""The payload of a call that is being pickled by another thread than the one that sends it."""

UNKNOWN_SECONDS = math.inf
"""The expected duration as long as no call has ended."""


class WorkerSlot:
    """A worker's place in the dispatcher, from its start to its end.

    Attributes:
        sent: The calls that were sent to it and have not ended, in order.
        ready: Whether it is initialised.
        closed: Whether nothing is to be sent to it now.
        retired: Whether nothing is to be sent to it any more.
        generation: The generation of its tokens.
        unread: Of how many generations it may still have calls that were taken back.
        pinged: Whether it was sent an empty call that has not ended.
        begun: How many calls were sent to it and not taken back.
        begun_before: How many that were when tokens were last taken back.
        binding: Its devices; None if it may use whatever this process may. Only calls that need just these are sent
            to it, see `bound_calls`; it is closed to others.
        idle_since: When its last call ended, on the monotonic clock; only where it has devices.
        on_end: What to call when its process has ended.
    """

    __slots__ = (
        "begun",
        "begun_before",
        "binding",
        "closed",
        "generation",
        "idle_since",
        "number",
        "on_end",
        "pinged",
        "ready",
        "retired",
        "sent",
        "unread",
    )

    def __init__(self, number: int, binding: Binding | None = None) -> None:
        self.number: int = number
        self.binding: Binding | None = binding
        self.idle_since: float = math.inf
        self.on_end: list[Callable[[], object]] = []
        self.sent: deque[PoolFuture] = deque()
        self.ready: bool = False
        self.closed: bool = binding is not None
        self.retired: bool = False
        self.generation: int = 0
        self.unread: int = 0
        self.pinged: bool = False
        self.begun: int = 0
        self.begun_before: int = 0

    @property
    def open(self) -> bool:
        """Whether calls may be sent to it."""
        return self.ready and not self.closed and not self.retired


class Dispatcher:
    """See the module's docstring.

    Args:
        max_workers: The maximum number of workers.
        max_tasks_per_child: The number of calls after which a worker is replaced; None for never.
    """

    def __init__(self, max_workers: int, max_tasks_per_child: int | None) -> None:
        self.queue: deque[PoolFuture] = deque()
        self.slots: dict[int, WorkerSlot] = {}
        self.expected: float = UNKNOWN_SECONDS  # per call
        self.bound: BoundCalls = BoundCalls(self.slots, max_workers, self.queue)
        self._max_workers = max_workers
        self._most_calls = max_tasks_per_child or math.inf
        self._last_slot = 0
        self._idle: list[int] | None = None  # a heap of the workers without calls, by number; None if not kept now
        self._n_ahead: int = 0  # how many calls were sent in advance
        self.failed_starts: int = 0  # in a row

    # ------------------------------------------------------------------ workers

    def add_slot(self) -> WorkerSlot:
        """Add a slot for a worker that is being started."""
        self._last_slot += 1
        slot = self.slots[self._last_slot] = WorkerSlot(self._last_slot, self.bound.wanted())
        return slot

    def wants_slot(self) -> bool:
        """Whether another worker would have something to do."""
        if len(self.slots) >= self._max_workers or self._is_first_being_packed():
            return False
        if self.bound.waiting and self.bound.wanted() is not None:
            return True
        waiting = len(self.queue) + (self._n_ahead if self.expected >= PREFETCH_SECONDS / 2 else 0)
        if not waiting:
            return False
        return waiting > sum(not (slot.sent or slot.retired or slot.closed) for slot in self.slots.values())

    def _is_first_being_packed(self) -> bool:
        """Whether there is no worker yet, and it is being found out which modules the first one needs."""
        if self.slots:
            return False
        queue, bound = self.queue, self.bound.waiting
        if bound and not bound[0].payload and not bound[0].dropped:
            return True
        return bool(queue and queue[0].payload is BEING_PACKED and not queue[0].dropped)

    def worker_ready(self, slot: WorkerSlot) -> None:
        """Note that a worker is initialised."""
        slot.ready = True
        self.failed_starts = 0
        self._note_idle(slot)

    def remove_slot(self, slot: WorkerSlot) -> list[PoolFuture]:
        """Remove a worker that has ended, after the calls that it had not begun were taken back.

        Returns:
            The calls lost with it: at most one.
        """
        del self.slots[slot.number]
        self._idle = None
        self._n_ahead -= max(0, len(slot.sent) - 1)
        lost = list(slot.sent)
        slot.sent.clear()
        for call in lost:
            call.slot = None
        return lost

    def _note_idle(self, slot: WorkerSlot) -> None:
        if self._idle is not None and slot.binding is None:
            heappush(self._idle, slot.number)

    def _first_idle(self) -> WorkerSlot | None:
        """The first worker without calls that calls may be sent to."""
        if self._idle is None:
            self._idle = [slot.number for slot in self.slots.values() if slot.open and not slot.sent]
            heapify(self._idle)
        while self._idle:
            slot = self.slots[self._idle[0]]
            if slot.open:
                return slot
            heappop(self._idle)  # it has retired meanwhile
        return None

    # ------------------------------------------------------------------ calls

    def depth(self) -> int:
        """How many calls a worker should have, including the current one."""
        if self.expected >= LONG_CALL_SECONDS:
            return 1
        return max(2, min(MAX_PREFETCH, int(PREFETCH_SECONDS / max(self.expected, 1e-9))))

    def capacity(self) -> int:
        """How many calls could be sent to the workers now."""
        depth = self.depth()
        if depth == 1:
            return len(self._idle or ()) if self._first_idle() else 0
        return sum(max(0, depth - len(slot.sent)) for slot in self.slots.values() if slot.open)

    def hungry(self) -> bool:
        """Whether a new call would be sent at once, or a worker started for it."""
        if self.bound.in_use:
            return True  # a worker may have to be ended first
        return not self.queue and (len(self.slots) < self._max_workers or self._has_room())

    def _has_room(self, share: float = 1.0) -> bool:
        """Whether a worker has less than this share of the calls that it should have."""
        depth = self.depth()
        if depth == 1:
            return self._first_idle() is not None
        return any(slot.open and len(slot.sent) < share * depth for slot in self.slots.values())

    def urgent(self) -> bool:
        """Whether a worker may soon be idle unless the waiting calls are sent at once."""
        if not self.queue:
            return bool(self.bound.waiting)
        return self._has_room(0.5)

    def assign(self) -> Iterator[tuple[WorkerSlot, list[PoolFuture]]]:
        """Assign packed calls to the workers with room, those with the least to do first."""
        if self.bound.waiting:
            yield from self.bound.assign()
        self._drop_cancelled()
        if not self.queue:
            return
        depth = self.depth()
        if depth == 1:
            yield from self._assign_to_idle()
            return
        self._idle = None
        slots = sorted((slot for slot in self.slots.values() if slot.open), key=lambda slot: len(slot.sent))
        worth_it = int(MIN_WORK_TO_WAKE_SECONDS / max(self.expected, 1e-9))
        for n, slot in enumerate(slots):
            if not self.queue:
                return
            share = max(worth_it, -(-len(self.queue) // (len(slots) - n)))
            capacity = min(depth - len(slot.sent), share, int(min(MAX_PREFETCH, self._most_calls - slot.begun)))
            if calls := self._take(slot, capacity):
                yield slot, calls

    def _assign_to_idle(self) -> Iterator[tuple[WorkerSlot, list[PoolFuture]]]:
        while (slot := self._first_idle()) is not None and (calls := self._take(slot, 1)):
            assert self._idle, "the worker is its first"
            heappop(self._idle)
            yield slot, calls

    def _take(self, slot: WorkerSlot, capacity: int) -> list[PoolFuture]:
        calls: list[PoolFuture] = []
        queue = self.queue
        while len(calls) < capacity and queue:
            call = queue[0]
            if call.dropped:
                queue.popleft()
                continue
            if not call.payload:
                break  # it must be packed first
            if call.limits is not None and (slot.sent or calls):
                break  # a call with limits is sent alone, since its worker may be killed
            calls.append(queue.popleft())
            call.slot = slot
            if call.limits is not None:
                slot.closed = True
                break
        if calls:
            self._n_ahead += len(calls) - (not slot.sent)
            slot.sent.extend(calls)
            slot.begun += len(calls)
        return calls

    def _drop_cancelled(self) -> None:
        while self.queue and self.queue[0].dropped:
            self.queue.popleft()

    def finish(self, slot: WorkerSlot, key: int, seconds: float) -> PoolFuture | None:
        """Note that a call has ended.

        Returns:
            The call; None if the worker cannot be running it.
        """
        if not slot.sent or slot.sent[0].key != key:
            return None
        call = slot.sent.popleft()
        call.slot = None
        slot.closed = False
        if slot.binding is not None:
            slot.closed, slot.idle_since = True, time.monotonic()
        if slot.begun >= self._most_calls and not slot.sent:
            slot.retired = True
        if slot.sent:
            self._n_ahead -= 1
        else:
            self._note_idle(slot)
        expected = self.expected
        self.expected = seconds if expected == UNKNOWN_SECONDS else expected + NOVELTY * (seconds - expected)
        return call

    def take_back(self, slot: WorkerSlot, tokens: int) -> bool:
        """Return calls that the worker will not begin, since `tokens` were taken back, to the front of the queue.

        Returns:
            Whether the worker must be pinged now.
        """
        self._n_ahead -= min(tokens, len(slot.sent) - 1)
        calls = [slot.sent.pop() for _ in range(tokens)]
        for call in calls:  # last one first
            call.slot = None
        (self.queue if slot.binding is None else self.bound.waiting).extendleft(calls)
        slot.begun -= tokens
        slot.generation = (slot.generation + 1) % GENERATIONS
        # If it has begun a call since the last time, it had a token of this generation, and dropped all earlier calls.
        slot.unread = slot.unread + 1 if slot.begun == slot.begun_before else 1
        slot.begun_before = slot.begun
        slot.pinged = slot.unread == GENERATIONS - 1
        slot.closed = bool(slot.sent) or slot.binding is not None or slot.pinged
        if not slot.sent:  # others with nothing to do get these calls first: it may be stopped
            self.slots[slot.number] = self.slots.pop(slot.number)
        if not slot.closed:
            self._note_idle(slot)
        return slot.pinged

    def note_answer(self, slot: WorkerSlot) -> None:
        """Note that a worker has answered the ping: it has dropped all calls that were taken back."""
        slot.unread, slot.pinged = 0, False
        slot.closed = slot.binding is not None
        self._note_idle(slot)

    def to_share(self) -> WorkerSlot | None:
        """A worker with prefetched calls queued behind a long one, while another is idle or could be started."""
        if self.queue or not self._n_ahead:
            return None
        is_one_free = len(self.slots) < self._max_workers
        blocked: WorkerSlot | None = None
        for slot in self.slots.values():
            if not slot.sent:
                is_one_free = is_one_free or slot.open
            # The oldest call stays the oldest, however many short ones come and go in other workers meanwhile.
            elif len(slot.sent) > 1 and (blocked is None or slot.sent[0].key < blocked.sent[0].key):
                blocked = slot
        return blocked if is_one_free else None

    def drop(self, call: PoolFuture) -> WorkerSlot | None:
        """Forget a cancelled call.

        Returns:
            The worker that is running it and must be ended, or None.
        """
        slot = call.slot
        call.dropped = True
        if slot is not None:
            self._n_ahead -= len(slot.sent) > 1
            slot.sent.remove(call)
            slot.retired = True
            call.slot = None
            call.left_behind = slot
        return slot

    def pending(self) -> Iterable[PoolFuture]:
        """All calls that have not ended."""
        for slot in self.slots.values():
            yield from slot.sent
        yield from self.waiting()

    def waiting(self) -> list[PoolFuture]:
        """The calls that no worker has."""
        return [call for queue in (self.queue, self.bound.waiting) for call in queue if not call.dropped]

    def idle(self) -> bool:
        """Whether no calls are pending."""
        self._drop_cancelled()
        self.bound.drop_cancelled()
        return not self.queue and not self.bound.waiting and not any(slot.sent for slot in self.slots.values())
