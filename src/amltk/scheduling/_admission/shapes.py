"""Calls that ask for the same resources, in one queue for each such request, and the pools that they wait for."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from amltk.scheduling._admission.pools import SumPool

if TYPE_CHECKING:
    from amltk.scheduling._admission.pools import Grant, Pool

Item = tuple[float, int, "Waiting"]
"""The place of a call that waits: minus its priority, its number, and the call."""


Entry = tuple[int, int, "Shape"]
"""An amount, the serial number of a shape, and the shape."""


_NOTHING = SumPool("nothing", 0)
"""A pool that has enough for a call that asks for nothing."""


class Waiting:
    """One call that asks for resources.

    Attributes:
        shape: What it asks for.
        item: Its place in the queue; None if it does not wait.
        payload: The caller's own object for it.
        grant: What it was granted; None before.
    """

    __slots__ = ("grant", "item", "payload", "shape")

    def __init__(self, payload: Any) -> None:
        self.payload = payload
        self.item: Item | None = None
        self.grant: Grant | None = None
        self.shape: Shape

    def __lt__(self, other: Waiting) -> bool:
        """Of equal places, at most one is still in use: that of an earlier attempt may not have been removed yet."""
        return False


ShapeName = tuple[tuple[tuple["Pool", int], ...], float]
"""Pools with how many units of each, and how many seconds of the run must be left."""


class Shape:
    """All waiting calls that ask for the same. It exists only while some wait.

    Args:
        name: What is asked for, which is its key.
        serial: Its serial number.

    Attributes:
        needs: The pools and how many units of each, always above 0.
        needs_time: How many seconds of the run must be left; 0.0 if that does not matter.
        amounts: The units needed, by pool.
        head: The place of the first call that waits.
        n_waiting: How many calls wait.
        overtakers: The places of the calls that have overtaken its first one, sorted: they include all
            that count for any call that still waits.
        overtaker: Which choice the last one of them was.
        is_overdue: Whether its first call must not be overtaken any more.
        watch: Where it waits for one pool to have enough.
        threshold: How much that pool must have.
    """

    __slots__ = (
        "_heap",
        "_last",
        "_queue",
        "amounts",
        "head",
        "is_overdue",
        "n_waiting",
        "name",
        "needs",
        "needs_time",
        "overtaker",
        "overtakers",
        "serial",
        "threshold",
        "watch",
    )

    def __init__(self, name: ShapeName, serial: int) -> None:
        self.name = name
        self.serial = serial
        needs, self.needs_time = name
        self.needs = tuple(need for need in needs if need[1]) or ((_NOTHING, 0),)
        self.amounts = dict(self.needs)
        self.head: Any = None  # an `Item`, once there is a first call
        self.n_waiting: int = 0
        self.overtakers: list[tuple[float, int]] = []
        self.overtaker: int = -1
        self.is_overdue: bool = False
        self.watch: Watch
        self.threshold: int = 0
        self._queue: deque[Item] = deque()  # those that came in order, as most of them do
        self._last: Item | None = None  # of them
        self._heap: list[Item] = []  # the others

    def push(self, item: Item) -> bool:
        """Add a call at a place; returns whether it is now the first one."""
        queue = self._queue
        if not queue or queue[-1] < item:
            queue.append(item)
            self._last = item
        else:
            heappush(self._heap, item)
        if self.head is not None and self.head < item:
            return False
        self.head = item
        return True

    def advance(self) -> Item | None:
        """Find the new first call, after the first one has left or moved."""
        heap, queue, overtakers = self._heap, self._queue, self.overtakers
        while queue and queue[0][2].item is not queue[0]:
            queue.popleft()  # it was granted, was cancelled, or has moved
        while heap and heap[0][2].item is not heap[0]:
            heappop(heap)
        if heap and (not queue or heap[0] < queue[0]):
            head: Item | None = heap[0]
        else:
            head = queue[0] if queue else None
        self.head = head
        if head is None:
            self._last = None  # a reference cycle
        if overtakers:
            del overtakers[: len(overtakers) if head is None else bisect_left(overtakers, head[:2])]
        return head

    def n_before(self, item: Item) -> int:
        """How many calls come before a place. May be called from any thread; quick for the last place."""
        last = self._last
        if not self._heap and last is not None and not item < last:
            return self.n_waiting - (last is item)
        return sum(one < item for one in self.items())

    def items(self) -> list[Item]:
        """The places of all that wait, unsorted. May be called from any thread."""
        return [item for item in [*list(self._queue), *list(self._heap)] if item[2].item is item]

    @property
    def has_enough(self) -> bool:
        """Whether the pool that it waits for has enough; another one may have too little."""
        return self.threshold <= self.watch.pool.level

    def lacking(self) -> list[tuple[Pool, int]]:
        """All pools that have too little free, with the units wanted."""
        return [(pool, units) for pool, units in self.needs if units > pool.level]


class Watch:
    """The shapes that need a pool, and those of them that wait until it has more, both sorted by how much of it.

    So when something is given back, only the shapes that it is enough for are looked at.

    Args:
        pool: The pool.

    Attributes:
        entries: How much the pool must have for the shapes that wait for that, with their serial numbers.
    """

    __slots__ = ("_demands", "entries", "pool")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.entries: list[Entry] = []
        self._demands: list[Entry] = []

    def know(self, shape: Shape, units: int) -> None:
        """Register a shape that needs this amount."""
        insort(self._demands, (units, shape.serial, shape))

    def forget(self, shape: Shape, units: int) -> None:
        """Undo `know`."""
        del self._demands[bisect_left(self._demands, (units, shape.serial))]

    def that_lack_it(self) -> list[Entry]:
        """The shapes for which the pool has too little."""
        return self._demands[bisect_left(self._demands, (self.pool.level + 1,)) :]

    def add(self, shape: Shape, threshold: int) -> None:
        """Have a shape wait until the pool has this amount."""
        shape.watch = self
        shape.threshold = threshold
        insort(self.entries, (threshold, shape.serial, shape))

    def remove(self, shape: Shape) -> None:
        """Undo `add`."""
        del self.entries[bisect_left(self.entries, (shape.threshold, shape.serial))]
