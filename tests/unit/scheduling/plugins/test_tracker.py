"""Observers of calls: what is written when, and that a failing one is never the run's concern."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState
from amltk.scheduling.executors.whereabouts import Whereabouts
from amltk.scheduling.plugins.tracker import Tracker
from tests.unit.program import CANCELLED, ENDED, EXCEPTION, RESULT, SUBMITTED, ComputeError, Program

if TYPE_CHECKING:
    from amltk.scheduling.plugins.record import CallRecord

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)


class Notebook(Tracker):
    """A tracker that keeps what it is told; it may fail at something."""

    name = "notebook"

    def __init__(self, fails_at: str = "") -> None:
        super().__init__()
        self.fails_at = fails_at
        self.log: list[str] = []
        self.records: list[CallRecord] = []
        self.threads: set[threading.Thread] = set()

    def note(self, what: str) -> None:
        self.log.append(what)
        self.threads.add(threading.current_thread())
        if what == self.fails_at:
            raise OSError(f"cannot {what}")

    def open(self) -> None:
        self.note("open")

    def write(self, record: CallRecord) -> None:
        self.note("write")
        self.records.append(record)

    def close(self) -> None:
        self.note("close")


def tracked(tracker: Notebook) -> Program:
    """A program whose one task has the tracker."""
    return Program(plugins=tracker)


def play(program: Program) -> None:
    """Submit three calls; one returns, one raises, one is cancelled."""
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.extend(program.task.submit(n, name="x") for n in range(3)))
    program.at(1, lambda: program.executor.finish(0, {"loss": 0.5, "note": "no number"}))
    program.at(2, lambda: program.executor.fail(1, ComputeError("diverged")))
    program.at(3, lambda: futures[2].cancel())


def test_a_record_for_each_call() -> None:
    """Each call gives one record with its arguments, its outcome and its times, written in order, in another thread."""
    tracker = Notebook()
    program = tracked(tracker)
    play(program)
    assert program.run(on_exception="continue", on_cancelled="continue") == EXHAUSTED
    assert program.trace == ["start", *SUBMITTED * 3, *RESULT, *EXCEPTION, *CANCELLED, "empty", *ENDED]
    assert tracker.log == ["open", "write", "write", "write", "close"]
    assert threading.main_thread() not in tracker.threads
    assert [record.task for record in tracker.records] == ["work"] * 3
    assert [record.parameters for record in tracker.records] == [{"args.0": n, "name": "x"} for n in range(3)]
    assert [record.outcome for record in tracker.records] == ["result", "exception", "cancelled"]
    assert [record.metrics for record in tracker.records] == [{"loss": 0.5}, {}, {}]
    assert [record.exception for record in tracker.records] == [None, "ComputeError: diverged", None]
    for record in tracker.records:
        assert record.began is None
        assert record.submitted <= record.ended
        assert record.seconds == {"seconds.total": record.ended - record.submitted}
    assert tracker.status() == "3 written"


def test_times_are_the_workers_where_they_are_known() -> None:
    """Where an executor tells when a call began and ended, that is what counts."""
    tracker = Notebook()
    program = tracked(tracker)
    program.submit()

    def finish() -> None:
        work: Any = program.executor.submissions[0].future
        work.whereabouts = Whereabouts(began=2e9, ended=2e9 + 5)
        program.executor.finish(0)

    program.at(1, finish)
    program.run()
    (record,) = tracker.records
    assert (record.began, record.ended) == (2e9, 2e9 + 5)
    assert record.seconds["seconds.computed"] == 5
    assert record.seconds["seconds.waited"] == 2e9 - record.submitted


@pytest.mark.parametrize("fails_at", ["open", "write"])
def test_a_failing_tracker_is_dropped(fails_at: str, caplog: pytest.LogCaptureFixture) -> None:
    """The first failure is told once, by the log and an event; the run goes on; what was opened is closed."""
    tracker = Notebook(fails_at)
    program = tracked(tracker)
    play(program)
    errors: list[Exception] = []
    program.task.on(Tracker.TRACKING_FAILED)(errors.append)
    assert program.run(on_exception={ComputeError: "continue"}, on_cancelled="continue") == EXHAUSTED
    assert [str(error) for error in errors] == [f"cannot {fails_at}"]
    assert tracker.log == ["open", *["write"] * (fails_at == "write"), "close"]
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in logged] == [
        "notebook failed: calls are not tracked until the end of this run"
    ]
    assert "then it failed" not in tracker.status()  # the next run tries again


def test_a_tracker_that_fails_to_close(caplog: pytest.LogCaptureFixture) -> None:
    """A failure at the end is logged; the run ends as it would without the tracker."""
    program = tracked(Notebook("close"))
    play(program)
    assert program.run(on_exception="continue", on_cancelled="continue") == EXHAUSTED
    assert "notebook failed to end" in caplog.messages


def test_the_next_run_tries_again() -> None:
    """After a run in which it failed, the tracker is opened anew."""
    tracker = Notebook("open")
    program = Program(terminate=False, plugins=tracker)
    program.submit()
    program.task.on_submitted(lambda _: program.executor.finish(-1))
    program.scheduler.run()
    tracker.fails_at = ""
    program.scheduler.run()
    assert tracker.log == ["open", "close", "open", "write", "close"]
    assert len(tracker.records) == 1


def test_nothing_is_opened_for_nothing() -> None:
    """A run without a call opens nothing, closes nothing and starts no thread that stays."""
    tracker = Notebook()
    assert tracked(tracker).run() == EXHAUSTED
    assert tracker.log == []


def test_one_tracker_of_several_tasks() -> None:
    """Records of several tasks are told apart by the name of the task."""
    tracker = Notebook()
    program = tracked(tracker)
    other = program.scheduler.task(max, plugins=tracker)
    program.scheduler.on_start(lambda: [program.task.submit(), other.submit(1, 2)])
    program.at(1, lambda: [program.executor.finish(n, n) for n in range(2)])
    program.run()
    assert [(record.task, record.metrics) for record in tracker.records] == [
        ("work", {"result": 0.0}),
        ("max", {"result": 1.0}),
    ]


def test_a_run_that_ends_without_waiting() -> None:
    """What is cancelled by the end of the run is written too, before the run is over."""
    tracker = Notebook()
    program = tracked(tracker)
    program.submit(2)
    assert program.run(timeout=1, wait=False).code is ExitState.Code.TIMEOUT
    assert [record.outcome for record in tracker.records] == ["cancelled", "cancelled"]
