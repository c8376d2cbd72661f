"""The state of a scheduler at one moment."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Limiter, Plugin, Scheduler
from amltk.scheduling.executors.adapter import MAX_LOOKED_AT
from amltk.scheduling.executors.execution_info import ExecutionInfo, this_host
from amltk.scheduling.snapshot import Counts, PluginStatus, Snapshot
from amltk.testing import ManualExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable


def work(*args: Any) -> Any:
    return args


class Program:
    """A scheduler whose calls the test completes, and of which snapshots are taken."""

    def __init__(self, **task_options: Any) -> None:
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor)
        self.task = self.scheduler.task(work, **task_options)
        self.seen: list[Snapshot] = []

    def at(self, seconds: float, *steps: Callable[[], object]) -> None:
        """Take the steps this many seconds after `@start`, and a snapshot once their effects were delivered."""

        def take() -> None:
            for step in steps:
                step()
            if self.scheduler.running():
                self.scheduler.call_later(0, self.look)

        self.scheduler.on_start(lambda: self.scheduler.call_later(seconds, take))

    def look(self) -> None:
        """Take a snapshot now."""
        self.seen.append(Snapshot.of(self.scheduler))

    def run(self, **options: Any) -> None:
        """Run in virtual time, and take a snapshot afterwards."""
        usual = {"on_exception": "continue", "on_cancelled": "continue", "wait": False}
        run_in_virtual_time(self.scheduler.async_run(**usual | options))
        self.look()


def test_each_submission_is_counted_in_one_state() -> None:
    """Pending, running, done, failed and cancelled calls are counted, for the scheduler and the task, and add up."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(6)])
    p.at(1, lambda: p.executor.start(0), lambda: p.executor.start(1))
    p.at(2, lambda: p.executor.finish(0), lambda: p.executor.fail(1, ValueError()), lambda: p.executor.start(2))
    p.at(3, lambda: p.task.queue[-1].cancel())
    p.at(4, p.scheduler.stop)
    p.run()
    assert [seen.counts for seen in p.seen] == [
        Counts(6, 2, 0, 0, 0),
        Counts(4, 1, 1, 1, 0),
        Counts(3, 1, 1, 1, 1),
        Counts(0, 0, 1, 1, 4),
    ]
    assert [seen.counts.pending for seen in p.seen] == [4, 3, 2, 0]
    assert all(seen.counts.submitted == 6 for seen in p.seen)
    assert [seen.tasks[0].counts for seen in p.seen] == [seen.counts for seen in p.seen]
    assert [seen.accepting for seen in p.seen] == [True, True, True, False]


def test_submissions_without_a_task_count_for_the_scheduler_only() -> None:
    """Direct submissions are in the scheduler's counts, and run under the name of their function."""
    p = Program()
    p.scheduler.on_start(lambda: p.scheduler.submit(work))
    p.at(1, lambda: p.executor.start(0))
    p.at(2, p.scheduler.stop)
    p.run()
    assert p.seen[0].counts == Counts(1, 1, 0, 0, 0)
    assert p.seen[0].tasks[0].counts == Counts(0, 0, 0, 0, 0)
    assert [call.name for call in p.seen[0].calls] == ["work"]


def test_a_snapshot_does_not_change() -> None:
    """Later events are in the next snapshot, not in this one."""
    p = Program(plugins=Limiter(max_calls=5))
    p.scheduler.on_start(p.task.submit)
    p.at(1, p.task.submit)
    p.at(2, p.task.submit)
    p.at(3, p.scheduler.stop)
    p.run()
    assert [seen.tasks[0].counts.unended for seen in p.seen] == [2, 3, 0]
    assert [seen.tasks[0].plugins for seen in p.seen[:2]] == [
        (PluginStatus("limiter", "calls 2/5"),),
        (PluginStatus("limiter", "calls 3/5"),),
    ]


def test_counts_are_over_all_runs_and_can_be_told_apart() -> None:
    """A second run adds to the counts; `since` subtracts what had ended before."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(work)
    scheduler.on_start(task.submit)
    snapshots = []
    for _ in range(2):
        scheduler.run()
        snapshots.append(Snapshot.of(scheduler))
    assert [snapshot.tasks[0].counts.done for snapshot in snapshots] == [1, 2]
    assert snapshots[1].counts.since(snapshots[0].counts) == Counts(0, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("told", "where", "since"),
    [
        (None, "", None),
        (ExecutionInfo(), "", None),
        (ExecutionInfo(pid=4711, began=12.5), "process 4711", 12.5),
        (ExecutionInfo(this_host(), os.getpid(), "worker_1", 3.5), "thread worker_1", 3.5),
        (ExecutionInfo("node7", 12, "MainThread", 3.5), "process 12 on node7", 3.5),
    ],
)
def test_running_calls_tell_what_their_executor_knows(
    told: ExecutionInfo | None, where: str, since: float | None
) -> None:
    """A running call has the name of its task, and its place and start as far as the executor's future knows them."""
    p = Program()
    p.task.name = "training"
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(2)])

    def begin() -> None:
        p.executor.start(0)
        p.executor.submissions[0].future.execution_info = told  # type: ignore[attr-defined]

    p.at(1, begin)
    p.at(2, p.scheduler.stop)
    p.run()
    (call,) = p.seen[0].calls
    assert (call.name, call.where, call.since) == ("training", where, since)


def test_the_number_of_submissions_to_come() -> None:
    """A task whose limiter sets `max_calls` has a total: the calls submitted plus the calls still allowed."""
    p = Program(plugins=[Limiter(max_calls=7), Limiter(max_concurrent=9)])
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(3)])
    p.at(1, lambda: p.executor.finish(0))
    p.at(2, p.scheduler.stop)
    p.run()
    assert [seen.tasks[0].total for seen in p.seen] == [7, 7]
    assert Plugin().calls_left() is None


def test_items_of_a_map_are_to_come() -> None:
    """The total of a task counts the remaining items of `Task.map`, while any are in flight."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit(-1), p.task.map(range(5), in_flight=2)])
    p.at(1)
    p.at(2, lambda: [p.executor.finish(n) for n in (0, 1, 2)])
    p.at(3, lambda: [p.executor.finish(n) for n in (3, 4)])
    p.at(4, lambda: p.executor.finish(5))
    p.run(end_on_empty=False, timeout=5)
    assert [seen.tasks[0].total for seen in p.seen] == [6, 6, 6, None, None]


def test_a_map_without_an_end_has_no_total() -> None:
    """If an iterable's length is unknown, the total is known only once it has ended."""
    p = Program()
    p.scheduler.on_start(lambda: p.task.map(iter(range(3)), in_flight=2))
    p.at(1)
    p.at(2, lambda: p.executor.finish(0))
    p.at(3, lambda: p.executor.finish(1))
    p.at(4, p.scheduler.stop)
    p.run()
    assert [seen.tasks[0].total for seen in p.seen] == [None, None, 3, None]


def test_a_limit_below_the_items_of_a_map_counts() -> None:
    """The smaller of a map's remaining items and a limiter's remaining calls is what is still to come."""
    p = Program(plugins=Limiter(max_calls=4))
    p.scheduler.on_start(lambda: p.task.map(range(9), in_flight=2))
    p.at(1)
    p.at(2, p.scheduler.stop)
    p.run()
    assert p.seen[0].tasks[0].total == 4


def test_what_a_plugin_keeps_of_a_map_is_to_come() -> None:
    """An item that waits in a limiter was taken, and is still to be submitted."""
    p = Program(plugins=Limiter(max_concurrent=1, on_limit="queue"))
    p.scheduler.on_start(lambda: p.task.map(range(9), in_flight=4))
    p.at(1)
    p.at(2, p.scheduler.stop)
    p.run()
    assert (p.seen[0].tasks[0].counts.submitted, p.seen[0].tasks[0].total) == (1, 9)


def test_events_of_plugins_are_counted() -> None:
    """A task counts events that not every task has."""
    p = Program(plugins=Limiter(max_calls=1))
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(4)])
    p.run(timeout=1)
    assert p.seen[0].tasks[0].events == {Limiter.CALL_LIMIT_REACHED: 3}


def test_an_executor_that_does_not_tell() -> None:
    """If running calls are unknown, their number is None, not 0, for the scheduler and its tasks."""
    p = Program()
    capabilities = replace(p.scheduler.executor_kind.capabilities, tells_running=False)
    p.scheduler._kind = replace(p.scheduler.executor_kind, capabilities=capabilities)
    p.scheduler.on_start(p.task.submit)
    p.at(1, lambda: p.executor.start(0))
    p.at(2, p.scheduler.stop)
    p.run()
    assert p.seen[0].counts == p.seen[0].tasks[0].counts == Counts(1, None, 0, 0, 0)
    assert p.seen[0].counts.pending is None
    assert p.seen[0].calls == ()


def test_a_call_that_was_cancelled_and_runs_on_is_not_counted() -> None:
    """A call that the executor cannot cancel counts as cancelled, not as running."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(2)])
    p.at(1, lambda: p.executor.start(0), lambda: p.task.queue[0].cancel())
    p.at(2, p.scheduler.stop)
    p.run()
    assert p.seen[0].counts == Counts(1, 0, 0, 0, 1)


def test_a_snapshot_asks_a_fixed_number_of_futures() -> None:
    """With 10,000 pending submissions only a bounded number of futures is asked, and no number is made up."""
    p = Program()
    asked: list[int] = []

    def count_questions() -> None:
        for n, submission in enumerate(p.executor.submissions):
            submission.future.running = lambda n=n: asked.append(n) or False  # type: ignore[method-assign]

    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(10_000)])
    p.at(1, count_questions)
    p.at(2, p.scheduler.stop)
    p.run()
    assert len(asked) <= MAX_LOOKED_AT
    assert p.seen[0].counts.unended == 10_000
    assert p.seen[0].counts.running is None
