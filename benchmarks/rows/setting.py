"""The parameters that every row needs."""

from __future__ import annotations

from collections.abc import Container, Mapping
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
        most_rounds: How often anything is measured at most; None for as often as each row asks for.
    """

    quick: bool
    tools: tuple[Tool, ...]
    most_rounds: int | None = None

    def either(self, thorough: T, quick: T) -> T:
        return quick if self.quick else thorough

    def rounds(self, thorough: int, quick: int) -> int:
        """How often to measure."""
        asked = self.either(thorough, quick)
        return asked if self.most_rounds is None else min(asked, self.most_rounds)

    def on_amltk(self, workload: str, *arguments: object) -> Case | None:
        """The same workload on AMLTK; None if it is missing."""
        return Case(workload, arguments, AMLTK.subject) if AMLTK in self.tools else None

    def on_all(self, workload: str, *arguments: object, also: Container[str] = ()) -> Mapping[str, Case]:
        """A workload for tools: on this package's own processes and on each tool, by name.

        Of the tools that are for few rows, only those in `also` take part.
        """
        names = {tool.name for tool in self.tools if not tool.for_few or tool.name in also}
        return self.on_some(names, workload, *arguments)

    def on_some(self, names: Container[str], workload: str, *arguments: object) -> Mapping[str, Case]:
        """A workload on this package's own processes and on these tools, as far as they are installed."""
        tools = (US, *(tool for tool in self.tools if tool.name in names))
        return {tool.name: Case(workload, (tool.key, *arguments), tool.subject) for tool in tools}


NO_PEER = "NO PEER"
"""Shown in the table instead of a peer's figure."""
