"""What every row needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from benchmarks.measure import Case
from benchmarks.subjects import Subject

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """How thoroughly to measure, and against whom.

    Attributes:
        quick: For a smoke test: few repeats, small sizes.
        amltk: The peer, or None where its environment is missing.
    """

    quick: bool
    amltk: Subject | None

    def either(self, thorough: T, quick: T) -> T:
        return quick if self.quick else thorough

    def on_amltk(self, workload: str, *arguments: object) -> Case | None:
        """The same workload on the peer; None where it is missing."""
        return None if self.amltk is None else Case(workload, arguments, self.amltk)

    on_peer = on_amltk
    """A workload that needs another tool: all of them are in the peer's environment."""

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools of other tools that can be measured."""
        return () if self.amltk is None else ("loky", "pebble", "mpire")


NO_PEER = "NO PEER"
"""What the table says in place of a peer's figure."""
