"""Whatever executor computes: a plain loop takes calls as they end, and a block keeps the executor between runs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities

N = 12


def test_a_plain_loop(scheduler: Scheduler) -> None:
    """Each item is computed once, and told with its arguments."""
    calls = list(scheduler.task(abs).map(range(-N, 0)).results())
    assert sorted(call.args[0] for call in calls) == list(range(-N, 0))
    assert all(call.result() == -call.args[0] for call in calls)


def test_failures_are_outcomes(scheduler: Scheduler) -> None:
    """In the order of the items, each call has its result or its exception."""
    items = [(1, n % 2) for n in range(N)]  # every other one is a division by zero
    calls = list(scheduler.task(divmod).map(items, unpack="args").results(ordered=True, on_exception="continue"))
    assert [call.args for call in calls] == items
    assert [type(call.exception()) for call in calls] == [ZeroDivisionError, type(None)] * (N // 2)


def test_runs_in_a_block(scheduler: Scheduler) -> None:
    """Runs in a block have the same executor; one after a loop that was left may have a fresh one."""
    with scheduler:
        task = scheduler.task(abs)
        executor = scheduler.executor
        for _ in range(2):
            assert len(list(task.map(range(N)).results())) == N
            assert scheduler.executor is executor
        for _ in task.map(itertools.count()).results():
            break
        assert not scheduler.has_run()
        if scheduler.executor_kind.factory is not None:
            assert len(list(task.map(range(N)).results())) == N


def test_the_number_of_workers(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """It is known: two here, one where calls are made in the loop, and what there is in a cluster of others."""
    least = 1 if capabilities.in_loop else 2
    with scheduler:
        n_workers = scheduler.n_workers
    assert n_workers is not None
    assert n_workers == least or (capabilities.remote and n_workers > least)  # a shared cluster
