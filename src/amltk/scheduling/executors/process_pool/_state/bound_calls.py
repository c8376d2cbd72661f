"""Calls that need a worker with certain devices, and which worker gets them.

A worker has its devices for life. So such a call goes to an idle worker that has the same ones, or to a new one. It is
not sent, nor is a worker started for it, while another worker exists that has one of its devices: one that is idle is
ended, one that is ending is waited for. Where all places are taken, a worker with other devices is ended first.

A part of the dispatcher, with the same rules: no I/O, no clock but for `monotonic`, no thread.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling.executors.process_pool._state.dispatcher import WorkerSlot
    from amltk.scheduling.executors.process_pool.binding import Binding
    from amltk.scheduling.executors.process_pool.future import PoolFuture

IDLE_SECONDS = 1.0
"""How long a worker with devices is kept for the next call that needs them while other calls wait for a worker."""


class BoundCalls:
    """See the module's docstring.

    Args:
        slots: All workers; the dispatcher's own.
        max_workers: The maximum number of workers.
        queue: The other calls that wait; the dispatcher's own.

    Attributes:
        waiting: The calls that wait for a worker, in order.
        in_use: Whether there has been such a call.
    """

    def __init__(self, slots: dict[int, WorkerSlot], max_workers: int, queue: deque[PoolFuture]) -> None:
        self.waiting: deque[PoolFuture] = deque()
        self.in_use: bool = False
        self._slots = slots
        self._max_workers = max_workers
        self._queue = queue

    def add(self, call: PoolFuture) -> None:
        """Let a call wait."""
        self.in_use = True
        self.waiting.append(call)

    def drop_cancelled(self) -> None:
        """Forget the calls that were cancelled."""
        if any(call.dropped for call in self.waiting):
            self.waiting = deque(call for call in self.waiting if not call.dropped)

    # ------------------------------------------------------------------ sending

    def assign(self) -> Iterator[tuple[WorkerSlot, list[PoolFuture]]]:
        """Assign packed calls to workers that have their devices, one each."""
        self.drop_cancelled()
        for call in list(self.waiting):
            if not call.payload:
                continue  # it must be packed first
            slot = self._place_for(call, ())
            if slot is None or not slot.ready or slot.pinged or self._excluded(call, slot):
                continue
            self.waiting.remove(call)
            call.slot = slot
            slot.sent.append(call)
            slot.begun += 1
            yield slot, [call]

    def _place_for(self, call: PoolFuture, taken: tuple[WorkerSlot, ...] | set[WorkerSlot]) -> WorkerSlot | None:
        """An idle worker with the devices of a call, or one that is being started; those that are ready first."""
        variables = _binding(call).variables
        found = [
            slot
            for slot in self._slots.values()
            if slot.binding is not None
            and slot.binding.variables == variables
            and not slot.sent
            and not slot.retired
            and slot not in taken
        ]
        return max(found, key=lambda slot: slot.ready, default=None)

    def _excluded(self, call: PoolFuture, own: WorkerSlot | None) -> list[WorkerSlot]:
        """The other workers that must not exist while the call runs."""
        binding = _binding(call)
        return [
            slot
            for slot in self._slots.values()
            if slot is not own and slot.binding is not None and binding.excludes(slot.binding)
        ]

    # ------------------------------------------------------------------ making room

    def wanted(self) -> Binding | None:
        """The devices of the next worker that is to be started; None if these calls need none now."""
        taken: set[WorkerSlot] = set()
        first = self._first_other()
        others_need_one = first is not None and not self._others_have_one()
        for call in self.waiting:
            if call.dropped:
                continue
            if others_need_one and first is not None and first.key < call.key:
                return None
            slot = self._place_for(call, taken)
            if slot is not None:
                taken.add(slot)
            elif not self._excluded(call, None):
                return _binding(call)
        return None

    def _first_other(self) -> PoolFuture | None:
        return next((call for call in self._queue if not call.dropped), None)

    def _others_have_one(self) -> bool:
        """Whether there is a worker for calls that need no devices."""
        return any(slot.binding is None and not slot.retired for slot in self._slots.values())

    def make_room(self) -> bool:
        """Retire workers that are in the way, in the order of the calls.

        Returns:
            Whether an idle worker was retired, which the manager must end.
        """
        self.drop_cancelled()
        claims: list[tuple[int, PoolFuture | None]] = [(call.key, call) for call in self.waiting]
        first = self._first_other()
        if first is not None:
            claims.append((first.key, None))
            claims.sort(key=lambda claim: claim[0])
        room = self._max_workers - sum(not slot.retired for slot in self._slots.values())
        taken: set[WorkerSlot] = set()
        retired: list[WorkerSlot] = []
        for key, call in claims:
            if call is None:
                if self._others_have_one():
                    retired += self._retire_unused(taken)
                    continue
            else:
                slot = self._place_for(call, taken)
                retired += [one for one in self._excluded(call, slot) if _retire(one, taken)]
                if slot is not None:
                    taken.add(slot)
                    continue
            if room > 0:
                room -= 1
                continue
            before = first is not None and first.key < key
            victim = self._victim(taken, only_idle=call is None, spares_last=before)
            if victim is not None:
                victim.retired = True
                retired.append(victim)
        return any(not slot.sent for slot in retired)

    def _retire_unused(self, taken: set[WorkerSlot]) -> list[WorkerSlot]:
        """Retire workers whose devices nobody has needed for a while, since other calls could use their places."""
        if len(self._slots) < self._max_workers:
            return []
        long_ago = time.monotonic() - IDLE_SECONDS
        return [
            slot
            for slot in self._slots.values()
            if slot.binding is not None and slot.ready and slot.idle_since < long_ago and _retire(slot, taken)
        ]

    def _victim(self, taken: set[WorkerSlot], *, only_idle: bool, spares_last: bool) -> WorkerSlot | None:
        """The worker whose place a call gets: an idle one, or one that computes other calls, when it has done so."""
        slots = [slot for slot in self._slots.values() if not slot.retired and slot not in taken]
        idle = [slot for slot in slots if slot.binding is not None and not slot.sent]
        if idle:
            return idle[0]
        others = [slot for slot in slots if slot.binding is None]
        if only_idle or not others or (spares_last and len(others) == 1):
            return None
        return min(others, key=lambda slot: len(slot.sent))


def _binding(call: PoolFuture) -> Binding:
    assert call.binding is not None, "such calls only"
    return call.binding


def _retire(slot: WorkerSlot, taken: set[WorkerSlot]) -> bool:
    """Retire a worker, if it is idle and nobody's; whether that is new."""
    if slot.sent or slot.retired or slot in taken:
        return False
    slot.retired = True
    return True
