"""How many calls executors compute at a time, and how many a map therefore keeps in flight."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors.registry import workers_of
from amltk.testing import ManualExecutor, SimulatedExecutor
from tests.unit.program import Program


class Named(Executor):
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("executor", "workers"),
    [
        (ThreadPoolExecutor(3), 3),
        (SimulatedExecutor(5), 5),
        (Named(max_workers=4), 4),
        (Named(n_workers=2, max_workers=9), 2),
        (Named(n_workers=0), None),
        (Named(n_workers=True), None),
        (Named(max_workers=None), None),
        (ManualExecutor(), None),
    ],
)
def test_workers_of_executors(executor: Any, workers: int | None) -> None:
    """The number is the executor's, whatever the attribute's name; without one it is unknown."""
    assert workers_of(executor) == workers


@pytest.mark.parametrize(("factory", "workers"), [("with_processes", 7), ("with_threads", 7)])
def test_workers_of_schedulers(factory: str, workers: int) -> None:
    """Schedulers know the number of workers they were created with."""
    assert getattr(Scheduler, factory)(workers).n_workers == workers
    assert Scheduler.with_sequential().n_workers == 1


def test_a_map_follows_a_cluster_that_changes() -> None:
    """By default a map keeps twice as many calls in flight as there are workers at the moment."""
    program = Program()
    cluster: Any = program.executor
    cluster.n_workers = 1
    seen: list[int] = []

    def change(workers: int) -> None:
        cluster.n_workers = workers
        cluster.finish(cluster.pending[0])

    program.task.map(range(100))
    program.scheduler.on_start(lambda: seen.append(program.task.n_running))
    for time, workers in enumerate([3, 3, 10, 2]):
        program.at(2 * time + 1, change, workers)
        program.at(2 * time + 2, lambda: seen.append(program.task.n_running))
    program.at(10, program.scheduler.stop)
    program.run(wait=False)
    assert seen == [2, 6, 6, 20, 19]


def test_workers_that_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the number of workers is unknown, a map uses the number of CPUs of this machine."""
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    program = Program()
    program.task.map(range(100))
    seen: list[int] = []
    program.scheduler.on_start(lambda: seen.append(program.task.n_running))
    program.scheduler.on_start(program.scheduler.stop)
    program.run(wait=False)
    assert seen == [6]
