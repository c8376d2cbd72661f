"""What a timeline records of a run, with an executor controlled by the test."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Limiter, Scheduler
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.plugins import Retry
from amltk.scheduling.timeline import Timeline
from amltk.testing import ManualExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.timeline import Record


def train(rate: float = 0.0, **options: Any) -> float:
    return rate


class Program:
    """A scheduler with a timeline; the steps run one by one, each after a submission."""

    def __init__(self, *steps: Callable[[], object], plugins: Any = (), **options: Any) -> None:
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor)
        self.timeline = Timeline(self.scheduler, **options)
        self.task = self.scheduler.task(train, plugins=plugins)
        self._steps = iter(steps)
        self.scheduler.observers.append(lambda future, *_: next(self._steps, lambda: None)())

    def told(self, n: int, began: float | None, ended: float | None, pid: int | None = 7) -> None:
        """Make the executor report where and when a call was computed."""
        self.executor.submissions[n].future.execution_info = ExecutionInfo("node", pid, None, began, ended)  # type: ignore[attr-defined]

    def run(self, **options: Any) -> list[Record]:
        run_in_virtual_time(self.scheduler.async_run(on_exception="continue", on_cancelled="continue", **options))
        return self.timeline.records()


def test_a_record_tells_what_the_worker_tells() -> None:
    """The record of a call has function, arguments, outcome, worker and the worker's own times."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit(0.1, layers=[3, 4]))
    program.scheduler.on_future_submitted(lambda _: (program.told(0, 100.0, 104.5), program.executor.finish(0)))
    (record,) = program.run()
    assert (record.function, record.arguments, record.outcome) == ("train", "0.1, layers=[3, 4]", "succeeded")
    assert (record.host, record.pid, record.began, record.ended) == ("node", 7, 100.0, 104.5)
    assert record.by_worker
    assert (record.attempt, record.error) == (1, "")


def test_calls_without_a_task_are_recorded_too() -> None:
    """`Scheduler.submit` is recorded like `Task.submit`, with its arguments."""
    program = Program()
    program.scheduler.on_start(lambda: program.scheduler.submit(train, 2, rate="x" * 500))
    program.scheduler.on_future_submitted(lambda _: program.executor.fail(0, ValueError("no\nnumber")))
    (record,) = program.run()
    assert record.function == "train"
    assert record.arguments.startswith("2, rate='xxx")
    assert len(record.arguments) < 60
    assert (record.outcome, record.error) == ("failed", "ValueError: no number")


def test_an_executor_that_tells_nothing_gives_what_the_program_saw() -> None:
    """Without the executor's times a bar goes from the submission to the end, and is marked as a guess."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit())
    program.scheduler.on_future_submitted(lambda _: program.executor.finish(0))
    (record,) = program.run()
    assert not record.by_worker
    assert (record.host, record.pid, record.began) == (None, None, record.submitted)
    assert record.ended is not None
    assert record.ended >= record.submitted


@pytest.mark.parametrize("tells", [True, False])
def test_what_never_began_has_no_times(tells: bool) -> None:
    """A call cancelled while waiting is recorded without a start."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit())

    @program.scheduler.on_future_submitted
    def cancel(future: Any) -> None:
        if tells:
            program.told(0, None, None, pid=None)
        future.cancel()

    (record,) = program.run()
    assert (record.outcome, record.began, record.ended, record.by_worker) == ("cancelled", None, None, tells)


def test_what_is_lost_with_its_worker_ends_when_the_program_hears_of_it() -> None:
    """A call that started and whose worker could not report its end still has an end."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit())
    program.scheduler.on_future_submitted(lambda _: (program.told(0, 100.0, None), program.executor.fail(0, OSError())))
    (record,) = program.run()
    assert record.began == 100.0
    assert record.ended is not None
    assert record.ended > record.began


@pytest.mark.parametrize("ended", [None, 5e9 - 1])
def test_nothing_ends_before_it_begins(ended: float | None) -> None:
    """If a worker's clock is ahead of this one, or was set back, no record has a negative duration."""
    program = Program()
    program.scheduler.on_start(lambda: program.task.submit())
    program.scheduler.on_future_submitted(lambda _: (program.told(0, 5e9, ended), program.executor.fail(0, OSError())))
    (record,) = program.run()
    assert record.began == record.ended == 5e9


def test_each_attempt_of_a_retried_call_is_a_record() -> None:
    """Repeated attempts are distinguished from the last one, which has the outcome of the call."""
    program = Program(plugins=Retry(attempts=3, wait=0, jitter=0))
    program.scheduler.on_start(lambda: program.task.submit(5))

    def settle(future: Any, *_: Any) -> None:
        n = len(program.executor.submissions) - 1
        if n < 2:
            program.executor.fail(n, ValueError(n))
        else:
            program.executor.finish(n)

    program.scheduler.observers.append(settle)
    records = program.run()
    assert [(r.outcome, r.attempt, r.error) for r in records] == [
        ("retried", 1, "ValueError: 0"),
        ("retried", 2, "ValueError: 1"),
        ("succeeded", 3, ""),
    ]
    assert {r.arguments for r in records} == {"5"}
    assert sorted(r.submitted for r in records) == [r.submitted for r in records]


def test_a_retried_call_that_is_given_up_has_failed() -> None:
    """The last attempt has the outcome of the call, even if it is an exception."""
    program = Program(plugins=Retry(attempts=2, wait=0, jitter=0))
    program.scheduler.on_start(lambda: program.task.submit())
    program.scheduler.observers.append(lambda *_: program.executor.fail(-1, ValueError()))
    assert [record.outcome for record in program.run()] == ["retried", "failed"]


def test_a_call_that_is_cancelled_between_two_attempts_is_cancelled() -> None:
    """The attempt before the cancellation is the last one, and has the outcome of the call."""
    program = Program(plugins=Retry(attempts=2, wait=60, jitter=0))
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.append(program.task.submit()))
    program.scheduler.on_start(lambda: program.scheduler.call_later(10, lambda: futures[0].cancel()))
    program.scheduler.observers.append(lambda *_: program.executor.fail(-1, ValueError()))
    (record,) = program.run()
    assert (record.outcome, record.attempt, record.error) == ("cancelled", 1, "ValueError: ")


def test_plugins_that_hold_nothing_back_change_nothing() -> None:
    """A call through other plugins has one record."""
    program = Program(plugins=Limiter(max_calls=1))
    program.scheduler.on_start(lambda: (program.task.submit(1), program.task.submit(2)))
    program.scheduler.on_future_submitted(lambda _: program.executor.finish(0))
    assert [record.arguments for record in program.run()] == ["1"]


def test_what_has_not_ended_is_told_as_such() -> None:
    """During a run the records include running and waiting calls as well."""
    program = Program()
    seen: list[Record] = []
    program.scheduler.on_start(lambda: (program.task.submit(1), program.task.submit(2)))

    @program.scheduler.on_future_submitted(every=2)
    def look(_: Any) -> None:
        program.told(0, 100.0, None)
        seen.extend(program.timeline.records())
        program.executor.finish(0)
        program.executor.finish(1)

    program.run()
    assert [(record.outcome, record.began, record.ended) for record in seen] == [
        ("running", 100.0, None),
        ("pending", None, None),
    ]


def test_pictures_during_a_run_go_up_to_now() -> None:
    """A running call has a bar from its submission to now, although no call has ended yet."""
    program = Program()
    seen: list[Any] = []
    program.scheduler.on_start(lambda: program.task.submit(1))

    @program.scheduler.on_future_submitted
    def look(_: Any) -> None:
        program.told(0, time.time() - 100, None)
        seen.extend(event for event in program.timeline.chrome_trace()["traceEvents"] if event["ph"] == "X")
        seen.append(program.timeline.html())
        program.executor.finish(0)

    program.run()
    bar, page = seen
    assert bar["dur"] >= 100e6
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["rows"]["ended"][0] - data["rows"]["began"][0] >= 100e6
    assert data["total"]["seconds"] >= 100
    assert data["utilisation"] > 0.9


def test_the_latest_records_are_kept() -> None:
    """`max_records` bounds the memory; dropped records are counted."""
    program = Program(max_records=2)
    program.scheduler.on_start(lambda: [program.task.submit(n) for n in range(5)])
    program.scheduler.on_future_submitted(lambda _: program.executor.finish(program.executor.pending[0]))
    assert [record.arguments for record in program.run()] == ["3", "4"]
    assert program.timeline.dropped == 3


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_max_records_is_checked(wrong: Any) -> None:
    """A value that is not a count raises an error that names it."""
    with pytest.raises((TypeError, ValueError), match="max_records"):
        Timeline(Scheduler(ManualExecutor()), max_records=wrong)


def test_calls_from_before_the_timeline_are_left_out() -> None:
    """A timeline created in the middle of a run records what is submitted from then on."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    timelines: list[Timeline] = []
    scheduler.on_start(lambda: scheduler.submit(train, 1))
    scheduler.on_start(lambda: timelines.append(Timeline(scheduler)))
    scheduler.on_start(lambda: scheduler.submit(train, 2))
    scheduler.on_future_submitted(lambda _: executor.finish(executor.pending[0]))
    run_in_virtual_time(scheduler.async_run())
    assert [record.arguments for record in timelines[0].records()] == ["2"]
