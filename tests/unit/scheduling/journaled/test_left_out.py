"""Tools tell of what the program does by now: what a branch has left out is no part of the experiment."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import pytest

import amltk.journal
from amltk.journal.live.follower import Follower
from amltk.journal.live.table import Query
from amltk.scheduling import Journal, Scheduler
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def search(folder: Path, numbers: Sequence[int]) -> None:
    """Negate numbers; -1 fails. A program that does something else branches."""
    scheduler = Scheduler(SimulatedExecutor(2, outcome=operator.call))
    task = scheduler.task(negative)
    scheduler.on_start(lambda: [task.submit(number) for number in numbers])
    journal = Journal(folder, on_mismatch="branch")
    run_in_virtual_time(scheduler.async_run(journal=journal, on_exception="continue", display=False))


def negative(number: int) -> int:
    if number == -1:
        raise ArithmeticError("no such number")
    return -number


def told(folder: Path) -> list[list[tuple[int, str, str]]]:
    """The calls as each of the readers tells of them."""
    follower = Follower(folder, table=True)
    follower.finish()
    assert follower.table is not None
    rows = follower.table.rows(Query(descending=False))
    table = [(row["number"], row["arguments"], row["state"]) for row in rows]
    assert sum(follower.tally.counts.values()) == len(table)
    follower.close()
    calls = amltk.journal.open(folder).calls()
    return [table, [(call.number, call.arguments, call.state) for call in calls]]


@pytest.mark.parametrize("numbers", [[1], [1, 2], [1, 9, 3], [7], [1, 2, 3, 4, 8]])
def test_a_branch(tmp_path: Path, numbers: list[int]) -> None:
    """Calls that the program does not submit any more, their numbers and failures are not shown."""
    search(tmp_path, [1, 2, 3, 400, -1])
    follower = Follower(tmp_path, table=True)
    follower.finish()  # it sees the branch come
    search(tmp_path, numbers)
    expected = [(number, f"({given})", "result") for number, given in enumerate(numbers)]
    assert told(tmp_path) == [expected, expected]
    follower.finish()
    assert follower.tally.counts["result"] == follower.tally.submitted == len(numbers)
    follower.close()
    summary = amltk.journal.open(tmp_path).summary()
    assert (dict(summary.counts), summary.errors) == ({"result": len(numbers)}, {})
    assert summary.lowest is not None
    assert summary.lowest.result == -max(numbers)
    assert {call.number for call in summary.last} <= set(range(len(numbers)))


def test_what_goes_further_is_read_once(tmp_path: Path) -> None:
    """A program that only goes further has left out that the run had ended, which is about no call."""
    search(tmp_path, [1])
    search(tmp_path, [1, 2])
    search(tmp_path, [1, 2, 3])
    follower = Follower(tmp_path)
    follower.finish()
    assert follower.generation == 0
    assert follower.tally.counts["result"] == 3
    follower.close()


def test_a_rewind_behind_a_branch(tmp_path: Path) -> None:
    """To go back to a call is to go back to where the program submits it by now, and not to one that was left out."""
    search(tmp_path, [1, 2, 3])
    search(tmp_path, [1, 9, 3])
    search(tmp_path, [1, 9, 3, 4])
    amltk.journal.rewind(tmp_path, call=3)
    assert [arguments for _, arguments, _ in told(tmp_path)[0]] == ["(1)", "(9)", "(3)"]
    amltk.journal.rewind(tmp_path, call=2)
    assert [arguments for _, arguments, _ in told(tmp_path)[0]] == ["(1)", "(9)"]
    with pytest.raises(ValueError, match="no such call"):
        amltk.journal.rewind(tmp_path, call=5)
