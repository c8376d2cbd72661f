"""The parameters that every row needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.measure import Case
from benchmarks.subjects import AMLTK, US, Tool

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """How thoroughly to measure, and against which tools.

    Attributes:
        quick: For a smoke test: few repetitions, small sizes.
        tools: The installed tools to compare with.
    """

    quick: bool
    tools: tuple[Tool, ...]

    def either(self, thorough: T, quick: T) -> T:
        return quick if self.quick else thorough

    def on_amltk(self, workload: str, *arguments: object) -> Case | None:
        """The same workload on AMLTK; None if it is missing."""
        return Case(workload, arguments, AMLTK.subject) if AMLTK in self.tools else None

    def on_all(self, workload: str, *arguments: object) -> Mapping[str, Case]:
        """A workload for tools: on this package's own processes and on each tool, by name."""
        return {tool.name: Case(workload, (tool.key, *arguments), tool.subject) for tool in (US, *self.tools)}


NO_PEER = "NO PEER"
"""Shown in the table instead of a peer's figure."""
