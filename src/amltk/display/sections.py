"""The lists below the headline of a picture: tasks, running calls and failures, each in as many lines as it gets.

Lines are laid out here, since rich takes ten times as long for a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk.display import theme, wording
from amltk.display.theme import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.text import Text

    from amltk.display.progress import Progress, TaskProgress
    from amltk.scheduling.snapshot import Counts

    Draw = Callable[[int, int], list[Text]]

NAME_WIDTH = 12
"""Columns that the name of a task has at least, however narrow the screen."""

MOST_CALLS = 16
"""Running calls that are listed, at most."""

LEAST = 2
"""Lines below which a section is left out: a header and one entry."""

TIME_WIDTH = 11
"""Columns of what begins a line with a time."""

_COLUMNS = {"pending": 10, "running": 9, "done": 10, "failed": 8, "cancelled": 11, "pending or running": 20}


def sections(progress: Progress, width: int, height: int) -> list[list[Text]]:
    """The sections that there is something to tell in, in `height` lines, with one before each.

    Where there is too little room, all are given the same.
    """
    wanted = [
        (_task_lines, 1 + sum(1 + len(task.notes) for task in progress.tasks) if progress.tasks else 0),
        (_call_lines, 1 + min(len(progress.calls), MOST_CALLS) if progress.calls else 0),
        (_failure_lines, 1 + len(progress.failures) if progress.failures else 0),
    ]
    wanted = [(draw, lines) for draw, lines in wanted if lines]
    while wanted:
        heights = fit([lines for _, lines in wanted], height - len(wanted))
        if min(heights) >= LEAST:
            return [draw(progress, width, lines) for (draw, _), lines in zip(wanted, heights, strict=True)]
        wanted.pop()
    return []


def fit(wanted: Sequence[int], room: int) -> list[int]:
    """Give each as many lines as it wants, or an equal share where there are not enough."""
    given = [0] * len(wanted)
    while room > 0 and given != list(wanted):
        for n, lines in enumerate(wanted):
            if given[n] < lines and room > 0:
                given[n] += 1
                room -= 1
    return given


def states(counts: Counts) -> list[tuple[str, int, str]]:
    """Each state with its name, how many are in it, and its style."""
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


def more(n: int) -> Text:
    """That there are others."""
    return one_line((f"… and {n:,} more", theme.QUIET))


# ---------------------------------------------------------------------------------------------------------------- tasks


def _task_lines(progress: Progress, width: int, height: int) -> list[Text]:
    columns = "".join(f"{name:>{_COLUMNS[name]}}" for name, _, _ in states(progress.counts))
    room = max(NAME_WIDTH, width - len(columns))
    shown = _most_active(progress.tasks, height - 1)
    lines = [one_line((f"{'task':<{room}}{columns}", theme.QUIET))]
    for task in shown:
        lines.append(_task_line(task, room))
        lines += [one_line((f"  {wording.printable(note)}", theme.QUIET)) for note in task.notes]
    if len(shown) < len(progress.tasks) or len(lines) > height:
        lines[height - 1 :] = [more(len(progress.tasks) - len(shown))] if len(shown) < len(progress.tasks) else []
    return lines


def _most_active(tasks: Sequence[TaskProgress], room: int) -> list[TaskProgress]:
    """Those that fit, in the order in which they were made, so that they do not change places; one at least."""
    if sum(1 + len(task.notes) for task in tasks) <= room:
        return list(tasks)
    chosen: list[int] = []
    room -= 1  # for telling how many there are beside
    for n in sorted(range(len(tasks)), key=lambda n: _activity(tasks[n])):
        room -= 1 + len(tasks[n].notes)
        if chosen and room < 0:
            break
        chosen.append(n)
    return [tasks[n] for n in sorted(chosen)]


def _activity(task: TaskProgress) -> tuple[bool, bool]:
    return not task.counts.running, not task.counts.unended


def _task_line(task: TaskProgress, room: int) -> Text:
    line = _name(task.name, room)
    for name, n, style in states(task.counts):
        line.append(f"{n:>{_COLUMNS[name]},}", style if n else theme.QUIET)
    return line


# ---------------------------------------------------------------------------------------------------------------- calls


def _call_lines(progress: Progress, width: int, height: int) -> list[Text]:
    rows = height - 1 if len(progress.calls) < height else max(1, height - 2)
    shown = progress.calls[:rows]
    room = min(max(len(call.name) for call in shown), width // 3)
    lines = [one_line((f"{'running for':>{TIME_WIDTH}}  call", theme.QUIET))]
    for call in shown:
        time = (f"{wording.duration(call.seconds):>{TIME_WIDTH}}  ", theme.RUNNING)
        line = one_line(time).append_text(_name(call.name, room))
        lines.append(line.append(f"  {wording.printable(call.where)}", theme.QUIET))
    if len(shown) < len(progress.calls) and len(lines) < height:
        lines.append(more(len(progress.calls) - len(shown)))
    return lines


# ------------------------------------------------------------------------------------------------------------- failures


def _failure_lines(progress: Progress, width: int, height: int) -> list[Text]:
    shown = progress.failures[: height - 1]
    room = min(max(len(failure.name) for failure in shown), width // 4)
    lines = [one_line((f"{'last failed':>{TIME_WIDTH}}  call", theme.QUIET))]
    for failure in shown:
        ago = f"{wording.duration(progress.elapsed - failure.at)} ago"
        line = one_line((f"{ago:>{TIME_WIDTH}}  ", theme.FAILED)).append_text(_name(failure.name, room))
        lines.append(line.append(f"  {failure.text}"))
    return lines


def _name(name: str, width: int) -> Text:
    """The name of a task or function in so many columns."""
    text = one_line(wording.printable(name))
    text.truncate(width, overflow="ellipsis", pad=True)
    return text
