"""The lists below the headline of a picture: tasks, running calls and failures, each in the lines it is given.

Lines are laid out here, since a table of rich's takes ten times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from amltk.display import theme, wording
from amltk.display.theme import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amltk.display.progress import Progress, TaskProgress
    from amltk.scheduling.snapshot import Counts

    Draw = Callable[[Progress, int, int], list[Text]]

NAME_WIDTH = 16
"""The minimum width of a task's name, in columns, however narrow the screen."""

MOST_CALLS = 16
"""How many running calls are listed at most."""

LEAST = 2
"""The fewest lines of a section, a header and one entry; with less room it is left out."""

TIME_WIDTH = 11
"""Columns of the time at the beginning of a line."""

_COLUMNS = {"pending": 10, "running": 9, "done": 10, "failed": 8, "cancelled": 11, "pending or running": 20}


def section_lines(progress: Progress, width: int, height: int) -> list[Text]:
    """The lines of all sections that are not empty, at most `height` of them.

    If there is not enough room, all sections get equal shares; if that is too little, the blank lines between them are
    dropped, and then the last section.
    """
    wanted: list[tuple[Draw, int]] = []
    if progress.tasks:
        wanted.append((_task_lines, 1 + sum(1 + len(task.notes) for task in progress.tasks)))
    if progress.calls:
        wanted.append((_call_lines, 1 + min(len(progress.calls), MOST_CALLS)))
    if progress.failures:
        wanted.append((_failure_lines, 1 + len(progress.failures)))
    while wanted:
        for gap in ([Text()], []):
            heights = fit([lines for _, lines in wanted], height - len(gap) * len(wanted))
            if min(heights) >= LEAST:
                drawn = [draw(progress, width, lines) for (draw, _), lines in zip(wanted, heights, strict=True)]
                return [line for section in drawn for line in (*gap, *section)]
        wanted.pop()
    return []


def fit(wanted: Sequence[int], room: int) -> list[int]:
    """Give each section the lines it wants, or an equal share if there are not enough."""
    given = [0] * len(wanted)
    while room > 0 and given != list(wanted):
        for n, lines in enumerate(wanted):
            if given[n] < lines and room > 0:
                given[n] += 1
                room -= 1
    return given


def states(counts: Counts) -> list[tuple[str, int, str]]:
    """Each state as its name, its count and its style."""
    if counts.running is None or counts.pending is None:
        unended = [("pending or running", counts.unended, theme.PENDING)]
    else:
        unended = [("pending", counts.pending, theme.PENDING), ("running", counts.running, theme.RUNNING)]
    return [
        *unended,
        ("done", counts.done, theme.DONE),
        ("failed", counts.failed, theme.FAILED),
        ("cancelled", counts.cancelled, theme.CANCELLED),
    ]


def _some(shown: int, of: int, what: str) -> str:
    """The heading of a list: `call`, or `3 of 20 calls` if it is incomplete."""
    return what if shown == of else f"{shown:,} of {of:,} {what}s"


def _name(name: str, width: int) -> Text:
    """The name of a task or function, cut or padded to `width` columns."""
    text = one_line(wording.printable(name))
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


# ---------------------------------------------------------------------------------------------------------------- tasks


def _task_lines(progress: Progress, width: int, height: int) -> list[Text]:
    columns = [name for name, _, _ in states(progress.counts)]
    while sum(_COLUMNS[name] for name in columns) > max(0, width - NAME_WIDTH):
        columns.pop()  # never cut a number: a part of it is a different number
    room = width - sum(_COLUMNS[name] for name in columns)
    shown = _most_active(progress.tasks, height - 1)
    heading = "".join(f"{name:>{_COLUMNS[name]}}" for name in columns)
    lines = [one_line((f"{_some(len(shown), len(progress.tasks), 'task'):<{room}}{heading}", theme.QUIET))]
    for task in shown:
        lines.append(_task_line(task, room, len(columns)))
        lines += [one_line((f"  {wording.printable(note)}", theme.QUIET)) for note in task.notes]
    return lines[:height]


def _most_active(tasks: Sequence[TaskProgress], room: int) -> list[TaskProgress]:
    """The most active tasks that fit, at least one, in order of creation, so that they do not change places."""
    chosen: list[int] = []
    for n in sorted(range(len(tasks)), key=lambda n: _activity(tasks[n])):
        room -= 1 + len(tasks[n].notes)
        if chosen and room < 0:
            break
        chosen.append(n)
    return [tasks[n] for n in sorted(chosen)]


def _activity(task: TaskProgress) -> tuple[bool, bool, bool, bool]:
    counts = task.counts
    return not counts.running, not counts.unended, not counts.failed, not counts.submitted


def _task_line(task: TaskProgress, room: int, n_columns: int) -> Text:
    line = _name(task.name, room)
    for name, n, style in states(task.counts)[:n_columns]:
        line.append(f"{n:>{_COLUMNS[name]},}", style if n else theme.QUIET)
    return line


# ---------------------------------------------------------------------------------------------------------------- calls


def _call_lines(progress: Progress, width: int, height: int) -> list[Text]:
    shown = progress.calls[: height - 1]
    room = min(max(len(call.name) for call in shown), width // 2)
    heading = _some(len(shown), len(progress.calls), "call")
    lines = [one_line((f"{'running for':>{TIME_WIDTH}}  {heading}", theme.QUIET))]
    for call in shown:
        time = (f"{wording.duration(call.seconds):>{TIME_WIDTH}}  ", theme.RUNNING)
        line = one_line(time).append_text(_name(call.name, room))
        lines.append(line.append(f"  {wording.printable(call.where)}", theme.QUIET))
    return lines


# ------------------------------------------------------------------------------------------------------------- failures


def _failure_lines(progress: Progress, width: int, height: int) -> list[Text]:
    shown = progress.failures[: height - 1]
    room = min(max(len(failure.name) for failure in shown), width // 3)
    lines = [one_line((f"{'last failed':>{TIME_WIDTH}}  call", theme.QUIET))]
    for failure in shown:
        ago = f"{wording.duration(progress.elapsed - failure.at)} ago"
        line = one_line((f"{ago:>{TIME_WIDTH}}  ", theme.FAILED)).append_text(_name(failure.name, room))
        lines.append(line.append(f"  {failure.text}"))
    return lines
