"""A picture of a run."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.display.bars import shares
from amltk.display.panel import LEAST_HEIGHT, Frame
from amltk.display.progress import CallProgress, Failure, Progress, TaskProgress
from amltk.display.sections import fit
from amltk.scheduling.snapshot import Counts
from tests.unit.display.drawing import lines, picture

LIMITER = "limiter  calls 1120/2000 · concurrent 8/8"
TRAIN = TaskProgress("train", Counts(8, 2, 1110, 2, 0), (LIMITER,))
CALLS = (CallProgress("train", "process 4711", 7.0), CallProgress("train", "", 3.0))
FAILURES = (Failure("train", "ValueError: diverged", 9.0), Failure("prepare", "OSError: disk full", 2.0))

ANY_HEIGHT = 100


def progress(**changes: Any) -> Progress:
    """A run in its twelfth second."""
    usual: dict[str, Any] = {
        "state": "running",
        "active": True,
        "elapsed": 12.0,
        "timeout": 60.0,
        "rate": 92.5,
        "counts": Counts(8, 2, 1110, 2, 0),
        "total": 2000,
        "to_go": 9.5,
        "tasks": (TRAIN,),
        "calls": CALLS,
        "failures": FAILURES,
    }
    return Progress(**usual | changes)


def drawn(*, width: int = 80, height: int = ANY_HEIGHT, below: tuple[str, ...] = (), **changes: Any) -> list[str]:
    """The lines of a picture, without the frame at the sides."""
    frame = Frame(progress(**changes), "processes · 2 workers", below)
    return lines(frame.picture(width, height), width=width)


def many_tasks(n: int, *notes: str) -> tuple[TaskProgress, ...]:
    """Tasks of which only the last one is running and the last but one waits."""
    counts = [Counts(0, 0, 0, 0, 0)] * (n - 2) + [Counts(1, 0, 0, 0, 0), Counts(1, 1, 0, 0, 0)]
    return tuple(TaskProgress(f"task_{i}", c, notes) for i, c in enumerate(counts))


@pytest.mark.parametrize(("n", "text"), [(0, ""), (1, " · 1 callback error"), (1200, " · 1,200 callback errors")])
def test_errors_of_callbacks_are_told_where_there_are_any(n: int, text: str) -> None:
    """Callback errors are not a call state, and are shown only if there are any."""
    legend = next(line for line in drawn(width=100, callback_exceptions=n) if "cancelled" in line)
    assert legend.rstrip().endswith(f"0 cancelled{text}")
    (line,) = Frame(progress(callback_exceptions=n), "", ()).lines(after=20)
    assert ("callback error" in line) == bool(n)


def test_the_picture() -> None:
    """A picture shows state, rate, progress, counts, tasks with their plugins, running calls and recent failures."""
    assert drawn() == [
        "─ Scheduler · processes · 2 workers ──────────────────────────────────────────",
        "running   0:12 elapsed · 92.5/s",
        "━" * 41 + "  1,112 of 2,000 · about 0:10 to go",
        "━" * 41 + "  0:48 to the timeout",
        "6 pending · 2 running · 1,110 done · 2 failed · 0 cancelled",
        "",
        "task                           pending  running      done  failed  cancelled",
        "train                                6        2     1,110       2          0",
        "limiter  calls 1120/2000 · concurrent 8/8",
        "",
        "running for  call",
        "0:07  train  process 4711",
        "0:03  train",
        "",
        "last failed  call",
        "0:03 ago  train    ValueError: diverged",
        "0:10 ago  prepare  OSError: disk full",
        "─" * 78,
    ]


def test_what_there_is_nothing_to_tell_of_takes_no_room() -> None:
    """A run without tasks, running calls, failures, timeout or estimate takes four lines and a frame."""
    short = drawn(tasks=(), calls=(), failures=(), timeout=None, total=None, to_go=None)
    assert len(short) == 5
    assert short[2].endswith("━  1,120 submitted")


def test_an_executor_that_does_not_tell_what_runs() -> None:
    """If running calls are unknown, pending and running are shown as one number, for the run and for each task."""
    told = drawn(
        counts=Counts(8, None, 1110, 2, 0), tasks=(TaskProgress("train", Counts(8, None, 1, 0, 0), ()),), calls=()
    )
    assert told[4] == "8 pending or running · 1,110 done · 2 failed · 0 cancelled"
    assert told[6].split("  ")[0] == "task"
    assert "pending or running      done" in told[6]
    assert told[7].split() == ["train", "8", "1", "0", "0"]


def test_the_timeout_is_told_while_the_run_is_active() -> None:
    """A run that is ending no longer shows its timeout."""
    assert "to the timeout" in "\n".join(drawn())
    assert "to the timeout" not in "\n".join(drawn(active=False, state="finishing"))


def test_users_text_is_cut_and_no_markup() -> None:
    """Names, notes, places and errors are shown verbatim on one line."""
    told = drawn(
        tasks=(TaskProgress("[red]" + "t" * 100, Counts(0, 0, 0, 0, 0), ("[bold]\x1b[2J" + "n" * 100,)),),
        calls=(CallProgress("[red]" + "c" * 100, "[on red]\x1b" + "w" * 100, 1.0),),
        failures=(Failure("[red]" + "f" * 100, "[red]" + "e" * 100, 1.0),),
    )
    assert len(told) == len(drawn()) - 2
    assert told[7].startswith("[red]ttttttttttt")
    assert told[7].split()[0].endswith("…")
    assert told[8].startswith(r"[bold]\x1b[2Jnnn")
    assert told[11].startswith("0:01  [red]cccc")
    assert r"…  [on red]\x1bwww" in told[11]
    assert "…  [red]eeee" in told[14]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 300])
def test_every_width_has_one_line_for_each_thing(width: int) -> None:
    """Lines are cut, not wrapped, on a narrow screen; on a wide one the panel does not grow without limit."""
    told = picture(Frame(progress(), "processes", []).picture(width, ANY_HEIGHT), width=width).splitlines()
    legend = len(told) - 17  # only the counts continue on another line
    assert 1 <= legend <= 5
    assert {len(line) for line in told} == {min(width, 100)}


def test_on_a_narrow_screen_no_count_is_lost() -> None:
    """The counts continue on a second line if they do not fit into one."""
    told = drawn(width=44)
    assert told[4:6] == ["6 pending · 2 running · 1,110 done", "2 failed · 0 cancelled"]


@pytest.mark.parametrize(("width", "last"), [(58, "failed"), (44, "running"), (30, "pending"), (12, "task")])
def test_on_a_narrow_screen_no_number_of_a_task_is_cut(width: int, last: str) -> None:
    """Columns that do not fit are omitted entirely: a truncated number would be a different number."""
    told = drawn(width=width, height=100)
    heading = next(n for n, line in enumerate(told) if line.startswith("task"))
    assert told[heading].split()[-1] == last
    assert "…" not in told[heading] + told[heading + 1].removeprefix("train")


def test_after_the_run_the_tasks_with_failures_are_told_first() -> None:
    """Of many finished tasks, those with failures are shown first, then those that were used at all."""
    unused, used, bad = (Counts(0, 0, *ended) for ended in [(0, 0, 0), (5, 0, 0), (4, 1, 0)])
    tasks = [TaskProgress(f"task_{n}", counts, ()) for n, counts in enumerate([unused, used, used, bad])]
    told = drawn(height=10, tasks=tuple(tasks), calls=(), failures=())
    assert [line.split()[0] for line in told if line.startswith("task_")] == ["task_1", "task_3"]


@pytest.mark.parametrize("height", range(LEAST_HEIGHT + 2, 50))
@pytest.mark.parametrize("n_calls", [0, 1, 200])
@pytest.mark.parametrize("n_tasks", [2, 30])
def test_no_picture_is_higher_than_its_screen(height: int, n_calls: int, n_tasks: int) -> None:
    """With 30 tasks, 200 workers, failures and two user lines, everything fits into any height."""
    told = drawn(
        height=height,
        tasks=many_tasks(n_tasks, "limiter"),
        calls=tuple(CallProgress("train", f"process {n}", 1.0) for n in range(n_calls)),
        failures=FAILURES,
        below=("mine\nand mine",),
    )
    assert len(told) <= height
    assert told[-2:] == ["mine", "and mine"]


def test_a_list_that_is_not_complete_says_so() -> None:
    """With 24 lines, the tasks with running and pending calls are shown, and the number of the others is stated."""
    told = drawn(
        height=24,
        tasks=many_tasks(30),
        calls=tuple(CallProgress("train", f"process {n}", 9.0 - n) for n in range(200)),
    )
    text = "\n".join(told)
    assert len(told) == 24
    assert "\n5 of 30 tasks  " in text
    shown = [line.split()[0] for line in told if line.startswith("task_")]
    assert shown == ["task_0", "task_1", "task_2", "task_28", "task_29"]
    assert "\nrunning for  5 of 200 calls\n" in text
    assert "0:09  train  process 0\n" in text
    assert "0:03 ago  train" in text


def test_in_little_room_the_lines_between_go_first() -> None:
    """A low terminal shows an entry of each list, with its heading, and no empty lines."""
    told = drawn(height=12, tasks=many_tasks(5))
    assert [line.split("  ")[0] for line in told[5:-1]] == [
        "1 of 5 tasks",
        "task_4",
        "running for",
        "0:07",
        "last failed",
        "0:03 ago",
    ]


def test_users_renderables_are_below() -> None:
    """The user's renderable is drawn below the panel, which gets the remaining height."""
    high = "\n".join(f"mine {n}" for n in range(30))
    told = drawn(height=24, below=(high,))
    assert told[LEAST_HEIGHT:] == high.splitlines()


def test_the_lines_for_logs() -> None:
    """A log gets the same in one line of ASCII, and one line per new failure."""
    frame = Frame(progress(), "processes · 2 workers", [])
    line = (
        "amltk: running, 0:12 elapsed, 6 pending, 2 running, 1110 done, 2 failed, 0 cancelled, 92.5/s,"
        " about 0:10 to go, 0:48 to the timeout"
    )
    first, second = "amltk: failed: prepare: OSError: disk full", "amltk: failed: train: ValueError: diverged"
    assert frame.lines(after=0) == [first, second, line]
    assert frame.lines(after=2) == [second, line]
    assert frame.lines(after=9) == [line]


@pytest.mark.parametrize(
    ("parts", "cells"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([1, 0, 0], [10, 0, 0]),
        ([1, 1, 0], [5, 5, 0]),
        ([1, 1, 1], [4, 3, 3]),
        ([10**9, 1, 0], [9, 1, 0]),
        ([5, 1, 10**9], [1, 1, 8]),
        ([0.5, 1.5], [2, 8]),
    ],
)
def test_shares_of_the_bar(parts: list[float], cells: list[int]) -> None:
    """The bar is divided in proportion, and a single failure among a billion is visible."""
    assert shares(parts, 10) == cells


@pytest.mark.parametrize(
    ("wanted", "room", "given"),
    [
        ([], 5, []),
        ([3, 4], 10, [3, 4]),
        ([9, 9, 9], 7, [3, 2, 2]),
        ([9, 1, 9], 7, [3, 1, 3]),
        ([9, 9], -1, [0, 0]),
    ],
)
def test_shares_of_the_height(wanted: list[int], room: int, given: list[int]) -> None:
    """Small requests are met; what is left is divided evenly."""
    assert fit(wanted, room) == given
