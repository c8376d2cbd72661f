"""On every executor, a plain loop receives calls as they end, and a `with` block keeps the executor between runs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities

N = 12


def test_a_plain_loop(scheduler: Scheduler) -> None:
    """Each item is computed once, and delivered with its arguments."""
    calls = list(scheduler.task(abs).map(range(-N, 0)).results())
    assert sorted(call.args[0] for call in calls) == list(range(-N, 0))
    assert all(call.result() == -call.args[0] for call in calls)


def test_failures_are_outcomes(scheduler: Scheduler) -> None:
    """Each call yields its result or its exception, in the order of the items."""
    items = [(1, n % 2) for n in range(N)]  # every other one divides by zero
    calls = list(scheduler.task(divmod).map(items, unpack="args").results(ordered=True, on_exception="continue"))
    assert [call.args for call in calls] == items
    assert [type(call.exception()) for call in calls] == [ZeroDivisionError, type(None)] * (N // 2)


def test_runs_in_a_block(scheduler: Scheduler) -> None:
    """Runs in a block share the executor; one after an abandoned loop may have a fresh one."""
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
    """The number of workers is known: two here, one if calls run in the loop, the cluster's size if it is external."""
    least = 1 if capabilities.in_loop else 2
    with scheduler:
        n_workers = scheduler.n_workers
    assert n_workers is not None
    assert n_workers == least or (capabilities.remote and n_workers > least)  # a shared cluster
