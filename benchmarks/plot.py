"""The ratios as one picture: a panel per row, a line per figure, a marker per peer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.subjects import TOOLS
from benchmarks.table import Line

LOOKS = dict(
    zip(
        (tool.name for tool in TOOLS),
        # Okabe and Ito's palette is safe for the colour-blind; the markers differ in grey as well.
        (
            ("#000000", "o"),
            ("#E69F00", "s"),
            ("#56B4E9", "^"),
            ("#009E73", "v"),
            ("#D55E00", "D"),
            ("#0072B2", "P"),
            ("#6F6F6F", "p"),
            ("#CC79A7", "X"),
            ("#8A7A00", "*"),
            ("#7B3294", "h"),
            ("#40B0A6", "d"),
        ),
        strict=True,
    )
)


def save(lines: Sequence[Line], path: Path) -> None:
    """Plot all ratios to peers on one logarithmic axis; this package is better on the right."""
    from matplotlib.figure import Figure

    panels = _panels(lines)
    if not panels:
        return
    counts = [len(figures) for figures in panels.values()]
    figure = Figure(figsize=(12, 1.8 + 0.34 * sum(counts) + 0.42 * len(counts)), layout="constrained")
    axes = figure.subplots(len(counts), sharex=True, squeeze=False, height_ratios=[n + 0.6 for n in counts])[:, 0]
    for axis, (row, figures) in zip(axes, panels.items(), strict=True):
        _draw(axis, row, figures)
    axes[0].set_xscale("log")
    axes[0].xaxis.set_major_formatter(lambda value, _position: f"{value:g}x")
    axes[0].tick_params(top=True, labeltop=True)
    axes[-1].set_xlabel(" ", fontsize=11)  # room for the labels that explain the two sides
    low, high = axes[0].get_xlim()
    axes[0].set_xlim(min(low, 0.5), max(high, 2))
    for text, side in (("← the peer is better   ", "right"), ("   this package is better →", "left")):
        where = axes[-1].get_xaxis_transform()
        axes[-1].annotate(text, (1, 0), (0, -20), where, "offset points", ha=side, va="top", fontsize=11)
    figure.suptitle(
        "This package against its peers: medians of interleaved runs, bars from the least to the greatest\n"
        "(rates: ours / theirs; times and bytes: theirs / ours)",
        fontsize=11,
    )
    figure.legend(handles=_legend(panels), loc="outside lower center", ncols=len(LOOKS), frameon=False)
    figure.savefig(path, dpi=110)


Panels = dict[str, dict[str, list[Line]]]


def _panels(lines: Sequence[Line]) -> Panels:
    """Group the lines that compare with a peer by row, then by figure."""
    panels: Panels = {}
    for line in lines:
        if line.times_better is not None and line.peer in LOOKS:
            panels.setdefault(line.row, {}).setdefault(line.figure, []).append(line)
    return panels


def _draw(axis: Any, row: str, figures: dict[str, list[Line]]) -> None:
    axis.axvline(1, color="black", linewidth=1)
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    for place, lines in enumerate(figures.values()):
        if place % 2:
            axis.axhspan(place - 0.5, place + 0.5, color="0.96", zorder=0)
        for number, line in enumerate(lines):
            # Stack them vertically, or markers with equal ratios would hide each other.
            height = place + 0.6 * ((number + 0.5) / len(lines) - 0.5)
            colour, mark = LOOKS[line.peer]
            times = line.times_better
            assert times is not None, line
            axis.plot([times.least, times.most], [height, height], color=colour, linewidth=1.2)
            axis.plot(times.median, height, mark, color=colour, markersize=5, markeredgewidth=0)
    axis.set_ylim(len(figures) - 0.5, -0.5)
    axis.set_yticks(range(len(figures)), list(figures), fontsize=8)
    axis.set_title(row, loc="left", weight="bold", fontsize=9)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_color("0.8")


def _legend(panels: Panels) -> list[Any]:
    from matplotlib.lines import Line2D

    there = {line.peer for figures in panels.values() for lines in figures.values() for line in lines}
    return [
        Line2D([], [], color=colour, marker=mark, markersize=7, linewidth=1.2, label=name)
        for name, (colour, mark) in LOOKS.items()
        if name in there
    ]
