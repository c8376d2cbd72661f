"""What a task asks for: amounts that may depend on the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from amltk._notes import add_note
from amltk.exceptions import ResourceUnavailableError
from amltk.scheduling._admission.amounts import amount_text, units_of
from amltk.scheduling._admission.pools import IndexedPool, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.scheduling._admission.pools import Pools


class Asking(Protocol):
    """A call, as far as functions of it are concerned."""

    task: Any


Needs = tuple[tuple[Pool, int], ...]
"""Pools with the units that a call asks for of each; 0 where it must have nothing of it."""


class Demand:
    """The amounts that calls of a task ask for.

    Args:
        amounts: For each resource a number, a text such as `"4 GB"`, or a function of the call that returns one.
        needs_time: How many seconds of the run must be left when a call begins; 0.0 if that does not matter.
        enforces_memory: Whether a call that uses more memory than it asks for is ended.

    Raises:
        TypeError: An amount is nothing of that.
        ValueError: An amount is negative, or the like.
    """

    def __init__(self, amounts: Mapping[str, Any], needs_time: float = 0.0, *, enforces_memory: bool = False) -> None:
        self.amounts: Mapping[str, Any] = amounts
        self.needs_time: float = needs_time
        self.enforces_memory: bool = enforces_memory
        self._fixed = {name: units_of(name, value) for name, value in amounts.items() if not callable(value)}
        self._known: tuple[Pools, Needs] | None = None

    def needs(self, pools: Pools, call: Asking) -> Needs:
        """What a call asks for.

        Raises:
            ResourceUnavailableError: No pool can ever grant it.
            Exception: What a function of the call raised, or what it returned is no amount.
        """
        known = self._known
        if known is not None and known[0] is pools:
            needs = known[1]
        else:
            needs = tuple(self._need(pools, name, call) for name in self.amounts)
            if len(self._fixed) == len(self.amounts):
                self._known = pools, needs
        cluster = pools.cluster
        if cluster is not None:
            declared = {pool.name: units for pool, units in needs if units and pool.name in cluster.pools}
            if why := cluster.why_never(declared):
                wanted = ", ".join(f"{amount_text(units)} of {name}" for name, units in declared.items())
                raise ResourceUnavailableError(f"{call.task.name} asks for {wanted}, which can never be granted: {why}")
        return needs

    def _need(self, pools: Pools, name: str, call: Asking) -> tuple[Pool, int]:
        units = self._fixed.get(name)
        if units is None:
            try:
                units = units_of(name, self.amounts[name](call))
            except Exception as error:
                add_note(error, f"raised by the amount of {name} that Resources of {call.task.name} asks for")
                raise
        pool: Pool | None = pools.named.get(name)
        if pool is None and pools.cluster is not None:
            pool = pools.cluster.find(name)
        if pool is None:
            raise ResourceUnavailableError(_no_pool(call.task.name, name, pools))
        if why := pool.why_never(units):
            raise ResourceUnavailableError(
                f"{call.task.name} asks for {amount_text(units)} of {name}, which can never be granted: {why}. Ask for"
                f" less in Resources({name}=...), or give the scheduler more: resources={{{name!r}: ...}}"
            )
        return pool, units


def _no_pool(task: str, name: str, pools: Pools) -> str:
    names = pools.known()
    known = f"its pools are: {', '.join(sorted(names))}" if names else "it has none"
    if pools.cluster is not None:
        cluster = pools.cluster
        return f"{task} asks for {name}, which no worker of {cluster.place} declares; {known}. Remedy: {cluster.remedy}"
    return (
        f"{task} asks for {name}, and its scheduler has no pool of that name; {known}. Give it one:"
        f" Scheduler.with_processes(..., resources={{{name!r}: ...}})"
    )


def has_ids(pool: Pool) -> bool:
    """Whether what is taken from a pool has ids."""
    return isinstance(pool, IndexedPool)
