"""The reported times of a call are correct even if a worker's clock has been changed."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from amltk.scheduling import Limits, Scheduler
from amltk.scheduling.timeline import Timeline

HOUR = 3600.0
MUCH = 60.0
"""More seconds than any machine stays busy."""

METHODS = [m for m in ("forkserver", "spawn", "fork") if m in multiprocessing.get_all_start_methods()]


def set_clock(by: float) -> None:
    """Shift the clock of this process."""
    real = time.time
    time.time = lambda: real() + by  # type: ignore[assignment]


def set_back_within() -> float:
    """Set the clock back during a call, so that by this clock the call would end before it began."""
    set_clock(-2 * HOUR)
    return time.monotonic()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_local_workers(method: str, by: float) -> None:
    """Times use the program's clock: after the submission, before now, with correct durations."""
    scheduler = Scheduler.with_processes(1, mp_context=method, initializer=set_clock, initargs=(by,))
    task = scheduler.task(set_back_within, plugins=Limits(wall_time="1 h", cpu_time="1 h"))
    timeline = Timeline(scheduler)
    running: list[float | None] = []
    scheduler.on_start(lambda: [task.submit() for _ in range(3)])
    task.on_result(lambda future, _: running.append(future.work.began))
    before = time.time()
    scheduler.run(display=False)
    for record in timeline.records():
        assert record.began is not None
        assert record.ended is not None
        assert before - MUCH < record.submitted <= record.began <= record.ended < time.time() + MUCH
    assert len(running) == 3


@pytest.mark.parametrize("factory", ["with_loky", "with_sequential", "with_threads"])
def test_other_executors(factory: str) -> None:
    """If workers report times by their own clocks, durations are correct, and no call ends before its submission."""
    if factory == "with_loky":
        pytest.importorskip("loky")
        scheduler = Scheduler.with_loky(1, initializer=set_clock, initargs=(-HOUR,))
    else:
        scheduler = getattr(Scheduler, factory)()
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: scheduler.submit(time.monotonic))
    scheduler.run(display=False)
    (record,) = timeline.records()
    assert record.began is not None
    assert record.ended is not None
    assert record.submitted <= record.began <= record.ended < record.submitted + MUCH
