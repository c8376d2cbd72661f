"""Whose turn it is: calls that wait for resources, in one queue for each shape of request.

The order is that of priority, then of submission. A call that does not fit is overtaken by later ones that do; but at
most `MAX_OVERTAKEN` calls that take something which it waits for overtake it. From then on nothing is granted that
would take away what it needs, until it is granted itself.

Why not strictly in order, or whoever fits: the former leaves half of the devices idle while a large call waits for the
last of them, and the latter never lets a large call begin while small ones keep coming.

A choice takes time proportional to the number of shapes, not of calls.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from amltk.scheduling._admission.amounts import UNIT, amount_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from amltk.scheduling._admission.pools import Grant, Pool, Pools

MAX_OVERTAKEN = 64
"""How many calls that take something which a call waits for may overtake it."""

Item = tuple[float, int, "Waiting"]


class Waiting:
    """One call that asks for resources.

    Attributes:
        shape: What it asks for.
        item: Its place in the queue; None if it does not wait.
        payload: What it is, for whoever has asked.
        grant: What it was granted; None before.
    """

    __slots__ = ("grant", "item", "payload", "shape")

    def __init__(self, payload: Any) -> None:
        self.payload = payload
        self.item: Item | None = None
        self.grant: Grant | None = None
        self.shape: Shape


class Shape:
    """All waiting calls that ask for the same.

    Attributes:
        needs: The pools and how many units of each, of which each is above 0.
        needs_time: How many seconds of the run must be left; 0.0 if that does not matter.
        mask: Its pools, as bits.
        n_waiting: How many calls wait.
        overtakers: The places of the calls that have overtaken its first one, sorted: those that count for any that
            still waits are all among them.
    """

    __slots__ = ("checks", "heap", "mask", "n_waiting", "needs", "needs_time", "overtakers")

    def __init__(self, needs: tuple[tuple[Pool, int], ...], needs_time: float, bits: Iterable[int]) -> None:
        self.needs = needs
        self.needs_time = needs_time
        self.checks = tuple((pool, units, units < UNIT, bit) for (pool, units), bit in zip(needs, bits, strict=True))
        self.mask = sum(bit for *_, bit in self.checks)
        self.heap: list[Item] = []
        self.n_waiting = 0
        self.overtakers: list[tuple[float, int]] = []

    def first(self) -> Item | None:
        """The place of the first call that waits; None if none does."""
        heap = self.heap
        while heap and heap[0][2].item is not heap[0]:
            heappop(heap)  # cancelled, or moved
        if not heap:
            self.overtakers.clear()
            return None
        if self.overtakers and self.overtakers[0] < heap[0][:2]:
            del self.overtakers[: bisect_left(self.overtakers, heap[0][:2])]
        return heap[0]

    def fits(self) -> bool:
        """Whether enough is free of each pool."""
        for pool, units, is_share, _ in self.checks:  # noqa: SIM110 - a generator takes twice the time
            if units > (pool.largest if is_share else pool.free):
                return False
        return True

    def lacks(self) -> int:
        """The pools that have too little free, as bits."""
        lacking = 0
        for pool, units, is_share, bit in self.checks:
            if units > (pool.largest if is_share else pool.free):
                lacking |= bit
        return lacking

    def lacking(self) -> list[tuple[Pool, int]]:
        """The same, as pools with the units wanted."""
        return [
            (pool, units)
            for pool, units, is_share, _ in self.checks
            if units > (pool.largest if is_share else pool.free)
        ]


class Kept:
    """What must stay free for calls that must not be overtaken any more.

    Attributes:
        mask: The pools, as bits.
    """

    __slots__ = ("_kept", "mask")

    def __init__(self) -> None:
        self.mask: int = 0
        self._kept: dict[tuple[int, bool], tuple[Pool, int]] = {}

    def keep_for(self, shape: Shape) -> None:
        """Keep what a shape needs."""
        self.mask |= shape.mask
        for pool, units, is_share, bit in shape.checks:
            _, most = self._kept.get((bit, is_share), (pool, 0))
            self._kept[bit, is_share] = pool, max(units, most)

    def is_harmed_by(self, shape: Shape) -> bool:
        """Whether too little would be left after a call of this shape."""
        for pool, units, _, bit in shape.checks:
            if bit & self.mask:
                for is_share in (False, True):
                    _, most = self._kept.get((bit, is_share), (pool, 0))
                    if most and not pool.leaves(most, after=units):
                        return True
        return False


class Choice:
    """The calls of one run that wait for resources, and who is next.

    Args:
        pools: The resources.
        time_left: How many seconds of the run are left.
    """

    def __init__(self, pools: Pools, time_left: Callable[[], float]) -> None:
        self._pools = pools
        self._time_left = time_left
        self._shapes: dict[tuple[Any, ...], Shape] = {}
        self._bits: dict[int, int] = {}
        self.n_waiting: int = 0

    # ------------------------------------------------------------------ who waits

    def add(
        self, waiting: Waiting, needs: tuple[tuple[Pool, int], ...], needs_time: float, key: tuple[float, int]
    ) -> bool:
        """Let a call wait.

        Args:
            waiting: The call.
            needs: The pools and how many units of each it asks for; what is 0 takes nothing.
            needs_time: How many seconds of the run must be left when it begins.
            key: Its place: minus its priority, and its number.

        Returns:
            Whether it may be its turn at once.
        """
        shape = self._shape(tuple(need for need in needs if need[1]), needs_time)
        waiting.shape = shape
        waiting.item = (*key, waiting)
        heappush(shape.heap, waiting.item)
        shape.n_waiting += 1
        self.n_waiting += 1
        return shape.first() is waiting.item and shape.fits()

    def _shape(self, needs: tuple[tuple[Pool, int], ...], needs_time: float) -> Shape:
        name = (*((id(pool), units) for pool, units in needs), needs_time)
        shape = self._shapes.get(name)
        if shape is None:
            bits = [self._bits.setdefault(id(pool), 1 << len(self._bits)) for pool, _ in needs]
            shape = self._shapes[name] = Shape(needs, needs_time, bits)
        return shape

    def discard(self, waiting: Waiting) -> bool:
        """Let it wait no more; whether it did. Its place is cleared away later."""
        if waiting.item is None:
            return False
        waiting.item = None
        waiting.shape.n_waiting -= 1
        self.n_waiting -= 1
        return True

    def move(self, waiting: Waiting, priority: float) -> bool:
        """Change the priority of a call; whether it waits."""
        if waiting.item is None:
            return False
        waiting.item = (-priority, waiting.item[1], waiting)
        heappush(waiting.shape.heap, waiting.item)
        return True

    # ------------------------------------------------------------------ whose turn it is

    def next_ones(self) -> list[Waiting]:
        """Grant what can be granted now; returns the calls that wait no more, in order, each with its grant."""
        self._pools.collect()
        granted: list[Waiting] = []
        heads = self._heads()
        passed: list[Shape] = []  # those that come before, and wait
        kept = Kept()
        at = 0
        while at < len(heads):
            item = heads[at]
            at += 1
            shape = item[2].shape
            if not shape.fits() or (shape.mask & kept.mask and kept.is_harmed_by(shape)):
                passed.append(shape)
                if len(shape.overtakers) >= MAX_OVERTAKEN:
                    kept.keep_for(shape)
                continue
            self._note_overtaking(item, passed, kept)
            granted.append(self._grant(item[2]))
            following = shape.first()
            if following is None:
                self._forget(shape)
            else:
                insort(heads, following, lo=at)
        return granted

    @staticmethod
    def _note_overtaking(item: Item, passed: list[Shape], kept: Kept) -> None:
        """Note for the calls that wait before this one that it takes something which they wait for."""
        mask, place = item[2].shape.mask, item[:2]
        for shape in passed:
            if shape.mask & mask and shape.lacks() & mask:
                insort(shape.overtakers, place)
                if len(shape.overtakers) == MAX_OVERTAKEN:
                    kept.keep_for(shape)

    def _heads(self) -> list[Item]:
        """The first call of each shape that can begin in the time that is left, in order."""
        heads: list[Item] = []
        unused: list[Shape] = []
        left = None
        for shape in self._shapes.values():
            heap = shape.heap
            item = heap[0] if heap and heap[0][2].item is heap[0] else shape.first()
            if item is None:
                unused.append(shape)
                continue
            if shape.needs_time:
                left = self._time_left() if left is None else left
                if shape.needs_time > left:
                    continue
            heads.append(item)
        for shape in unused:
            self._forget(shape)
        heads.sort()
        return heads

    def _grant(self, waiting: Waiting) -> Waiting:
        shape = waiting.shape
        self.discard(waiting)
        waiting.grant = self._pools.grant(shape.needs)
        return waiting

    def _forget(self, shape: Shape) -> None:
        name = (*((id(pool), units) for pool, units in shape.needs), shape.needs_time)
        del self._shapes[name]

    # ------------------------------------------------------------------ answers

    def out_of_time(self) -> list[Waiting]:
        """The calls for which too little of the run is left."""
        shapes = [shape for shape in self._shapes.values() if shape.needs_time and shape.needs_time > self._time_left()]
        return [item[2] for shape in shapes for item in sorted(shape.heap) if item[2].item is item]

    def everyone(self) -> list[Waiting]:
        """All that wait, in order."""
        items = [item for shape in list(self._shapes.values()) for item in list(shape.heap) if item[2].item is item]
        return [waiting for *_, waiting in sorted(items)]

    def reason(self, waiting: Waiting) -> str:
        """What a call waits for, in words."""
        item, shape = waiting.item, waiting.shape
        assert item is not None, "it waits"
        left = self._time_left()
        if shape.needs_time > left:
            return f"needs {shape.needs_time:g} s, and the run has {max(left, 0):.0f} s left"
        workers = self._pools.workers
        lacking = shape.lacking()
        parts = [_want(pool, units) for pool, units in lacking if pool is not workers]
        names = {pool for pool, _ in lacking if pool is not workers or not parts}
        before = sum(
            one[2].item is one and one < item
            for other in list(self._shapes.values())
            if not names or any(pool in names for pool, _ in other.needs)
            for one in list(other.heap)
        )
        calls = "1 call" if before == 1 else f"{before} calls"
        what = ", ".join(parts) or ("a worker" if names else "its turn")
        return f"waits for {what}; {calls} before it"

    def waits_for(self) -> dict[str, int]:
        """How many calls wait for each pool, by its name; a call may wait for several."""
        counts: dict[str, int] = {}
        for shape in list(self._shapes.values()):
            for pool, _ in shape.lacking():
                counts[pool.name] = counts.get(pool.name, 0) + shape.n_waiting
        return counts


def _want(pool: Pool, units: int) -> str:
    if not pool.total:
        return f"{pool.name}: {amount_text(units)} wanted, and no worker has any now"
    return (
        f"{pool.name}: {amount_text(units)} wanted, {amount_text(max(pool.free, 0))} of {amount_text(pool.total)} free"
    )
