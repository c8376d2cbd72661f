"""A call that another thread cancels counts as cancelled for everything that reads the journal, not as pending."""

from __future__ import annotations

import operator
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.journal import Kind
from amltk.journal.folder import Folder
from amltk.journal.live.follower import Follower
from amltk.journal.live.table import Query
from amltk.journal.writer import Writer
from amltk.scheduling import Scheduler
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def elsewhere(ask: Callable[[], object]) -> None:
    """Ask in another thread, and wait until it has asked."""
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()


def followed(folder: Path, at_once: int = 100) -> dict[int, str]:
    """The states of calls for what follows a live journal, as the tally and the table see them."""
    follower = Follower(folder, table=True)
    try:
        while follower.advance(at_once):
            pass
        assert follower.table is not None
        rows = {row["number"]: row["state"] for row in follower.table.rows(Query())}
        assert {state: n for state, n in follower.tally.counts.items() if n} == Counter(rows.values())
    finally:
        follower.close()
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def run(folder: Path) -> list[str]:
    """Run two calls, of which another thread cancels the first; return what callbacks were told."""
    scheduler = Scheduler(SimulatedExecutor(2, duration=lambda fn, x: 1.0, outcome=lambda fn, x: fn(x)))
    task = scheduler.task(operator.neg)
    futures: list[Any] = []
    told: list[str] = []
    task.on_result(lambda future, _: told.append(f"result {future.number}"))
    task.on_cancelled(lambda future: told.append(f"cancelled {future.number}"))
    scheduler.on_start(lambda: futures.extend([task.submit(1), task.submit(2)]))
    scheduler.on_start(lambda: scheduler.call_later(0.5, lambda: elsewhere(futures[0].cancel)))
    run_in_virtual_time(scheduler.async_run(journal=folder, display=False, on_cancelled="continue"))
    return told


def test_it_is_cancelled_for_all_readers(folder: Path) -> None:
    """Calls, summary, what follows a live journal, and its table agree."""
    told = run(folder)
    assert told == ["cancelled 0", "result 1"]
    history = amltk.journal.open(folder)
    assert [call.state for call in history.calls()] == ["cancelled", "result"]
    summary = history.summary()
    assert summary.counts == {"cancelled": 1, "result": 1}
    assert summary.pending == []
    assert followed(folder) == {0: "cancelled", 1: "result"}


@pytest.mark.parametrize("at_once", [1, 100])
@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ((Kind.REQUEST,), "cancelled"),
        ((Kind.REQUEST, Kind.RESULT), "cancelled"),
        ((Kind.RESULT, Kind.REQUEST), "result"),
        ((Kind.EXCEPTION, Kind.REQUEST), "exception"),
        ((Kind.RESULT, Kind.CANCELLED), "cancelled"),
        ((Kind.EXCEPTION, Kind.SUBMISSION, Kind.REQUEST), "cancelled"),
        ((Kind.REQUEST, Kind.SUBMISSION, Kind.LOST), "lost"),
    ],
)
def test_the_first_of_what_came_together_counts(
    kinds: tuple[Kind, ...], state: str, at_once: int, folder: Path
) -> None:
    """A cancellation from outside does not change a call that has ended, nor its outcome one that was cancelled."""
    with Writer(Folder(folder)) as writer:
        call = writer.add(Kind.SUBMISSION, {"task": "train"}, call=0)
        for kind in kinds:
            writer.add(kind, {}, call=0)
    assert call is not None
    history = amltk.journal.open(folder)
    assert [call.state for call in history.calls()] == [state]
    assert history.summary().counts == {state: 1}
    assert followed(folder, at_once) == {0: state}
