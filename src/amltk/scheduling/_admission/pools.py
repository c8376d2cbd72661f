"""The pools of resources that calls share, and the grants that take from them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from amltk._checks import as_whole
from amltk.scheduling._admission.amounts import UNIT, amount_text, units_of
from amltk.scheduling._admission.devices import find_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

GPU = "gpu"
"""The pool whose ids are those of GPUs."""


class SumPool:
    """An amount: memory, licences, CPUs.

    Attributes:
        name: Its name.
        total: How many units there are.
        free: How many of them are free.
        level: The most that can be granted now; the same.
    """

    __slots__ = ("free", "level", "name", "total")

    def __init__(self, name: str, total: int) -> None:
        self.name: str = name
        self.total: int = total
        self.free: int = total
        self.level: int = total

    def why_never(self, units: int) -> str:
        """Why an amount can never be granted; empty if it can."""
        if units <= self.total:
            return ""
        return f"there is {amount_text(self.total)} in all"

    @property
    def used(self) -> int:
        """How many units are granted."""
        return self.total - self.free

    def take(self, units: int) -> tuple[str, ...]:
        """Take an amount that is free; returns the ids of what was taken, of which a sum has none."""
        self.free = self.level = self.free - units
        return ()

    def give_back(self, units: int, ids: tuple[str, ...]) -> None:  # noqa: ARG002 - those of an indexed pool
        """Undo `take`."""
        self.free = self.level = self.free + units

    def level_after(self, units: int) -> int:
        """The most that could be granted after taking `units`, which are free."""
        return self.free - units

    def least_for(self, units: int, others: int) -> int:
        """A level below which the two amounts cannot both be granted."""
        return units + others

    def resize(self, total: int) -> None:
        """Change how many units there are; fewer than are granted may be free for a while."""
        self.free = self.level = self.free + total - self.total
        self.total = total


class IndexedPool:
    """Individual things, such as GPUs: each call is granted particular ones.

    An amount below 1 is a share of one of them: of the one with the least left that suffices, so that whole ones stay
    free.

    Attributes:
        name: Its name.
        ids: The ids, in order.
        total: How many units there are.
        free: How many of them belong to ids that are wholly free.
        level: The most that can be granted now: `free`, or else the largest share that is free of any.
    """

    __slots__ = ("_left", "_parts", "_places", "_whole", "free", "ids", "level", "name", "total")

    def __init__(self, name: str, ids: tuple[str, ...]) -> None:
        self.name = name
        self.ids = ids
        self.total = self.free = self.level = len(ids) * UNIT
        self._places = {one: place for place, one in enumerate(ids)}
        self._left = [UNIT] * len(ids)
        self._whole = list(range(len(ids)))  # the places of those that are wholly free, in order
        self._parts: list[tuple[int, int]] = []  # what is left of those that are partly free, and their places, sorted

    def why_never(self, units: int) -> str:
        """Why an amount can never be granted; empty if it can."""
        if units > UNIT and units % UNIT:
            return "an amount above 1 must be a whole number, since a share is always of one"
        if units <= self.total:
            return ""
        return f"there are {len(self.ids)}: {', '.join(self.ids)}" if self.ids else "there is none"

    @property
    def used(self) -> int:
        """How many units are granted."""
        return self.total - sum(self._left)

    def take(self, units: int) -> tuple[str, ...]:
        """Take an amount that is free, and above 0; returns the ids of what was taken."""
        if units < UNIT:
            at = bisect_left(self._parts, (units,))
            places = [self._parts[at][1] if at < len(self._parts) else self._whole[0]]
        else:
            places = self._whole[: units // UNIT]
        for place in places:
            self._set(place, self._left[place] - min(units, UNIT))
        self._note()
        return tuple([self.ids[place] for place in places])

    def give_back(self, units: int, ids: tuple[str, ...]) -> None:
        """Undo `take`."""
        for one in ids:
            place = self._places[one]
            self._set(place, self._left[place] + min(units, UNIT))
        self._note()

    def _set(self, place: int, left: int) -> None:
        """Change how much is left of one."""
        before = self._left[place]
        if before == UNIT:
            self._whole.remove(place)
        elif before:
            del self._parts[bisect_left(self._parts, (before, place))]
        self._left[place] = left
        if left == UNIT:
            insort(self._whole, place)
        elif left:
            insort(self._parts, (left, place))

    def _note(self) -> None:
        self.free = len(self._whole) * UNIT
        self.level = self.free or (self._parts[-1][0] if self._parts else 0)

    def level_after(self, units: int) -> int:
        """The most that could be granted after taking `units`, which are free."""
        parts = self._parts
        if units >= UNIT:
            return self.free - units or (parts[-1][0] if parts else 0)
        at = bisect_left(parts, (units,))
        if at == len(parts):  # of one that is wholly free
            return self.free - UNIT or max(UNIT - units, parts[-1][0] if parts else 0)
        if self.free:
            return self.free
        others = parts[-1][0] if at < len(parts) - 1 else parts[-2][0] if at else 0
        return max(others, parts[at][0] - units)

    def least_for(self, units: int, others: int) -> int:
        """A level below which the two amounts cannot both be granted."""
        return units + others if units >= UNIT and others >= UNIT else max(units, others)


Pool = SumPool | IndexedPool


class Grant:
    """What one attempt of a call has been granted, until it is given back, once.

    Args:
        pools: Whose it is.
        needs: The pools that it takes from, with how many units.

    Attributes:
        taken: The pools, with the units and the ids taken from each.
    """

    __slots__ = ("_pools", "taken")

    def __init__(self, pools: Pools, needs: Iterable[tuple[Pool, int]]) -> None:
        self._pools: Pools | None = pools
        self.taken: list[tuple[Pool, int, tuple[str, ...]]] = [(pool, units, pool.take(units)) for pool, units in needs]

    def give_back(self) -> None:
        """Give everything back; takes effect when the pools are next asked. From any thread, any number of times."""
        pools, self._pools = self._pools, None
        if pools is not None:
            pools.returned.append(self)
            pools.on_return()


class Declared(Protocol):
    """What the workers of a cluster declare: the interface of `Cluster`, which is in a layer above."""

    pools: dict[str, Any]
    place: str
    remedy: str
    counts: bool

    def refresh(self) -> None: ...
    def find(self, name: str) -> SumPool | None: ...
    def why_never(self, wanted: Mapping[str, int]) -> str: ...


class Pools:
    """All pools of a scheduler, over all its runs: what a call of an earlier run still uses is not free.

    Args:
        resources: As given to the scheduler; None for none.

    Attributes:
        named: The pools that the user has given, by name.
        cluster: What the workers of the run's executor declare; None if they declare nothing.
        workers: How many calls the executor computes at a time; it has no limit until `resize` says so.
        returned: The grants that were given back, but are not yet accounted for.
        on_return: Called when one is given back, on any thread.
        orders_all: Whether all calls of the scheduler wait here, since some have a priority.
    """

    def __init__(self, resources: Mapping[str, Any] | None = None) -> None:
        self.named: dict[str, Pool] = {name: _pool(name, value) for name, value in _checked(resources).items()}
        self.cluster: Declared | None = None
        self.workers: SumPool = SumPool("worker", 0)
        self.returned: deque[Grant] = deque()
        self.on_return: Callable[[], object] = _nothing
        self.orders_all: bool = False

    def begin_run(self, on_return: Callable[[], object], cluster: Declared | None = None) -> None:
        """Begin a run, which has workers of its own.

        Args:
            on_return: Called when something is given back, on any thread.
            cluster: What its workers declare; None if they declare nothing.
        """
        self.cluster = cluster
        self.workers = SumPool("worker", 0)
        self.on_return = on_return

    def known(self) -> dict[str, Pool]:
        """The pools that the user has given, and those that workers declare, by name."""
        return self.named if self.cluster is None else {**self.cluster.pools, **self.named}

    def counted(self) -> dict[str, Pool]:
        """The known pools whose use is counted here."""
        return self.known() if self.cluster is None or self.cluster.counts else self.named

    def collect(self) -> None:
        """Take account of what was given back."""
        returned = self.returned
        while returned:
            for pool, units, ids in returned.popleft().taken:
                pool.give_back(units, ids)

    def grant(self, needs: Iterable[tuple[Pool, int]]) -> Grant:
        """Grant what is free."""
        return Grant(self, needs)


def _nothing() -> None:
    """While there has been no run."""


def _checked(resources: Any) -> Mapping[str, Any]:
    if resources is None:
        return {}
    if not isinstance(resources, Mapping):
        raise TypeError(
            f"resources={resources!r}: must be a dict, such as {{'gpu': 'auto', 'cpu': 16, 'memory': '60 GB'}}"
        )
    for name in resources:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"resources: the name {name!r} must be one that can be an argument, such as 'licence'")
    return resources


def _pool(name: str, value: Any) -> Pool:
    given = f"resources[{name!r}]"
    if name == GPU and (value == "auto" or as_whole(value) is not None):
        return IndexedPool(name, _gpus(value))
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        ids = tuple(map(str, value))
        if len(set(ids)) < len(ids) or any(not one or "," in one for one in ids):
            raise ValueError(f"{given}={value!r}: its ids must differ from one another, without commas")
        return IndexedPool(name, ids)
    if name == GPU:
        raise TypeError(f"{given}={value!r}: must be 'auto', how many GPUs, or a list of their ids")
    return SumPool(name, units_of(given, value))


def _gpus(value: Any) -> tuple[str, ...]:
    """`"auto"`, or the first ones of those that are visible; a number is taken at its word if none can be seen."""
    number = as_whole(value)
    if number is None:
        return find_gpus()
    if number < 0:
        raise ValueError(f"resources['gpu']={value!r}: must be 0 or more")
    found = find_gpus()
    if found and number > len(found):
        raise ValueError(f"resources['gpu']={value!r}: there are {len(found)} that can be used: {', '.join(found)}")
    return found[:number] if found else tuple(map(str, range(number)))
