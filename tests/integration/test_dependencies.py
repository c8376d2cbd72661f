"""Futures as arguments, with worker processes: lost workers, limits, messages, and what is freed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import DependencyError, WallTimeLimitError, WorkerLostError
from amltk.scheduling import Comm, Limits, Retry, Scheduler
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.timeline import Timeline

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["forkserver", "spawn", "fork"])
def scheduler(request: pytest.FixtureRequest) -> Scheduler:
    return Scheduler.with_processes(2, mp_context=request.param)


def rows(n: int) -> list[int]:
    return list(range(n))


def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


def die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(numbers: list[int], marker: Path) -> int:
    if not marker.exists():
        marker.touch()
        die(numbers)
    return sum(numbers)


def sleep_forever(_: Any) -> None:
    signal.pause()


def say(numbers: list[int], comm: Any) -> int:
    with comm.open():
        comm.send(len(numbers))
    return sum(numbers)


def test_a_lost_worker_fails_what_needs_its_result(scheduler: Scheduler) -> None:
    """The dependent call fails with the loss as its cause; other calls are computed."""
    futures: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        data = scheduler.submit(rows, 10)
        futures.append(scheduler.submit(total, scheduler.submit(die, data)))  # type: ignore[arg-type]
        futures.append(scheduler.submit(total, data.as_argument()))

    scheduler.run(display=False, on_exception="continue")
    assert isinstance(futures[0].exception(), DependencyError)
    assert isinstance(futures[0].exception().__cause__, WorkerLostError)
    assert futures[1].result() == 45


def test_an_attempt_after_a_lost_worker_has_the_results_again(scheduler: Scheduler, tmp_path: Path) -> None:
    """The dependencies' results are still available to the next attempt."""
    task = scheduler.task(die_once, plugins=Retry())
    results: list[int] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.on_start(lambda: task.submit(scheduler.submit(rows, 10).as_argument(), tmp_path / "died"))
    scheduler.run(display=False)
    assert results == [45]


def test_limits_and_messages(scheduler: Scheduler) -> None:
    """A limit applies to the call, not to the time it waits; a call that has waited can send messages."""
    limited = scheduler.task(sleep_forever, plugins=Limits(wall_time=0.2))
    talking = scheduler.task(say, plugins=Comm.Plugin())
    heard: list[Any] = []
    futures: list[Any] = []
    talking.on("comm-message")(lambda message: heard.append(message.data))

    @scheduler.on_start
    def launch() -> None:
        data = scheduler.submit(rows, 10)
        futures.append(talking.submit(data))
        futures.append(limited.submit(data))
        futures.append(scheduler.submit(total, [futures[0]], more=futures[0]))

    scheduler.run(display=False, on_exception="continue")
    assert heard == [10]
    assert isinstance(futures[1].exception(), WallTimeLimitError)
    assert futures[2].result() == 90


def test_what_views_know_of_calls_that_waited() -> None:
    """Each call has one record; a call that was not computed has no start time."""
    scheduler = Scheduler.with_processes(2)
    with Timeline(scheduler) as timeline, QueueMonitor(scheduler) as monitor:

        @scheduler.on_start
        def launch() -> None:
            scheduler.submit(total, scheduler.submit(rows, 3).as_argument())
            scheduler.submit(total, scheduler.submit(die, 0))  # type: ignore[arg-type]

        scheduler.run(display=False, on_exception="continue")
        records = {(record.function, record.outcome): record for record in timeline.records()}
        assert len(timeline.records()) == 4
        assert records["total", "failed"].began is None
        assert records["total", "succeeded"].began is not None
        assert monitor.df().iloc[-1]["queued"] == 0
