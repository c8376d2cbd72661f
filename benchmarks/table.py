"""The table: what was measured, the expected value, the comparison, and whether each bound holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

from benchmarks.measure import Spread


class Better(Enum):
    """Which direction is good, for a figure and hence for a ratio of two figures."""

    MORE = "> 1"
    LESS = "< 1"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        row: The row that measured it.
        figure: What was measured.
        bound: The expected value; empty if the line is informational.
        ours: This package's figure: the median, with minimum and maximum.
        peer: The tool or baseline it is compared with.
        theirs: The peer's figure, or the reason it is missing.
        ratio: Ours to theirs, round by round; None if there is nothing to compare.
        better: Which direction of the ratio is good; None if neither is.
        ok: Whether the bound holds; None if there is no bound or it cannot be decided.
    """

    row: str
    figure: str
    bound: str = ""
    ours: str = ""
    peer: str = ""
    theirs: str = ""
    ratio: Spread | None = None
    better: Better | None = None
    ok: bool | None = None

    @property
    def times_better(self) -> Spread | None:
        """How many times better ours is: the ratio, inverted if lower is better. None if undefined."""
        if self.ratio is None or self.better is None:
            return None
        return self.ratio if self.better is Better.MORE else Spread([1 / value for value in self.ratio.values])


HEADS = ("row", "figure", "bound", "ours", "peer", "theirs", "ours / theirs", "better", "ok?")
SAID_ONCE = (0, 1, 3)
"""Columns that are left blank when they repeat the line above."""


def as_text(lines: Sequence[Line]) -> str:
    """The table as aligned columns."""
    cells = [HEADS, *_without_repeats([_cells(line) for line in lines])]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rows.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(rows)


def as_page(lines: Sequence[Line], peers: Sequence[str]) -> str:
    """Two tables for a Markdown page: how many times better than each peer, and than what single rows compare with."""
    return "\n\n".join(filter(None, (_beside_peers(lines, peers), _beside_others(lines, peers))))


def _beside_peers(lines: Sequence[Line], peers: Sequence[str]) -> str:
    """One line for each figure, one column for each peer."""
    figures: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        if line.peer in peers and line.times_better is not None:
            cells = figures.setdefault((line.row, line.figure), {"ours": _median(line.ours)})
            cells[line.peer] = _times(line.times_better)
    heads = ["row", "figure", "ours", *peers]
    return _markdown(
        heads, [[row, figure, *(cells.get(head, "") for head in heads[2:])] for (row, figure), cells in figures.items()]
    )


def _beside_others(lines: Sequence[Line], peers: Sequence[str]) -> str:
    """One line for each comparison with something else, such as another way to use the same executor."""
    return _markdown(
        ["row", "figure", "ours", "beside", "theirs", "times better"],
        [
            [line.row, line.figure, _median(line.ours), line.peer, _median(line.theirs), _times(line.times_better)]
            for line in lines
            if line.peer not in peers and line.times_better is not None
        ],
    )


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows))


def _median(shown: str) -> str:
    """Without the least and the greatest."""
    return shown.partition(" (")[0]


def _times(spread: Spread) -> str:
    return f"{spread.median:,.0f}" if spread.median >= 10 else f"{spread.median:.2g}"


def as_data(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The table for JSON: the ratios round by round."""
    return [
        asdict(line)
        | {"ratio": line.ratio and list(line.ratio.values), "better": line.better and line.better.name.lower()}
        for line in lines
    ]


def _cells(line: Line) -> tuple[str, ...]:
    ratio = "" if line.ratio is None else line.ratio.show("{:.3g}")
    better = "" if line.better is None or line.ratio is None else line.better.value
    undecided = "?" if line.bound else ""
    verdict = undecided if line.ok is None else "yes" if line.ok else "NO"
    return line.row, line.figure, line.bound, line.ours, line.peer, line.theirs, ratio, better, verdict


def _without_repeats(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    shown = list(rows[:1])
    for above, row in pairwise(rows):
        same = all(row[column] == above[column] for column in SAID_ONCE)
        shown.append(tuple("" if same and column in SAID_ONCE else cell for column, cell in enumerate(row)))
    return shown
