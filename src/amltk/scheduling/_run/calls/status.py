"""What a run is at: which calls run where, how many there will be, what is in use, and what is waited for."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from amltk.scheduling._admission.amounts import amount_of
from amltk.scheduling._run.to_come import calls_so_far, calls_to_come
from amltk.scheduling.executors.execution_info import execution_info
from amltk.scheduling.future import devices_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.scheduling._admission.pools import Pools
    from amltk.scheduling.future import Future

MOST_RUNNING = 1000
"""How many running calls are listed; further ones are only counted."""


def status_of(  # noqa: PLR0917 - what only the caller knows
    run: Any, tasks: Sequence[Any], pools: Pools, now: float, workers: int | None, first: int = 0
) -> dict[str, Any]:
    """The status of a run as its file has it, see `amltk.journal.live.status`; without the process.

    Args:
        run: The run, of a layer above.
        tasks: The scheduler's tasks, of a layer above.
        pools: The scheduler's pools.
        now: The time, in seconds since the epoch.
        workers: How many workers there are; None if that is not known.
        first: The number of the run's first call, from which the file counts.
    """
    told: dict[str, Any] = {"time": now}
    running = run.submissions.running_calls()
    if running is not None:
        calls = sorted((_running(future, first) for future in islice(running, MOST_RUNNING)), key=_began)
        told |= {"running": calls, "more": len(running) - len(calls)}
    if (total := _total(tasks, run.pending_calls.accepted, first)) is not None:
        told["total"] = total
    if run.deadline is not None:
        told["deadline"] = now + run.time_left()
    if workers is not None:
        told["workers"] = workers
    if uses := in_use(pools):
        told["pools"] = uses
    n_waiting, lacking, n_dependent = waits_of(run, pools)
    if n_waiting:
        told["waiting"] = {"calls": n_waiting, "pools": lacking, "dependencies": n_dependent}
    return told


def in_use(pools: Pools) -> list[tuple[str, float, float]]:
    """Of each resource that is counted in this program: its name, how much of it calls have, and how much there is."""
    return [(name, amount_of(pool.used), amount_of(pool.total)) for name, pool in pools.counted().items()]


def waits_of(run: Any, pools: Pools) -> tuple[int, dict[str, int], int]:
    """How many calls the executor does not have yet; how many lack each resource; how many wait for other calls."""
    n_dependent = run.dependencies.n_waiting
    n_waiting, by_pool = run.submissions.waits_for()
    if not n_waiting and not n_dependent:
        return 0, {}, 0
    known = pools.counted()
    return n_waiting + n_dependent, {name: n for name, n in by_pool.items() if name in known and n}, n_dependent


def _total(tasks: Sequence[Any], accepted: int, first: int) -> int | None:
    """How many calls of the run there will be; None unless that is known for every task that has any."""
    to_come = known = 0
    for task in tasks:
        left = calls_to_come(task)
        if left is not None:
            known += calls_so_far(task)
            to_come += left
    return accepted + to_come if to_come + known and known >= first + accepted else None


def _running(future: Future[Any], first: int) -> dict[str, Any]:
    info = execution_info(future.work)
    told: dict[str, Any] = {"call": future.number - first}
    if info is not None:
        fields = {"began": info.began, "host": info.host, "pid": info.pid}
        told |= {name: value for name, value in fields.items() if value is not None}
    if devices := devices_of(future):
        told["devices"] = devices
    return told


def _began(told: dict[str, Any]) -> float:
    return float(told.get("began", math.inf))
