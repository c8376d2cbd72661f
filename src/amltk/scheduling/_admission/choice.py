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
from itertools import count
from typing import TYPE_CHECKING

from amltk.scheduling._admission.amounts import amount_text
from amltk.scheduling._admission.pools import Grant
from amltk.scheduling._admission.shapes import Item, Shape, ShapeName, Waiting, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._admission.pools import Pool, Pools

MAX_OVERTAKEN = 64
"""How many calls that take something which a call waits for may overtake it."""


class Choice:
    """The calls of one run that wait for resources, and which one is next.

    The first calls of all shapes are kept in order. A shape that cannot be granted waits for one pool that has too
    little for it: when something is given back, it is looked at again only if that pool has enough.

    Args:
        pools: The resources.
        time_left: How many seconds of the run are left.
    """

    def __init__(self, pools: Pools, time_left: Callable[[], float]) -> None:
        self._pools = pools
        self._time_left = time_left
        self._shapes: dict[ShapeName, Shape] = {}
        self._serials = count()
        self._overtakers = count()
        self._heads: list[Item] = []  # the first call of each shape, in order
        self._overdue: list[Item] = []  # those of them that must not be overtaken any more, in order
        self._watches: dict[Pool, Watch] = {}
        self._held: set[Shape] = set()  # those that wait for a pool to have more than they need, after an overdue call
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
        name = (needs, needs_time)
        shape = self._shapes.get(name)
        if shape is None:
            shape = self._new_shape(name)
        waiting.shape = shape
        shape.n_waiting += 1
        self.n_waiting += 1
        return self._place(waiting, (*key, waiting)) and shape.has_enough

    def _new_shape(self, name: ShapeName) -> Shape:
        shape = self._shapes[name] = Shape(name, next(self._serials))
        for pool, units in shape.needs:
            if pool not in self._watches:
                self._watches[pool] = Watch(pool)
            self._watches[pool].know(shape, units)
        self._watches[shape.needs[0][0]].add(shape, shape.needs[0][1])
        return shape

    def _forget(self, shape: Shape) -> None:
        del self._shapes[shape.name]
        self._held.discard(shape)
        shape.watch.remove(shape)
        for pool, units in shape.needs:
            self._watches[pool].forget(shape, units)

    def _watch(self, shape: Shape, pool: Pool, threshold: int) -> None:
        """Do not look at a shape again until a pool can grant this amount."""
        shape.watch.remove(shape)
        self._watches[pool].add(shape, threshold)

    def _release(self) -> None:
        """Look again at the shapes that were held back in favour of others."""
        for shape in self._held:
            self._watch(shape, *shape.needs[0])
        self._held.clear()

    def _place(self, waiting: Waiting, item: Item) -> bool:
        """Give a call its place; returns whether it is the first one of its shape."""
        waiting.item = item
        shape, before = waiting.shape, waiting.shape.head
        if not shape.push(item):
            return False
        insort(self._heads, item)
        if before is not None:
            _remove(self._heads, before)
            if shape.is_overdue:
                _remove(self._overdue, before)
                insort(self._overdue, item)
            self._release()  # it may now precede what has held it back, or follow what it holds back
        return True

    def discard(self, waiting: Waiting) -> bool:
        """Remove a call that waits; returns whether it did."""
        item, shape = waiting.item, waiting.shape
        if item is None:
            return False
        waiting.item = None
        shape.n_waiting -= 1
        self.n_waiting -= 1
        if item is shape.head:
            self._advance(shape, item)
        return True

    def move(self, waiting: Waiting, priority: float) -> bool:
        """Change the priority of a call; whether it waits."""
        item = waiting.item
        if item is None:
            return False
        was_first = item is waiting.shape.head
        if not self._place(waiting, (-priority, item[1], waiting)) and was_first:
            self._advance(waiting.shape, item)
        return True

    def _advance(self, shape: Shape, item: Item) -> None:
        """Make the next call of a shape its first one, after the first has left its place."""
        _remove(self._heads, item)
        if shape.is_overdue:
            _remove(self._overdue, item)
            self._release()
        head = shape.advance()
        if head is None:
            self._forget(shape)
            return
        insort(self._heads, head)
        shape.is_overdue = len(shape.overtakers) >= MAX_OVERTAKEN
        if shape.is_overdue:
            insort(self._overdue, head)

    # ------------------------------------------------------------------ whose turn it is

    def next_ones(self) -> list[Waiting]:
        """Grant what can be granted now; returns the calls that no longer wait, in order, each with its grant."""
        self._pools.collect()
        granted: list[Waiting] = []
        todo = self._to_look_at()
        while True:
            for item in todo:
                shape = item[2].shape
                if not shape.has_enough:
                    continue  # what was granted just now has taken it
                if self._can_begin(item, shape):
                    self._note_overtaking(item, shape)
                    was_overdue = shape.is_overdue
                    granted.append(self._grant(item[2]))
                    if was_overdue:  # what it has held back may begin
                        todo = self._to_look_at()
                        break
                    if shape.head is not None:
                        insort(todo, shape.head)  # behind this one
            else:
                return granted

    def _to_look_at(self) -> list[Item]:
        """The first calls of the shapes that may be granted, in order."""
        heads: list[Item] = []
        for watch in self._watches.values():
            level = watch.pool.level
            for threshold, _, shape in watch.entries:
                if threshold > level:
                    break
                heads.append(shape.head)
        heads.sort()
        return heads

    def _can_begin(self, item: Item, shape: Shape) -> bool:
        """Whether the first call of a shape can be granted, and takes nothing away from calls that are overdue."""
        for pool, units in shape.needs:
            if units > pool.level:  # not the pool that it has waited for, which has enough
                self._held.discard(shape)
                self._watch(shape, pool, units)
                return False
        if shape.needs_time and self._is_late(shape):
            return False
        amounts = shape.amounts
        for overdue in self._overdue:
            if overdue >= item:
                break
            other = overdue[2].shape
            if other.needs_time and self._is_late(other):
                continue
            for pool, units in other.needs:
                amount = amounts.get(pool)
                if amount is not None and pool.level_after(amount) < units:
                    if not other.needs_time:  # else it may soon be too late for that one
                        self._hold(shape, pool, pool.least_for(amount, units))
                    return False
        return True

    def _hold(self, shape: Shape, pool: Pool, threshold: int) -> None:
        """Do not look at a shape again until a pool has enough for it and for one that is overdue."""
        if threshold > pool.level:
            self._watch(shape, pool, threshold)
            self._held.add(shape)

    def _is_late(self, shape: Shape) -> bool:
        """Whether too little time of the run is left for calls of a shape."""
        return shape.needs_time > self._time_left()

    def _note_overtaking(self, item: Item, shape: Shape) -> None:
        """Note for the calls ahead of this one that it takes something that they wait for."""
        if self._heads[0] is item:
            return
        overtaker = next(self._overtakers)
        for pool in shape.amounts:
            for *_, other in self._watches[pool].that_lack_it():
                before = other.head
                if before < item and not other.is_overdue and other.overtaker != overtaker:
                    other.overtaker = overtaker  # whichever pools they share, it counts once
                    if not other.needs_time or not self._is_late(other):
                        self._note_overtaken(other, before, item)

    def _note_overtaken(self, shape: Shape, before: Item, item: Item) -> None:
        insort(shape.overtakers, item[:2])
        if len(shape.overtakers) >= MAX_OVERTAKEN:
            shape.is_overdue = True
            insort(self._overdue, before)

    def _grant(self, waiting: Waiting) -> Waiting:
        waiting.grant = Grant(self._pools, waiting.shape.needs)
        self.discard(waiting)
        return waiting

    # ------------------------------------------------------------------ answers

    def out_of_time(self) -> list[Waiting]:
        """The calls for which too little of the run is left."""
        shapes = [shape for shape in self._shapes.values() if shape.needs_time and shape.needs_time > self._time_left()]
        return [item[2] for shape in shapes for item in sorted(shape.items())]

    def reason(self, waiting: Waiting) -> str | None:
        """What a call waits for, in words; None if it does not wait. May be called from any thread."""
        item, shape = waiting.item, waiting.shape
        if item is None:
            return None
        left = self._time_left()
        if shape.needs_time > left:
            return f"needs {shape.needs_time:g} s, and the run has {max(left, 0):.0f} s left"
        workers = self._pools.workers
        lacking = shape.lacking()
        parts = [_want(pool, units) for pool, units in lacking if pool is not workers]
        names = {pool for pool, _ in lacking if pool is not workers or not parts}
        before = sum(
            other.n_before(item)
            for other in list(self._shapes.values())
            if not names or any(pool in names for pool, _ in other.needs)
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


def _remove(items: list[Item], item: Item) -> None:
    """Remove an item from a sorted list."""
    del items[bisect_left(items, item)]
