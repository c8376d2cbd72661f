"""How much driver memory a pending task takes, by the allocators' own count."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.costs.executors import Conveyor, Work
from tests.helpers.gate import Gate, pass_gate

FIRST, TASKS = 1_000, 10_000

LARGER = 1.15 if sys.version_info >= (3, 14) else 1.0
"""How much larger the objects of this CPython are than those of the first that this package runs on: since 3.14, a
tuple keeps its hash."""


def no_op(number: int) -> int:
    return number


def traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]


def growth(submit: Callable[[int], object], meter: Callable[[], int]) -> float:
    """What each of many pending tasks adds; the first ones include one-time costs."""
    for number in range(FIRST):
        submit(number)
    gc.collect()
    before = meter()
    for number in range(TASKS):
        submit(number)
    gc.collect()
    return (meter() - before) / TASKS


@pytest.fixture
def traced() -> Any:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def in_a_run(executor: Any, meter: Callable[[], int], let_go: Callable[[], object]) -> float:
    """The growth in a run; the executor completes pending calls when it is shut down."""
    scheduler = Scheduler(executor)
    task = scheduler.task(no_op)
    figures: list[float] = []

    @scheduler.on_start
    def launch() -> None:
        figures.append(growth(task.submit, meter))
        let_go()

    scheduler.run(display=False)
    return figures[0]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("meter", "bound"), [(traced_bytes, 530 * LARGER), (sys.getallocatedblocks, 4.1)])
def test_what_the_scheduler_adds(meter: Any, bound: float, at_most: Callable[..., None]) -> None:
    """A pending task is a future, its arguments and its number: 430 to 500 bytes, without the executor's future."""
    executor = Conveyor([Work() for _ in range(FIRST + TASKS)])
    at_most(f"{meter.__name__} of the scheduler", in_a_run(executor, meter, executor.shutdown), bound)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("meter", "bound"), [(traced_bytes, 640 * LARGER), (sys.getallocatedblocks, 6.1)])
def test_all_of_a_pending_task(meter: Any, bound: float, at_most: Callable[..., None]) -> None:
    """A pending task with the smallest executor future is 530 to 600 bytes in six blocks, of the 700 allowed."""
    executor = Conveyor()
    at_most(f"{meter.__name__} in all", in_a_run(executor, meter, executor.shutdown), bound)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("meter", "bound"), [(traced_bytes, 960 * LARGER), (sys.getallocatedblocks, 10.1)])
def test_a_task_that_waits_for_a_worker(meter: Any, bound: float, at_most: Callable[..., None]) -> None:
    """In a pool a pending task also has a call for a worker: 900 to 940 bytes in nine or ten blocks."""
    with Gate() as gate:  # no worker is ready until it opens
        pool = ProcessPool(1, initializer=pass_gate, initargs=(gate.address,))
        at_most(f"{meter.__name__} with a pool", in_a_run(pool, meter, gate.open), bound)
