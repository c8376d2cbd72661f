"""What a queue monitor records, with an executor and a clock controlled by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.plugins import Retry
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.queue_monitor.monitor import CANCELLED, FINISHED, QUEUE_SIZE, RUNNING
from amltk.testing import ManualExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 10**9


class Clock:
    """Seconds since the epoch, as set by the test."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> int:
        return round(self.seconds * SECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("amltk._process.clock.now_ns", clock)
    return clock


class Program:
    """A monitored scheduler; each step comes a second after the previous one."""

    def __init__(self, clock: Clock, *steps: Callable[[], object], plugins: Any = ()) -> None:
        self.clock = clock
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor)
        self.monitor = QueueMonitor(self.scheduler)
        self.task = self.scheduler.task(abs, plugins=plugins)
        self.futures: list[Any] = []
        for n, step in enumerate(steps, start=1):
            self.scheduler.on_start(lambda n=n, step=step: self.scheduler.call_later(n, self._step, n, step))

    def _step(self, n: int, step: Callable[[], object]) -> None:
        self.clock.seconds = 100.0 + n
        step()

    def submit(self, n: int = 1) -> None:
        self.futures += [self.task.submit(0) for _ in range(n)]

    def told(self, n: int, began: float | None, ended: float | None = None) -> None:
        where = ExecutionInfo("node", 1, None, began, ended)
        self.executor.submissions[n].future.execution_info = where  # type: ignore[attr-defined]

    def run(self) -> list[tuple[float, list[float]]]:
        options: Any = {"on_exception": "continue", "on_cancelled": "continue", "end_on_empty": False, "timeout": 30}
        run_in_virtual_time(self.scheduler.async_run(**options))
        return [(time / SECOND - 100, values) for time, values in self.monitor._history.steps()]


def levels(steps: list[tuple[float, list[float]]], at: float) -> list[float]:
    """The numbers at a given time."""
    return [values for time, values in steps if time <= at][-1]


def test_calls_wait_run_and_end(clock: Clock) -> None:
    """The monitor records the queue, running calls by the worker's times, and finished calls not yet delivered."""
    program = Program(
        clock,
        lambda: program.submit(3),
        lambda: (program.told(0, 101.25, 101.75), program.executor.finish(0)),
        lambda: (program.told(1, 101.5, 102.5), program.executor.finish(1)),
        lambda: (program.told(2, 101.75, 103.75), program.executor.fail(2, ValueError())),
    )
    steps = program.run()
    numbers = {at: levels(steps, at) for at in (0, 1, 1.3, 1.6, 1.8, 2, 2.6, 3, 3.8, 4)}
    assert numbers == {
        # [queue_size, running, finished, cancelled]
        0: [0, 0, 0, 0],
        1: [3, 0, 0, 0],
        1.3: [3, 1, 0, 0],
        1.6: [3, 2, 0, 0],
        1.8: [3, 2, 1, 0],
        2: [2, 2, 0, 0],
        2.6: [2, 1, 1, 0],
        3: [1, 1, 0, 0],
        3.8: [1, 0, 1, 0],
        4: [0, 0, 0, 0],
    }


def test_what_is_cancelled_is_in_the_queue_until_it_is_told(clock: Clock) -> None:
    """A cancellation by the executor counts as cancelled until its event."""
    program = Program(clock, lambda: program.submit())

    def cancel() -> None:
        program.told(0, None)
        program.executor.submissions[0].future.cancel()
        program.executor.submissions[0].future.set_running_or_notify_cancel()
        clock.seconds += 0.5  # until its event

    program.scheduler.on_start(lambda: program.scheduler.call_later(2, cancel))
    steps = program.run()
    assert max(values[CANCELLED] for _, values in steps) == 1
    assert steps[-1][1] == [0, 0, 0, 0]


def test_clocks_of_other_machines_do_no_harm(clock: Clock) -> None:
    """No call runs before its submission or after its delivery, whatever a worker reports."""
    program = Program(
        clock,
        lambda: program.submit(3),
        lambda: (program.told(0, 1.0, 2.0), program.executor.finish(0)),
        lambda: (program.told(1, 5000.0, 6000.0), program.executor.finish(1)),
        lambda: (program.told(2, 1.0, 6000.0), program.executor.finish(2)),
    )
    steps = program.run()
    assert steps[0][0] == 0
    assert steps[-1][0] <= 4
    for _, values in steps:
        assert min(values) >= 0
        assert values[QUEUE_SIZE] >= values[RUNNING] + values[FINISHED] + values[CANCELLED]


def test_each_attempt_runs(clock: Clock) -> None:
    """A retried call is one call in the queue throughout, and runs twice."""
    program = Program(
        clock,
        lambda: program.submit(),
        lambda: (program.told(0, 101.25, 101.5), program.executor.fail(0, ValueError())),
        lambda: (program.told(1, 102.25, 102.5), program.executor.finish(1)),
        plugins=Retry(wait=0, jitter=0),
    )
    steps = program.run()
    assert [levels(steps, at)[:2] for at in (1.3, 1.6, 2.3, 2.6, 3)] == [[1, 1], [1, 0], [1, 1], [1, 0], [0, 0]]


def test_calls_from_before_the_monitor_are_left_out() -> None:
    """A monitor created in the middle of a run counts what is submitted from then on."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    monitors: list[QueueMonitor] = []
    scheduler.on_start(lambda: scheduler.submit(abs, 1))
    scheduler.on_start(lambda: monitors.append(QueueMonitor(scheduler)))
    scheduler.on_start(lambda: scheduler.submit(abs, 2))
    scheduler.on_future_submitted(lambda _: executor.finish(executor.pending[0]))
    run_in_virtual_time(scheduler.async_run())
    values = [values for _, values in monitors[0]._history.steps()]
    assert max(value[QUEUE_SIZE] for value in values) == 1
    assert min(min(value) for value in values) == 0


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "2"])
def test_n_workers_is_checked(wrong: Any) -> None:
    """A value that is not a count raises an error that names it, before pandas is needed."""
    with pytest.raises((TypeError, ValueError), match="n_workers"):
        QueueMonitor(Scheduler(ManualExecutor())).df(n_workers=wrong)
