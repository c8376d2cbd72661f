"""One picture of a run."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.display.panel import Frame, shares
from amltk.display.progress import Counts, Progress, TaskProgress
from tests.unit.display.drawing import lines

TRAIN = TaskProgress("train", Counts(8, 1110, 2, 0), 12.0, ("limiter  calls 1120/2000 · concurrent 8/8",))


def progress(**changes: Any) -> Progress:
    """A run in its twelfth second."""
    usual: dict[str, Any] = {
        "state": "running",
        "active": True,
        "elapsed": 12.0,
        "left": 48.0,
        "to_go": None,
        "rate": 92.5,
        "counts": Counts(8, 1110, 2, 0),
        "tasks": (TRAIN,),
        "more_tasks": 0,
        "failure": "ValueError: diverged in train, 0:03 ago",
    }
    return Progress(**usual | changes)


def drawn(*, width: int = 80, **changes: Any) -> list[str]:
    """The lines of a picture."""
    return lines(Frame(progress(**changes), "processes · 8 workers", []).picture(width), width=width)


def test_the_picture() -> None:
    """A picture tells state, times, rate, counts, tasks with the notes of their plugins, and the last failure."""
    assert drawn() == [
        "─ Scheduler · processes · 8 workers ──────────────────────────────────────────",
        "running   0:12 elapsed · 92.5/s · 0:48 to the timeout",
        "━" * 76,
        "1,120 submitted · 8 pending · 1,110 done · 2 failed · 0 cancelled",
        "",
        "task                    running for   pending      done    failed  cancelled",
        "train                          0:12         8     1,110         2          0",
        "limiter  calls 1120/2000 · concurrent 8/8",
        "",
        "last failure  ValueError: diverged in train, 0:03 ago",
        "─" * 78,
    ]


def test_a_run_without_tasks_and_failures_is_four_lines() -> None:
    """What there is nothing to tell of takes no room."""
    picture = drawn(tasks=(), failure=None, left=None, to_go=80.0)
    assert len(picture) == 5
    assert picture[1] == "running   0:12 elapsed · 92.5/s · about 1:20 to go"


def test_tasks_that_are_not_shown_are_counted() -> None:
    """Where there are more tasks than are shown, it is told how many."""
    assert "… and 1,040 more" in drawn(more_tasks=1040)


def test_users_text_is_cut_and_no_markup() -> None:
    """Names and notes keep to one line, as they are."""
    task = TaskProgress("[red]" + "t" * 100, Counts(0, 0, 0, 0), None, ("[bold]\x1b[2J" + "n" * 100,))
    picture = drawn(tasks=(task,), failure="[red]" + "e" * 100)
    assert len(picture) == len(drawn())
    assert picture[6].startswith("[red]ttttttttttt")
    assert picture[6].split()[0].endswith("…")
    assert picture[7].startswith(r"[bold]\x1b[2Jnnn")


@pytest.mark.parametrize("width", [20, 40, 100, 300])
def test_every_width_has_one_line_for_each_thing(width: int) -> None:
    """On a narrow screen lines are cut, not wrapped; on a wide one the panel does not grow without end."""
    picture = drawn(width=width)
    assert len(picture) == 11
    assert max(map(len, picture)) <= 100


def test_users_renderables_are_below() -> None:
    """What the user added is drawn below the panel."""
    frame = Frame(progress(), "sequential", ["best: 0.93"])
    assert lines(frame.picture(80))[-1] == "best: 0.93"


def test_the_line_for_logs() -> None:
    """In a log the same is told in one line of ASCII."""
    line = Frame(progress(), "processes · 8 workers", []).line()
    assert line == (
        "amltk: running, 0:12 elapsed, 1120 submitted, 8 pending, 1110 done, 2 failed, 0 cancelled, 92.5/s,"
        " 0:48 to the timeout"
    )


@pytest.mark.parametrize(
    ("parts", "cells"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([1, 0, 0], [10, 0, 0]),
        ([1, 1, 0], [5, 5, 0]),
        ([1, 1, 1], [4, 3, 3]),
        ([10**9, 1, 0], [9, 1, 0]),
        ([5, 1, 10**9], [1, 1, 8]),
    ],
)
def test_shares_of_the_bar(parts: list[int], cells: list[int]) -> None:
    """The bar is divided in proportion, and a single failure among a billion is seen."""
    assert shares(parts, 10) == cells
