"""Progress bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from amltk.display import theme, wording
from amltk.display.theme import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from amltk.display.progress import Progress

LEAST = 10
"""The narrowest bar worth drawing, in columns; on a narrower screen only its label is shown."""

Parts = list[tuple[float, str]]


def bar_lines(progress: Progress, width: int) -> list[Text]:
    """A bar for submissions, and one for the time until the timeout if there is a timeout."""
    bars = [_of_submissions(progress)]
    if progress.active and progress.timeout:
        bars.append(_of_time(progress.elapsed - progress.uncounted, progress.timeout))
    room = width - max(len(label) for _, label in bars) - 2
    return [_line(parts, label, room) for parts, label in bars]


def _of_submissions(progress: Progress) -> tuple[Parts, str]:
    counts = progress.counts
    whole = max(counts.submitted, progress.total or 0)
    parts: Parts = [
        (counts.done, theme.DONE),
        (counts.failed, theme.FAILED),
        (counts.cancelled, theme.CANCELLED),
        (counts.running or 0, theme.RUNNING),
        (whole - counts.ended - (counts.running or 0), theme.FRAME),
    ]
    label = f"{counts.ended:,} of {whole:,}" if progress.total is not None else f"{counts.submitted:,} submitted"
    return parts, " · ".join([label, *to_go(progress)])


def _of_time(elapsed: float, timeout: float) -> tuple[Parts, str]:
    left = max(0.0, timeout - elapsed)
    parts: Parts = [(min(elapsed, timeout), theme.TIME), (left, theme.FRAME)]
    return parts, time_left(elapsed, timeout)


def to_go(progress: Progress) -> list[str]:
    """The estimated time left, in words; empty if there is no estimate."""
    return [] if progress.to_go is None else [f"about {wording.duration(math.ceil(progress.to_go))} to go"]


def time_left(elapsed: float, timeout: float) -> str:
    """The time left until the timeout, in words."""
    return f"{wording.duration(math.ceil(max(0.0, timeout - elapsed)))} to the timeout"


def _line(parts: Parts, label: str, room: int) -> Text:
    line = one_line()
    if room >= LEAST:
        cells = shares([part for part, _ in parts], room)
        for n, (_, style) in zip(cells, parts, strict=True):
            line.append("━" * n, style)
        line.append("━" * (room - sum(cells)), theme.FRAME)
        line.append("  ")
    return line.append(label)


def shares(parts: Sequence[float], width: int) -> list[int]:
    """Divide `width` cells in proportion; each part above 0 gets at least one, so that a single failure is visible."""
    total = sum(parts)
    if not total:
        return [0] * len(parts)
    cells = [max(1, int(part * width / total)) if part else 0 for part in parts]
    cells[cells.index(max(cells))] += width - sum(cells)  # the largest part absorbs the rounding
    return cells
