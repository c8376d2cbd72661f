"""The numbers of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.display import progress
from amltk.display.progress import Counts, Observer, Pace
from amltk.scheduling import Event, Limiter, Scheduler
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
    """A scheduler whose compute is in the hands of the test, and who observes it."""

    def __init__(self, *, timeout: float | None = None, **task_options: Any) -> None:
        self.clock = Clock()
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor)
        self.task = self.scheduler.task(work, **task_options)
        self.observer = Observer(self.scheduler, timeout, self.clock)
        self.seen: list[Progress] = []

    def at(self, time: float, *steps: Callable[[], object]) -> None:
        """Do something so many seconds after `@start`, and observe right after that."""

        def do() -> None:
            self.clock.now = 100 + time
            for step in steps:
                step()
            if self.scheduler.running():
                self.scheduler.call_later(0, self.observe)  # what the steps have brought about was delivered by then

        self.scheduler.on_start(lambda: self.scheduler.call_later(time, do))

    def observe(self) -> None:
        """Look now."""
        self.seen.append(self.observer.observe())

    def run(self, **options: Any) -> None:
        """Run in virtual time."""
        self.observer.open()
        try:
            run_in_virtual_time(self.scheduler.async_run(**{"on_exception": "continue", "wait": False} | options))
        finally:
            self.observer.close()
        self.observe()


def test_each_submission_is_counted_in_one_state() -> None:
    """The counts of a run and of its task tell what is pending, done, failed and cancelled, and add up."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(5)])
    p.at(1, lambda: p.executor.finish(0), lambda: p.executor.fail(1, ValueError()))
    p.at(2, lambda: [future.cancel() for future in p.task.queue[:1]])
    p.at(3, p.scheduler.stop)
    p.run(on_cancelled="continue")
    assert [seen.counts for seen in p.seen[:2]] == [Counts(3, 1, 1, 0), Counts(2, 1, 1, 1)]
    assert p.seen[-1].counts == Counts(0, 1, 1, 3)
    assert [seen.tasks[0].counts for seen in p.seen] == [seen.counts for seen in p.seen]
    assert all(seen.counts.submitted == 5 for seen in p.seen)


def test_counts_begin_anew_with_each_run() -> None:
    """A second run of the same scheduler is not shown with the counts of the first."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(work)
    scheduler.on_start(task.submit)
    for _ in range(2):
        observer = Observer(scheduler, None, Clock())
        scheduler.run()
        assert observer.observe().counts == Counts(0, 1, 0, 0)
        assert observer.observe().tasks[0].counts == Counts(0, 1, 0, 0)


def test_the_state_is_told_with_its_reason() -> None:
    """A run is starting, running, finishing and finished, and from the timeout on that is told too."""
    p = Program(timeout=2)
    p.observe()
    p.scheduler.on_start(p.task.submit)
    p.at(1)
    p.scheduler.on_finishing(p.observe)
    p.run(timeout=2)
    assert [seen.state for seen in p.seen] == ["starting", "running", "finishing: timeout", "finished: timeout"]
    assert [seen.active for seen in p.seen] == [False, True, False, False]


def test_a_stopped_run_is_told_from_one_that_ran_out() -> None:
    """`stop` is told as the reason; a run with nothing left to do has finished."""
    stopped, ran_out = Program(), Program()
    stopped.at(1, stopped.scheduler.stop)
    stopped.run(end_on_empty=False)
    ran_out.run()
    assert stopped.seen[-1].state == "finished: stopped"
    assert ran_out.seen[-1].state == "finished"


def test_times() -> None:
    """The time since the start and the time until the timeout are told, the latter while running only."""
    p = Program(timeout=10)
    p.at(4)
    p.at(6, p.scheduler.stop)
    p.run(timeout=10, end_on_empty=False)
    assert (p.seen[0].elapsed, p.seen[0].left) == (4, 6)
    assert p.seen[-1].left is None


def test_the_call_that_runs_longest() -> None:
    """Of each task it is told for how long the call that was begun first is running; what waits does not count."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(3)])
    p.at(1)
    p.at(2, lambda: p.executor.start(0))
    p.at(3, lambda: p.executor.start(1))
    p.at(5)
    p.at(6, lambda: p.executor.finish(0))
    p.at(7, p.scheduler.stop)
    p.run()
    assert [seen.tasks[0].longest for seen in p.seen[:5]] == [None, 0, 1, 3, 3]


def test_plugins_and_their_events_are_noted() -> None:
    """A task's notes are the states of its plugins, and how often events beyond the usual ones happened."""
    p = Program(plugins=Limiter(max_calls=2))
    p.task.add_event(Event("never"))
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(5)])
    p.at(1, p.scheduler.stop)
    p.run()
    assert p.seen[0].tasks[0].notes == ("limiter  calls 2/2", "@call-limit-reached  3")


def test_the_last_failure_is_told() -> None:
    """The last error of compute is told with the function and its age."""
    p = Program()
    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(2)])
    p.at(1)
    p.at(2, lambda: p.executor.fail(0, ValueError("first")), lambda: p.executor.fail(1, ValueError("nan\nin loss")))
    p.run(end_on_empty=False, timeout=3)
    assert p.seen[0].failure is None
    p.clock.now += 5
    p.observe()
    assert p.seen[-1].failure == "ValueError: nan … in work, 0:05 ago"


def test_a_task_made_during_the_run_is_shown() -> None:
    """A task that is made by a callback appears, with all that it has done."""
    p = Program()

    def make() -> None:
        p.scheduler.task(work, plugins=()).submit()
        p.executor.finish(0)

    p.at(1, make)
    p.at(2, p.scheduler.stop)
    p.run(end_on_empty=False)
    assert [task.counts.done for task in p.seen[-1].tasks] == [0, 1]


def test_of_many_tasks_those_are_shown_that_have_work() -> None:
    """Of more tasks than fit, those with pending work are shown, in the order in which they were made."""
    p = Program()
    tasks = [p.scheduler.task(work) for _ in range(50)]
    for n, task in enumerate(tasks):
        task.name = str(n)
    p.scheduler.on_start(lambda: [tasks[40].submit(), tasks[30].submit()])
    p.at(1)
    p.at(2, p.scheduler.stop)
    p.run()
    seen = p.seen[0]
    assert [task.name for task in seen.tasks][-2:] == ["30", "40"]
    assert (len(seen.tasks), seen.more_tasks) == (progress.SHOWN_TASKS, 51 - progress.SHOWN_TASKS)


def test_after_the_run_nothing_is_subscribed() -> None:
    """An observer ends its own subscription, and closing it twice is harmless."""
    p = Program()
    p.run()
    p.observer.close()
    assert p.scheduler.emitter.subscriptions("future-exception") == ()


def read(pace: Pace, *readings: tuple[float, int, int]) -> tuple[float, Counts]:
    """Give readings of time, pending and done; return the last one."""
    for elapsed, pending, done in readings:
        pace.read(elapsed, Counts(pending, done, 0, 0))
    elapsed, pending, done = readings[-1]
    return elapsed, Counts(pending, done, 0, 0)


def test_the_rate_is_that_of_the_last_minute() -> None:
    """A run that became faster is shown with its present rate."""
    pace = Pace()
    now = read(pace, *[(t, 8, t) for t in range(100)], *[(100 + t, 8, 100 + 50 * t) for t in range(100)])
    assert pace.rate(*now) == pytest.approx(50)


def test_a_slow_run_has_the_rate_since_its_start() -> None:
    """Where hardly anything ended in the last minute, the rate is the mean of the whole run."""
    pace = Pace()
    now = read(pace, *[(t / 4, 8, t // 4 // 600) for t in range(4 * 3600)])
    assert pace.rate(*now) == pytest.approx(5 / 3600, rel=1e-3)


def test_before_time_has_passed_there_is_no_rate() -> None:
    """The first look divides by nothing."""
    pace = Pace()
    now = read(pace, (0.0, 0, 5))
    assert pace.rate(*now) == 0
    assert pace.to_go(*now) is None


def test_the_time_to_go_is_told_once_nothing_more_is_submitted() -> None:
    """A run that had all its work at the start is told how long it takes; one that submits on and on is not."""
    all_at_once, on_and_on = Pace(), Pace()
    now = read(all_at_once, *[(t, 100 - t, t) for t in range(21)])
    assert all_at_once.to_go(*now) == pytest.approx(80)
    now = read(on_and_on, *[(t, 8, t) for t in range(21)])
    assert on_and_on.to_go(*now) is None


def test_what_was_cancelled_does_not_count_as_computed() -> None:
    """A run that ends by dropping what is pending does not look fast."""
    pace = Pace()
    counts = Counts(0, 10, 0, 1000)
    pace.read(10.0, counts)
    assert pace.rate(10.0, counts) == 1


def test_what_is_kept_does_not_grow_with_the_time() -> None:
    """A run of a day keeps as many readings as one of a minute."""
    pace = Pace()
    read(pace, *[(t / 4, 8, t) for t in range(10_000)])
    assert len(pace._readings) <= progress.PACE_WINDOW + 1


def test_a_look_touches_a_fixed_number_of_futures() -> None:
    """With 10,000 pending futures a look asks no more of them for their state than with a few."""
    p = Program()
    asked: list[int] = []

    def count_questions() -> None:
        for n, submission in enumerate(p.executor.submissions):
            submission.future.running = lambda n=n: asked.append(n) or False

    p.scheduler.on_start(lambda: [p.task.submit() for _ in range(10_000)])
    p.at(1, count_questions)
    p.at(2, p.scheduler.stop)
    p.run()
    assert p.seen[0].counts.pending == 10_000
    assert asked == list(range(progress.LOOKED_AT))
