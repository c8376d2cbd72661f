"""One picture of a run: drawn as a panel, or told in one line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.segment import Segment
from rich.text import Text

from amltk.display import theme, wording
from amltk.display.theme import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from amltk.display.progress import Counts, Progress, TaskProgress

WIDTH = 100
"""Columns that the panel takes at most; wider lines are hard to read."""


NAME_WIDTH = 12
"""Columns that the name of a task has at least, however narrow the screen."""

_COLUMNS = {"running for": 13, "pending": 10, "done": 10, "failed": 10, "cancelled": 11}


class Frame:
    """One picture of a run, made only as far as the screen asks for it.

    Args:
        progress: How the run goes.
        executor: The executor in short.
        renderables: The user's own, shown below the panel.
    """

    def __init__(self, progress: Progress, executor: str, renderables: Sequence[RenderableType]) -> None:
        self._progress = progress
        self._executor = executor
        self._renderables = renderables

    def line(self) -> str:
        """In one line of plain ASCII, for logs."""
        progress = self._progress
        counts = progress.counts
        parts = [
            progress.state,
            f"{wording.duration(progress.elapsed)} elapsed",
            f"{counts.submitted} submitted",
            f"{counts.pending} pending",
            f"{counts.done} done",
            f"{counts.failed} failed",
            f"{counts.cancelled} cancelled",
            wording.rate(progress.rate),
            *_prospects(progress),
        ]
        return f"amltk: {', '.join(parts)}"

    def picture(self, available: int) -> RenderableType:
        """As a panel that takes the `available` columns, or `WIDTH` if that is less, and what the user added."""
        progress = self._progress
        parts: list[RenderableType] = [_headline(progress), StateBar(progress.counts), _legend(progress.counts)]
        if progress.tasks:
            parts += ["", TaskLines(progress)]
        if progress.failure is not None:
            parts += ["", one_line(("last failure  ", theme.FAILED), progress.failure)]
        panel = Panel(
            Group(*parts),
            title=Text.assemble(("Scheduler", theme.TITLE), (f" · {self._executor}", "not dim")),
            title_align="left",
            border_style=theme.FRAME,
            padding=(0, 1),
            width=min(available, WIDTH),
        )
        return Group(panel, *self._renderables)


class StateBar:
    """A bar that shows the share of each state, over the whole width."""

    def __init__(self, counts: Counts) -> None:
        self._parts = (
            (counts.done, theme.DONE),
            (counts.failed, theme.FAILED),
            (counts.cancelled, theme.CANCELLED),
            (counts.pending, theme.FRAME),
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = shares([part for part, _ in self._parts], options.max_width)
        for n, (_, style) in zip(cells, self._parts, strict=True):
            yield Segment("━" * n, console.get_style(style))
        yield Segment("━" * (options.max_width - sum(cells)), console.get_style(theme.FRAME))
        yield Segment.line()


def shares(parts: Sequence[int], width: int) -> list[int]:
    """Divide `width` cells in proportion; what is not nothing has a cell at least, so that one failure is seen."""
    total = sum(parts)
    if not total:
        return [0] * len(parts)
    cells = [max(1, part * width // total) if part else 0 for part in parts]
    cells[cells.index(max(cells))] += width - sum(cells)  # the largest bears the rounding
    return cells


def _prospects(progress: Progress) -> list[str]:
    parts = []
    if progress.to_go is not None:
        parts.append(f"about {wording.duration(math.ceil(progress.to_go))} to go")
    if progress.left is not None:
        parts.append(f"{wording.duration(math.ceil(progress.left))} to the timeout")
    return parts


def _headline(progress: Progress) -> Text:
    text = one_line((progress.state, theme.ACTIVE if progress.active else theme.TITLE))
    parts = [f"{wording.duration(progress.elapsed)} elapsed", wording.rate(progress.rate), *_prospects(progress)]
    return text.append("   " + " · ".join(parts))


def _legend(counts: Counts) -> Text:
    text = one_line(f"{counts.submitted:,} submitted")
    for title, n, style in _states(counts):
        text.append(" · ", theme.QUIET).append(f"{n:,} {title}", style if n else theme.QUIET)
    return text


class TaskLines:
    """A table of tasks. Laid out here, since rich takes ten times as long for it, and notes go across its columns."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(NAME_WIDTH, options.max_width - sum(_COLUMNS.values()))
        header = "".join(f"{title:>{width}}" for title, width in _COLUMNS.items())
        yield one_line((f"{'task':<{room}}{header}", theme.QUIET))
        for task in self._progress.tasks:
            yield _task_line(task, room)
            for note in task.notes:
                yield one_line((f"  {wording.printable(note)}", theme.QUIET))
        if self._progress.more_tasks:
            yield one_line((f"… and {self._progress.more_tasks:,} more", theme.QUIET))


def _task_line(task: TaskProgress, room: int) -> Text:
    counts = task.counts
    line = one_line(wording.printable(task.name))
    line.truncate(room, overflow="ellipsis", pad=True)
    line.append(f"{'' if task.longest is None else wording.duration(task.longest):>{_COLUMNS['running for']}}")
    for title, n, style in _states(counts):
        line.append(f"{n:>{_COLUMNS[title]},}", style if n else theme.QUIET)
    return line


def _states(counts: Counts) -> list[tuple[str, int, str]]:
    return [
        ("pending", counts.pending, theme.PENDING),
        ("done", counts.done, theme.DONE),
        ("failed", counts.failed, theme.FAILED),
        ("cancelled", counts.cancelled, theme.CANCELLED),
    ]
