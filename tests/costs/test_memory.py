"""What a pending task takes of the driver's memory, by the allocators' own count."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.costs.executors import Conveyor, Work
from tests.helpers.gate import Gate, pass_gate

FIRST, TASKS = 1_000, 10_000
BUDGET = 700
"""Bytes of the driver's memory that a pending task may take at most."""


def no_op(number: int) -> int:
    return number


def traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]


METERS = {"bytes": traced_bytes, "blocks": sys.getallocatedblocks}


def growth(submit: Callable[[int], object], meter: Callable[[], int]) -> float:
    """What each of many pending tasks adds; the first ones bring what is there once."""
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


def in_a_run(executor: Any, meter: Callable[[], int], *, before_the_end: Callable[[], object] = int) -> float:
    """The growth in a run; the executor ends what is pending when it is shut down."""
    scheduler = Scheduler(executor)
    task = scheduler.task(no_op)
    figures: list[float] = []

    @scheduler.on_start
    def launch() -> None:
        figures.append(growth(task.submit, meter))
        before_the_end()
        scheduler.stop()

    scheduler.run(display=False)
    return figures[0]


@pytest.mark.usefixtures("traced")
def test_x() -> None:
    import sys
    print(sys.version)
    for name, m in METERS.items():
        print("total", name, in_a_run(Conveyor(), m))
        print("sched", name, in_a_run(Conveyor([Work() for _ in range(FIRST + TASKS)]), m))
        with Gate() as gate:
            pool = ProcessPool(1, initializer=pass_gate, initargs=(gate.address,))
            print("pool", name, in_a_run(pool, m, before_the_end=gate.open))
        with Gate() as gate:
            with ProcessPool(1, initializer=pass_gate, initargs=(gate.address,)) as pool:
                print("poolbare", name, growth(partial(pool.submit, no_op), m))
                gate.open()
