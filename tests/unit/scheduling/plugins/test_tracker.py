"""Tracker: which calls it records, in which order and thread, and what its failures do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.plugins.trackers.tracker import Tracker
from amltk.testing import ManualExecutor
from tests.unit.program import ComputeError, Program

if TYPE_CHECKING:
    from amltk.scheduling.plugins.trackers.record import Record


class Notes(Tracker):
    """Keeps its records, and fails in a given step."""

    name = "notes"

    def __init__(self, fails: str = "") -> None:
        super().__init__()
        self.fails = fails
        self.steps: list[str] = []
        self.records: list[Record] = []
        self.threads: set[threading.Thread] = set()

    def open(self) -> None:
        self.note("open")

    def write(self, record: Record) -> None:
        self.note("write")
        self.records.append(record)

    def close(self) -> None:
        self.note("close")

    def note(self, step: str) -> None:
        """Record a step."""
        self.steps.append(step)
        self.threads.add(threading.current_thread())
        if step == self.fails:
            raise OSError(f"cannot {step}")


def three_endings(tracker: Tracker) -> Program:
    """A result, an exception and a cancellation, one second apart."""
    program = Program(plugins=tracker)
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.extend(program.task.submit({"rate": n}) for n in range(3)))
    program.at(1, program.executor.finish, 0, {"loss": 0.5, "name": "x"})
    program.at(2, program.executor.fail, 1, ComputeError("bad"))
    program.at(3, lambda: futures[2].cancel())
    return program


def test_one_record_of_each_call() -> None:
    """Each call gives one record when it has ended, with its arguments and its outcome."""
    tracker = Notes()
    three_endings(tracker).run(on_exception="continue", on_cancelled="continue")
    assert tracker.steps == ["open", "write", "write", "write", "close"]
    assert [record.outcome for record in tracker.records] == ["result", "exception", "cancelled"]
    assert [record.parameters for record in tracker.records] == [{"args.0.rate": n} for n in range(3)]
    assert [record.metrics for record in tracker.records] == [{"loss": 0.5}, {}, {}]
    assert [record.exception for record in tracker.records] == [None, "ComputeError: bad", None]
    assert {record.task for record in tracker.records} == {"work"}
    assert all(record.submitted <= record.ended for record in tracker.records)
    assert tracker.status() == "3 written"


def test_the_loop_does_not_wait_for_it() -> None:
    """All steps run in other threads than the loop's; these threads end with the run."""
    tracker = Notes()
    three_endings(tracker).run(on_exception="continue", on_cancelled="continue")
    assert threading.main_thread() not in tracker.threads
    for thread in tracker.threads:
        thread.join()


def test_nothing_is_opened_for_nothing() -> None:
    """A run without calls of the task writes nothing and opens nothing."""
    tracker = Notes()
    program = Program(plugins=tracker)
    program.at(1, lambda: None)
    program.run()
    assert tracker.steps == []


def test_arguments_are_those_of_the_submission() -> None:
    """Changes to an argument after the submission are not recorded."""
    tracker = Notes()
    program = Program(plugins=tracker)
    config = {"rate": 0.1}
    program.scheduler.on_start(lambda: program.task.submit(config))
    program.at(1, config.clear)
    program.at(2, program.executor.finish, 0, 1)
    program.run()
    assert tracker.records[0].parameters == {"args.0.rate": 0.1}


def test_the_times_of_the_worker() -> None:
    """If the executor reports when a worker started and finished the call, the record has these times."""
    tracker = Notes()
    program = Program(plugins=tracker)
    program.submit(2)

    def end() -> None:
        told = program.executor.submissions[0].future
        told.execution_info = ExecutionInfo(began=5.0, ended=7.0)
        told.set_result(1)
        program.executor.finish(1, 1)

    program.at(1, end)
    program.run()
    first, second = tracker.records
    assert (first.began, first.ended) == (5.0, 7.0)
    assert second.began is None


@pytest.mark.parametrize(
    ("fails", "steps"),
    [("open", ["open", "close"]), ("write", ["open", "write", "close"])],
)
def test_a_failure_is_told_once_and_is_not_the_runs(
    fails: str, steps: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure is logged and is an event; nothing more is written, and the run is not affected."""
    tracker = Notes(fails)
    program = three_endings(tracker)
    told: list[Exception] = []
    program.task.on("tracking-failed")(told.append)
    program.run(on_exception="continue", on_cancelled="continue")
    assert [str(error) for error in told] == [f"cannot {fails}"]
    assert tracker.steps == steps
    assert tracker.records == []
    assert [record.getMessage() for record in caplog.records] == [
        "notes failed: calls are not tracked until the end of this run"
    ]


def test_the_next_run_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is cleared at the end of its run."""
    tracker = Notes("write")
    program = Program(plugins=tracker, terminate=False)
    ended = iter(range(4))
    program.submit(2)
    for second in (1, 2):
        program.at(second, lambda: program.executor.finish(next(ended), 1))
    program.run()
    tracker.fails = ""
    program.run()
    assert tracker.steps == ["open", "write", "close", "open", "write", "write", "close"]
    assert len(tracker.records) == 2


def test_a_failure_to_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What `close` raises does not affect the run either."""
    three_endings(Notes("close")).run(on_exception="continue", on_cancelled="continue")
    assert [record.getMessage() for record in caplog.records] == ["notes failed to close"]


def test_several_tasks_of_one_scheduler() -> None:
    """One tracker may serve several tasks, and closes once; another scheduler needs another tracker."""
    tracker = Notes()
    program = Program(plugins=tracker)
    other = program.scheduler.task(abs, plugins=tracker)
    program.submit()
    program.scheduler.on_start(lambda: other.submit(-1))
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    program.run()
    assert [record.task for record in tracker.records] == ["work", "abs"]
    assert tracker.steps.count("close") == 1
    with pytest.raises(ValueError, match="this Notes tracks tasks of another scheduler: create a new one"):
        Scheduler(ManualExecutor()).task(abs, plugins=tracker)
