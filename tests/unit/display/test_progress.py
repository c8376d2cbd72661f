"""The progress of a run: a sequence of snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.display import progress
from amltk.display.progress import Observer
from amltk.scheduling import Event, Limiter, Scheduler
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.snapshot import Counts, Snapshot
from amltk.testing import ManualExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.display.progress import Progress


def work(*args: Any) -> Any:
    return args


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Program:
    """A scheduler whose calls the test completes, with an observer."""

    def __init__(self, *, timeout: float | None = None, **task_options: Any) -> None:
        self.clock = Clock()
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor)
        self.task = self.scheduler.task(work, **task_options)
        self.observer = Observer(self.scheduler, timeout, self.clock)
        self.seen: list[Progress] = []

    def at(self, time: float, *steps: Callable[[], object]) -> None:
        """Do something this many seconds after `@start`, and observe right after it."""

        def do() -> None:
            self.clock.now = 100 + time
            for step in steps:
                step()
            if self.scheduler.running():
                self.scheduler.call_later(0, self.observe)  # everything that the steps caused was delivered by then

        self.scheduler.on_start(lambda: self.scheduler.call_later(time, do))

    def observe(self) -> None:
        """Take a snapshot now."""
        self.seen.append(self.observer.observe())

    def run(self, **options: Any) -> None:
        """Run in virtual time."""
        self.observer.open()
        try:
            run_in_virtual_time(self.scheduler.async_run(**{"on_exception": "continue", "wait": False} | options))
        finally:
            self.observer.close()
        self.observe()


def test_counts_begin_anew_with_each_run() -> None:
    """A second run of the same scheduler does not show the counts and events of the first."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(work, plugins=Limiter(max_concurrent=1))
    scheduler.on_start(lambda: [task.submit() for _ in range(3)])
    for _ in range(2):
        observer = Observer(scheduler, None, Clock())
        scheduler.run()
        seen = observer.observe()
        assert seen.counts == seen.tasks[0].counts == Counts(0, 0, 1, 0, 0)
        assert seen.tasks[0].notes == ("limiter  concurrent 0/1", "@concurrent-limit-reached  2")


def test_the_state_is_told_with_its_reason() -> None:
    """A run is starting, running, finishing and finished, and once it has timed out it shows that too."""
    p = Program(timeout=2)
    p.observe()
    p.scheduler.on_start(p.task.submit)
    p.at(1)
    p.scheduler.on_finishing(p.observe)
    p.run(timeout=2)
    assert [seen.state for seen in p.seen] == ["starting", "running", "finishing: timeout", "finished: timeout"]
    assert [seen.active for seen in p.seen] == [False, True, False, False]


def test_a_stopped_run_is_told_from_one_that_ran_out() -> None:
    """`stop` is shown as the reason; a run with no work left has finished."""
    stopped, ran_out = Program(), Program()
    stopped.at(1, stopped.scheduler.stop)
    stopped.run(end_on_empty=False)
    ran_out.run()
    assert stopped.seen[-1].state == "finished: stopped"
    assert ran_out.seen[-1].state == "finished"


def test_times() -> None:
    """The elapsed time and the timeout are shown."""
    p = Program(timeout=10)
    p.at(4)
    p.at(6, p.scheduler.stop)
    p.run(timeout=10, end_on_empty=False)
    assert [(seen.elapsed, seen.timeout) for seen in p.seen] == [(4, 10), (6, 10)]


def test_what_runs_where_and_for_how_long() -> None:
    """Running calls are listed, the earliest first; waiting ones are not."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(3)])
    p.at(1)
    p.at(2, lambda: p.executor.start(1))
    p.at(3, lambda: p.executor.start(0))
    p.at(5)
    p.at(6, lambda: p.executor.finish(1))
    p.at(7, p.scheduler.stop)
    p.run()
    assert [[call.seconds for call in seen.calls] for seen in p.seen] == [[], [0], [1, 0], [3, 2], [3], []]


def test_how_long_a_call_runs_is_the_worker_s_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start time that the worker reports counts, even if observed late; never less than zero."""
    p = Program()

    def begin() -> None:
        for n, ago in enumerate([30.0, -5.0]):  # the second one's clock is ahead
            p.executor.start(n)
            p.executor.submissions[n].future.execution_info = ExecutionInfo(began=now - ago)  # type: ignore[attr-defined]

    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(2)])
    now = Snapshot.of(p.scheduler).time
    monkeypatch.setattr("amltk._process.clock.now", lambda: now)
    p.at(1, begin)
    p.at(2, p.scheduler.stop)
    p.run()
    assert [call.seconds for call in p.seen[0].calls] == pytest.approx([30, 0])


def test_plugins_and_their_events_are_noted() -> None:
    """A task's notes are the states of its plugins, and the counts of events beyond the usual ones."""
    p = Program(plugins=Limiter(max_calls=2))
    p.task.add_event(Event("never"))
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(5)])
    p.at(1, p.scheduler.stop)
    p.run()
    assert p.seen[0].tasks[0].notes == ("limiter  calls 2/2", "@call-limit-reached  3")


def test_the_last_failures_are_told() -> None:
    """The last few exceptions of calls are shown, latest first, with the task or function and the time."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(7)])
    p.scheduler.on_start(lambda: p.scheduler.submit(work))
    p.task.name = "training"
    p.at(1)
    for n in range(6):
        p.at(2 + n, lambda n=n: p.executor.fail(n, ValueError(f"nan\nat step {n}")))
    p.at(9, lambda: p.executor.fail(7, KeyError("x")))
    p.run(end_on_empty=False, timeout=10)
    assert p.seen[0].failures == ()
    told = [(failure.name, failure.text, failure.at) for failure in p.seen[-1].failures]
    assert told[:2] == [("work()", "KeyError: 'x'", 9), ("training()", "ValueError: nan …", 7)]
    assert len(told) == progress.KEPT_FAILURES


def test_errors_of_callbacks_are_counted_by_run() -> None:
    """Callback errors are shown beside failed calls, only those of this run."""
    p = Program()
    p.task.on_result(lambda *_: 1 / 0)
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(3)])
    for n in range(3):
        p.at(1 + n, lambda n=n: p.executor.finish(n))
    p.run(on_callback_exception="continue")
    assert [seen.callback_exceptions for seen in p.seen[:3]] == [1, 2, 3]
    assert (p.seen[-1].callback_exceptions, p.seen[-1].counts.failed) == (3, 0)
    assert Observer(p.scheduler, None, lambda: 0.0).observe().callback_exceptions == 0


def test_a_task_made_during_the_run_is_shown() -> None:
    """A task created by a callback appears with all its counts."""
    p = Program()

    def make() -> None:
        p.scheduler.task(work, plugins=()).submit()
        p.executor.finish(0)

    p.at(1, make)
    p.at(2, p.scheduler.stop)
    p.run(end_on_empty=False)
    assert [task.counts.done for task in p.seen[-1].tasks] == [0, 1]


def test_the_total_is_known_where_all_submissions_are_limited() -> None:
    """With `max_calls` on all used tasks there is a total; one direct submission removes it."""
    p = Program(plugins=Limiter(max_calls=10))
    other = p.scheduler.task(work, plugins=Limiter(max_calls=5))
    p.scheduler.on_start(lambda: [task.submit() for task in (p.task, other) for _ in range(4)])
    p.at(1, lambda: [p.executor.finish(n) for n in range(5)])
    p.at(5, lambda: p.scheduler.submit(work))
    p.at(6, p.scheduler.stop)
    p.run()
    assert [seen.total for seen in p.seen] == [15, None, None]
    assert p.seen[0].to_go == pytest.approx(2)  # 5 in one second, 10 are left


def test_a_total_counts_from_the_beginning_of_the_run() -> None:
    """The total excludes what a limited task did in an earlier run."""
    scheduler = Scheduler(ManualExecutor(), terminate=False)
    task = scheduler.task(work, plugins=Limiter(max_calls=10))
    scheduler.on_start(lambda: [task.submit() for _ in range(4)])
    run_in_virtual_time(scheduler.async_run(timeout=1, wait=False))
    observer = Observer(scheduler, None, Clock())
    seen: list[Progress] = []
    scheduler.on_start(lambda: scheduler.call_later(0.5, lambda: seen.append(observer.observe())))
    run_in_virtual_time(scheduler.async_run(timeout=1, wait=False))
    assert seen[0].total == 6
    assert seen[0].counts == Counts(4, 0, 0, 0, 0)


def test_an_ending_run_goes_for_what_is_left() -> None:
    """Once no more calls are accepted, the total is what was submitted, and the remaining time is for pending calls."""
    p = Program(plugins=Limiter(max_calls=100))
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(4)])
    p.at(2, lambda: [p.executor.finish(n) for n in range(2)])
    p.scheduler.on_finishing(p.observe)
    p.at(4, p.scheduler.stop)
    p.run()
    assert p.seen[1].state == "finishing: stopped"
    assert (p.seen[1].total, p.seen[1].to_go) == (None, pytest.approx(4))


def test_after_the_run_nothing_is_subscribed() -> None:
    """An observer cancels its own subscription, and closing it twice is harmless."""
    p = Program()
    p.run()
    p.observer.close()
    assert p.scheduler.emitter.subscriptions("future-exception") == ()
