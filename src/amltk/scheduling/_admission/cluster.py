"""What the workers of a cluster declare, as pools."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from amltk.scheduling._admission.amounts import UNIT, amount_text
from amltk.scheduling._admission.pools import GPU, SumPool

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)


class WorkerKind(NamedTuple):
    """Workers that declare the same.

    Attributes:
        units: How many units each of them has, by names in lower case.
        n_workers: How many such workers there are.
    """

    units: Mapping[str, int]
    n_workers: int


class Declaring(Protocol):
    """An executor whose workers declare what they have.

    Attributes:
        place: What its workers belong to, for messages, such as `the Dask cluster`.
        remedy: How to give its workers more, for messages.
        is_open: Whether the cluster may start workers of other kinds for calls that wait.
    """

    place: str
    remedy: str
    is_open: bool

    def declared(self) -> tuple[WorkerKind, ...]:
        """What workers have; the same tuple until that changes."""
        ...


class ClusterPool(SumPool):
    """The amount that all workers of a cluster have together; a call gets what it needs from one of them."""

    __slots__ = ()

    def why_never(self, units: int) -> str:
        """Why no worker could grant this amount, however much it had; `Cluster.why_never` knows what they have."""
        if self.name == GPU and units > UNIT and units % UNIT:
            return "an amount above 1 must be a whole number, since a share is always of one"
        return ""


class Cluster:
    """The pools of what the workers of an executor declare.

    Args:
        executor: The executor.
        counts: Whether calls wait here, and not in the cluster, for what workers have.

    Attributes:
        pools: The pools, by name. Their sizes are those of the last `refresh`.
        place: What the workers belong to, for messages.
        remedy: How to give a worker more, for messages.
        counts: As above.
    """

    def __init__(self, executor: Declaring, *, counts: bool) -> None:
        self._executor = executor
        self._kinds: tuple[WorkerKind, ...] = ()
        self._warned: set[str] = set()
        self.pools: dict[str, ClusterPool] = {}
        self.place: str = executor.place
        self.remedy: str = executor.remedy
        self.counts: bool = counts

    def refresh(self) -> None:
        """Account for workers that came or went."""
        kinds = self._executor.declared()
        if kinds is self._kinds:
            return
        self._kinds = kinds
        totals: Counter[str] = Counter()
        for kind in kinds:
            totals.update({name: units * kind.n_workers for name, units in kind.units.items()})
        for name in [*self.pools, *totals]:
            self.pools.setdefault(name, ClusterPool(name, 0)).resize(totals[name])

    def find(self, name: str) -> ClusterPool | None:
        """The pool of that name; None if there is none, and none can be expected."""
        self.refresh()
        if name not in self.pools and (self._executor.is_open or not self._kinds):
            self.pools[name] = ClusterPool(name, 0)
        return self.pools.get(name)

    def why_never(self, wanted: Mapping[str, int]) -> str:
        """Why no worker will ever grant a call these units; empty if one can, or if one that can may still come.

        In the latter case a warning is logged.
        """
        problem = self._problem(wanted)
        if not problem:
            return ""
        if not self._executor.is_open:
            return f"{problem}. Ask for less in Resources(...), or {self.remedy}"
        if problem not in self._warned:
            self._warned.add(problem)
            _log.warning("a call waits for a worker of another kind: %s; %s", problem, self.remedy)
        return ""

    def _problem(self, wanted: Mapping[str, int]) -> str:
        workers = [kind.units for kind in self._kinds]
        if not workers or any(
            all(worker.get(name, 0) >= units for name, units in wanted.items()) for worker in workers
        ):
            return ""
        for name, units in wanted.items():
            most = max(worker.get(name, 0) for worker in workers)
            if not most:
                return f"no worker of {self.place} declares {name}"
            if most < units:
                return f"no worker of {self.place} has more than {amount_text(most)} of {name}"
        return f"no worker of {self.place} has all of it"
