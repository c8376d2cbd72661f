"""What it costs to decide which waiting call gets the resources that another one returned, on any machine."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling import Resources, Scheduler
from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.choice import Choice
from amltk.scheduling._admission.pools import Pools
from amltk.scheduling._admission.shapes import Waiting
from tests.costs.counting import instructions, per_task
from tests.costs.executors import Conveyor

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = 20


def decide(decisions: int, *, waiting: int = 3000) -> None:
    """One call ends, another one arrives, and the next is chosen: the program of the benchmark."""
    pools = Pools({"gpu": [str(n) for n in range(8)], "cpu": 64, "memory": "512 GB"})
    gpu, cpu, memory = pools.named.values()
    gpus = (5_000, UNIT, 2 * UNIT, 0)
    shapes = [((gpu, gpus[n % 4]), (cpu, (n % 5 + 1) * UNIT), (memory, (n + 1) * 10**9 * UNIT)) for n in range(SHAPES)]
    choice, chance = Choice(pools, lambda: math.inf), random.Random(1)
    wanted = [shapes[chance.randrange(SHAPES)] for _ in range(waiting + decisions)]
    for number in range(waiting):
        choice.add(Waiting(number), wanted[number], 0.0, (0.0, number))
    running = choice.next_ones()
    for number in range(waiting, waiting + decisions):
        grant = running.pop(int(chance.random() * len(running))).grant
        assert grant is not None
        grant.give_back()
        choice.add(Waiting(number), wanted[number], 0.0, (0.0, number))
        running += choice.next_ones()


def test_instructions_of_a_decision(at_most: Callable[..., None]) -> None:
    """With 3,000 calls of 20 shapes waiting for three pools, a decision takes 1,520 bytecode instructions."""
    cost = per_task(instructions, decide)
    at_most("instructions per decision", cost.total, 1600, cost)


def wait_for_a_licence(tasks: int) -> None:
    """Submit all; they wait until the run is stopped."""
    scheduler = Scheduler(Conveyor(), resources={"licence": 1})
    task = scheduler.task(abs, plugins=Resources(licence=1))

    @scheduler.on_start
    def launch() -> None:
        for number in range(tasks):
            task.submit(number)
        scheduler.call_later(0, scheduler.stop)

    scheduler.run(display=False, wait=False)


@pytest.mark.usefixtures("one_slice")
def test_a_call_that_waits_costs_the_same_however_many_do(at_most: Callable[..., None]) -> None:
    """Submitting a call, letting it wait and cancelling it takes 2,090 instructions: nothing is searched."""
    cost = per_task(instructions, wait_for_a_licence)
    at_most("instructions per waiting call", cost.total, 2200, cost)
