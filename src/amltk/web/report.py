"""Experiments as one file: the page with everything in it, for a colleague or the appendix of a paper."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk.exceptions import JournalError
from amltk.journal.live.follower import Follower
from amltk.journal.live.table import Query
from amltk.web import facts, page
from amltk.web.names import names_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

MOST_CALLS = 2000
"""How many calls of each experiment are in the file: the last ones, failures first."""

MOST_IN_FRAME = 500
"""The same in a notebook, whose file stores the page."""

FRAME_HEIGHT = 820
"""The height of the frame in a notebook, in pixels."""

MOST_FAILED = 500
"""How many failed calls are in it, with their tracebacks."""


def report(folders: Sequence[str | os.PathLike[str]], *, most: int = MOST_CALLS) -> str:
    """The page of these experiments, as one HTML file that loads nothing from anywhere.

    Args:
        folders: The folders of their journals.
        most: How many calls of each are in its table.

    Raises:
        JournalError: There is no journal, or it cannot be read; see its subclasses.
    """
    names = names_of([str(folder) for folder in folders])
    return page.embedded([_told(folder, name, most) for folder, name in zip(folders, names, strict=True)])


def frame(folder: str | os.PathLike[str]) -> str:
    """The page as an element of another one, such as a notebook: in a frame whose script is isolated."""
    source = html.escape(report([folder], most=MOST_IN_FRAME))
    style = f"display:block;width:100%;height:{FRAME_HEIGHT}px;border:0"
    return f'<iframe title="Experiment" sandbox="allow-scripts" style="{style}" srcdoc="{source}"></iframe>'


def write_report(
    folders: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str], *, most: int = MOST_CALLS
) -> None:
    """Write `report` to a file; a file that is there is replaced. Raises as `report` does, and `OSError`."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(report(folders, most=most), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _told(folder: str | os.PathLike[str], name: str, most: int) -> dict[str, Any]:
    follower = Follower(folder, table=True)
    try:
        follower.finish()
        if follower.problem and not follower.tally.records:
            raise JournalError(follower.problem)
        told: dict[str, Any] = facts.plain(_everything(follower, name, most))
        return told
    finally:
        follower.close()


def _everything(follower: Follower, name: str, most: int) -> dict[str, Any]:
    table = follower.table
    assert table is not None
    failed = table.rows(Query(states=("exception", "lost"), limit=min(MOST_FAILED, most)))
    chosen = {row["number"]: row for row in failed}
    extremes = {
        point.call
        for series in follower.tally.series.by_name.values()
        for best in (series.lowest, series.highest)
        for point in best.steps[-1:]
    }
    for number in extremes:
        if (row := table.row(number)) is not None:
            chosen[number] = row
    for row in table.rows(Query(limit=most)):
        if len(chosen) >= most:
            break
        chosen.setdefault(row["number"], row)
    rows = [chosen[number] for number in sorted(chosen)]
    detailed = {*(row["number"] for row in failed), *extremes}
    return {
        "overview": facts.overview(follower, name),
        "count": follower.tally.submitted,
        "calls": rows,
        "details": {number: facts.call(follower, number) for number in sorted(detailed)},
    }
