"""The table: what was measured, what it should be, and whether it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        row: The row of the design's budget.
        figure: What was measured.
        bound: What it should be; empty where the line is there for information.
        ours: The figure of this package: the median, with the least and the greatest.
        peers: The same of those it is compared with, each with its name.
        ratio: Ours to the peer's, or whatever the bound is about.
        ok: Whether the bound holds; None where there is none, and where it cannot be told.
    """

    row: str
    figure: str
    bound: str = ""
    ours: str = ""
    peers: str = ""
    ratio: str = ""
    ok: bool | None = None


def as_text(lines: Sequence[Line]) -> str:
    """Aligned columns."""
    heads = tuple("ok?" if field.name == "ok" else field.name for field in fields(Line))
    cells = [heads, *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rows.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(rows)


def as_data(lines: Sequence[Line]) -> list[dict[str, Any]]:
    return [asdict(line) for line in lines]


def _cells(line: Line) -> tuple[str, ...]:
    *texts, ok = astuple(line)
    undecided = "?" if line.bound else ""
    verdict = undecided if ok is None else "yes" if ok else "NO"
    return (*texts, verdict)
