"""One picture of a run: a panel, or a few lines of plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.segment import Segment, Segments
from rich.text import Text

from amltk.display import theme, wording
from amltk.display.bars import bar_lines, time_left, to_go
from amltk.display.sections import section_lines, states
from amltk.display.theme import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from amltk.display.progress import Progress

WIDTH = 100
"""The maximum width of the panel, in columns; longer lines are hard to read."""

MARGIN = 4
"""Columns that the panel's border and padding take."""

BORDERS = 2
"""Lines that the panel's border takes."""

SEPARATOR = " · "

LEAST_HEIGHT = 6
"""The minimum height of the panel, in lines, however high the user's own renderables are."""


class Frame:
    """One picture of a run. Only the parts that the screen asks for are made.

    Args:
        progress: The progress of the run.
        executor: A short description of the executor.
        renderables: The user's own, shown below the panel.
    """

    def __init__(self, progress: Progress, executor: str, renderables: Sequence[RenderableType]) -> None:
        self._progress = progress
        self._executor = executor
        self._renderables = renderables

    @property
    def elapsed(self) -> float:
        """The time of this picture, in seconds since the start of the run."""
        return self._progress.elapsed

    def lines(self, *, after: float) -> list[str]:
        """Plain text for logs: one line for the run, and one for each recent failure later than `after` seconds."""
        progress = self._progress
        parts = [
            progress.state,
            f"{wording.duration(progress.elapsed)} elapsed",
            *(f"{n} {name}" for name, n, _ in _told(progress)),
            wording.rate(progress.rate),
            *progress.pools,
            *(part for part in (progress.waits, progress.workers) if part),
            *to_go(progress),
        ]
        if progress.active and progress.timeout is not None:
            parts.append(time_left(progress.elapsed - progress.uncounted, progress.timeout))
        failures = [failure for failure in reversed(progress.failures) if failure.at > after]
        return [
            *(f"amltk: failed: {wording.printable(failure.name)}: {failure.text}" for failure in failures),
            f"amltk: {', '.join(parts)}",
        ]

    def picture(self, width: int, height: int) -> RenderableType:
        """A panel of `width` columns, but at most `WIDTH`, and the user's renderables, in `height` lines."""
        return _Picture(self, self._renderables, width, height)

    def panel(self, width: int, height: int) -> Panel:
        """The panel alone."""
        progress = self._progress
        inner = width - MARGIN
        parts = [*_headline(progress, inner), *bar_lines(progress, inner), *_legend(progress, inner)]
        parts += section_lines(progress, inner, height - len(parts) - BORDERS)
        return Panel(
            Group(*parts),
            title=Text.assemble(("Scheduler", theme.TITLE), (f" · {self._executor}", "not dim")),
            title_align="left",
            border_style=theme.FRAME,
            padding=(0, 1),
            width=width,
        )


class _Picture:
    """A panel that takes the lines left over by the user's renderables below it."""

    def __init__(self, frame: Frame, renderables: Sequence[RenderableType], width: int, height: int) -> None:
        self._frame = frame
        self._renderables = renderables
        self._width = width
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        below = []
        for renderable in self._renderables:
            below += console.render_lines(renderable, options.update(height=None), pad=False)
        yield self._frame.panel(min(self._width, WIDTH), max(LEAST_HEIGHT, self._height - len(below)))
        for line in below:
            yield Segments([*line, Segment.line()])


def _headline(progress: Progress, width: int) -> list[Text]:
    """State, time and rate; then the pools, on the same line if there is room."""
    text = one_line((progress.state, theme.ACTIVE if progress.active else theme.TITLE))
    text.append(f"   {wording.duration(progress.elapsed)} elapsed · {wording.rate(progress.rate)}")
    lines = [text]
    for part in (*progress.pools, progress.waits, progress.workers):
        if part and lines[-1] and len(lines[-1]) + len(SEPARATOR) + len(part) > width:
            lines.append(one_line())
        if part:
            lines[-1].append(SEPARATOR if lines[-1] else "").append(part)
    return lines


def _told(progress: Progress) -> list[tuple[str, int, str]]:
    """The count of each state, and of callback errors if there are any."""
    n = progress.callback_exceptions
    raised = [(f"callback {'error' if n == 1 else 'errors'}", n, theme.FAILED)] if n else []
    return [*states(progress.counts), *raised]


def _legend(progress: Progress, width: int) -> list[Text]:
    """The same counts as `_told`, on one line if there is room."""
    lines = [one_line()]
    for name, n, style in _told(progress):
        part = one_line((f"{n:,} {name}", style if n else theme.QUIET))
        if lines[-1] and len(lines[-1]) + len(SEPARATOR) + len(part) > width:
            lines.append(one_line())
        lines[-1].append(SEPARATOR if lines[-1] else "", theme.QUIET).append_text(part)
    return lines
