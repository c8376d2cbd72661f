"""Everything that subscribes to a scheduler can unsubscribe: schedulers, views and plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ExecutorShutdownError
from amltk.scheduling import Comm, ExitState, Limiter, Plugin, Retry, Scheduler
from amltk.scheduling.plugins.trackers.tracker import Tracker
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.timeline import Timeline
from amltk.testing import ManualExecutor
from tests.unit.program import ComputeError, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.plugins.trackers.record import Record

Code = ExitState.Code


def subscribed(scheduler: Scheduler, *tasks: Any) -> int:
    """The number of callbacks, hidden ones included."""
    emitters = (scheduler.emitter, *tasks)
    return sum(len(emitter.subscriptions(event)) for emitter in emitters for event in emitter.events)


def no_op(*_: Any) -> None:
    pass


# ---------------------------------------------------------------------------------------------------------- schedulers


def test_closing_shuts_the_executor_down_once() -> None:
    """A scheduler that is never run releases its executor's resources; closing it again changes nothing."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    scheduler.close()
    scheduler.close()
    assert executor.was_shut_down == {"wait": True, "cancel_futures": False}
    with pytest.raises(ExecutorShutdownError):
        scheduler.run()


def test_closing_leaves_an_executor_open_that_is_to_stay_open() -> None:
    """With `terminate=False` the executor is the user's responsibility."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor, terminate=False)
    scheduler.close()
    assert executor.was_shut_down is None
    assert scheduler.run().code is Code.EXHAUSTED


def test_a_closed_scheduler_of_a_factory_can_run_again() -> None:
    """A closed scheduler of a factory can run again, with a fresh executor as after any run."""
    scheduler = Scheduler.with_threads(1)
    first = scheduler.executor
    scheduler.close()
    assert scheduler.run().code is Code.EXHAUSTED
    assert scheduler.executor is not first
    scheduler.close()  # the run has already done it


def test_closing_in_a_block_ends_the_block_early() -> None:
    """A later run in the block has its own executor, and nothing is shut down twice."""
    with Scheduler.with_threads(1) as scheduler:
        scheduler.run()
        first = scheduler.executor
        scheduler.close()
        scheduler.run()
        assert scheduler.executor is not first


def test_closing_in_a_callback_ends_the_run() -> None:
    """Closing in a callback ends the run without waiting for it, which would wait for the callback."""
    program = Program()
    program.at(1, program.scheduler.close)
    assert program.run(end_on_empty=False).code is Code.STOPPED
    assert program.executor.was_shut_down is not None


# --------------------------------------------------------------------------------------------------------------- views


@pytest.mark.parametrize("view", [Timeline, QueueMonitor])
def test_a_closed_view_listens_no_more(view: Callable[[Scheduler], Any]) -> None:
    """No subscription is left in the scheduler; closing it again changes nothing."""
    scheduler = Scheduler.with_sequential()
    before = subscribed(scheduler)
    with view(scheduler) as made:
        assert subscribed(scheduler) > before
        assert scheduler.observers
    made.close()
    assert subscribed(scheduler) == before
    assert scheduler.observers == []


def test_a_closed_timeline_keeps_what_it_has_recorded() -> None:
    """Calls that end later are left out, and so are unfinished ones."""
    program = Program()
    timeline = Timeline(program.scheduler)
    program.submit(2)
    program.at(1, program.executor.finish, 0)
    program.at(2, timeline.close)
    program.at(3, program.executor.finish, 1)
    program.run()
    assert [record.outcome for record in timeline.records()] == ["succeeded"]


def test_a_closed_monitor_has_an_empty_queue() -> None:
    """Unfinished calls leave the queue when the monitor is closed."""
    pytest.importorskip("pandas")
    program = Program()
    monitor = QueueMonitor(program.scheduler)
    program.submit(2)
    program.at(1, program.executor.finish, 0)
    program.at(2, monitor.close)
    program.at(3, program.executor.finish, 1)
    program.run()
    assert list(monitor.df()["queue_size"])[-1] == 0
    assert max(monitor.df()["queue_size"]) == 2


# ------------------------------------------------------------------------------------------------------------- plugins


class Notes(Tracker):
    """Writes to a list."""

    name = "notes"

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def write(self, record: Record) -> None:
        self.notes.append(record.outcome)

    def close(self) -> None:
        self.notes.append("closed")


def with_comm(*, comm: Any = None) -> None:
    pass


PLUGINS: dict[str, Callable[[], Plugin]] = {
    "limiter": lambda: Limiter(max_concurrent=1),
    "queue": lambda: Limiter(max_concurrent=1, on_limit="queue"),
    "retry": Retry,
    "comm": Comm.Plugin,
    "tracker": Notes,
    "one's own": Plugin,
}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_detached_plugin_listens_no_more(name: str) -> None:
    """A detached plugin's subscriptions are cancelled, its hooks are no longer called, and it may be attached again."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(with_comm)
    before = subscribed(scheduler, task)
    plugin = PLUGINS[name]()
    for _ in range(2):
        task.attach_plugin(plugin)
        assert task.plugins == [plugin]
        task.detach_plugin(plugin)
        assert task.plugins == []
        assert subscribed(scheduler, task) == before
    task.attach_plugin(plugin)
    scheduler.on_start(lambda: task.submit() and None)
    assert scheduler.run(display=False).code is Code.EXHAUSTED


def test_what_is_no_plugin_of_the_task_cannot_be_detached() -> None:
    """Detaching a plugin that is not attached raises an error that names the attached ones."""
    task = Scheduler.with_sequential().task(no_op, plugins=Retry())
    with pytest.raises(ValueError, match=r"is not a plugin of .*its plugins are: retry"):
        task.detach_plugin(Limiter(max_calls=1))


def test_a_limiter_that_is_detached_keeps_nothing_back() -> None:
    """When a limiter is detached, the calls it has kept are submitted at once, in order."""
    limiter = Limiter(max_concurrent=1, on_limit="queue")
    program = Program(plugins=limiter)
    program.scheduler.on_start(lambda: [program.task.submit(n) for n in range(3)] and None, max_calls=1)
    program.at(1, program.task.detach_plugin, limiter)
    program.at(2, lambda: [program.executor.finish(n) for n in list(program.executor.pending)] and None)
    program.run()
    assert [submission.args for submission in program.executor.submissions] == [(0,), (1,), (2,)]
    assert limiter.n_kept == 0


def test_a_limiter_that_is_detached_between_two_runs_keeps_nothing_back() -> None:
    """When a limiter is detached between two runs, the calls it has kept are submitted in the next run."""
    limiter = Limiter(max_concurrent=1, on_limit="queue")
    program = Program(terminate=False, plugins=limiter)
    program.scheduler.on_start(lambda: [program.task.submit(n) for n in range(3)] and None, max_calls=1)
    program.at(1, lambda: [program.executor.finish(n) for n in program.executor.pending if n] and None)
    program.run(wait=False, timeout=2)
    before = subscribed(program.scheduler)
    program.task.detach_plugin(limiter)
    program.run()
    assert [submission.args for submission in program.executor.submissions] == [(0,), (1,), (2,)]
    assert subscribed(program.scheduler) < before


def test_calls_of_a_detached_plugin_are_followed_to_their_end() -> None:
    """A call waiting for a retry gets it, or is given up with the run."""
    retry = Retry(wait=5, jitter=0)
    program = Program(plugins=retry)
    program.submit()
    program.at(1, program.executor.fail, 0, ComputeError())
    program.at(2, program.task.detach_plugin, retry)
    program.at(7, program.executor.finish, 1)
    assert program.run().code is Code.EXHAUSTED
    assert program.own == ["submitted", "retry", "done", "result"]
    assert not retry._subscriptions


def test_a_tracker_that_is_detached_during_a_run_is_closed_at_its_end() -> None:
    """A tracker detached during a run is closed at its end, and its last subscription is then cancelled."""
    tracker = Notes()
    program = Program(plugins=tracker)
    before = subscribed(program.scheduler) - 1
    program.submit(2)
    submitting = 1
    program.at(1, program.executor.finish, 0)
    program.at(2, program.task.detach_plugin, tracker)
    program.at(3, program.executor.finish, 1)
    timers = 3
    program.run()
    assert tracker.notes == ["result", "closed"]
    assert subscribed(program.scheduler) == before + submitting + timers
