"""Limits: units, enforcement, and events."""

from __future__ import annotations

from typing import Any

import pytest

from amltk.exceptions import CpuTimeLimitError, MemoryLimitError, WallTimeLimitError
from amltk.scheduling import Limits, Scheduler
from amltk.scheduling.plugins.limits import LimitedFunction
from tests.unit.program import Program


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        ({"wall_time": 2}, "wall_time", 2),
        ({"wall_time": "90"}, "wall_time", 90),
        ({"wall_time": "1.5 h"}, "wall_time", 5400),
        ({"wall_time": " 250ms "}, "wall_time", 0.25),
        ({"cpu_time": "2 MIN"}, "cpu_time", 120),
        ({"cpu_time": "1e3 s"}, "cpu_time", 1000),
        ({"memory": 10**9}, "memory", 10**9),
        ({"memory": "2 GB"}, "memory", 2 * 10**9),
        ({"memory": "2GiB"}, "memory", 2 * 2**30),
        ({"memory": "1_000 kb"}, "memory", 10**6),
        ({"memory": 1.5e9}, "memory", 1_500_000_000),
    ],
)
def test_units(given: dict[str, Any], limit: str, expected: float) -> None:
    """Numbers are seconds and bytes; strings have a unit, in either case."""
    assert getattr(Limits(**given).limits, limit) == expected


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({}, ValueError, "has no limit"),
        ({"wall_time": 0}, ValueError, "wall_time=0: must be finite and above 0: a number of seconds"),
        ({"wall_time": "2 parsecs"}, ValueError, "(ms, s, min, h, d)"),
        ({"wall_time": "soon"}, ValueError, "wall_time='soon'"),
        ({"wall_time": "-1 s"}, ValueError, "wall_time='-1 s'"),
        ({"cpu_time": float("inf")}, ValueError, "cpu_time=inf"),
        ({"cpu_time": True}, TypeError, "cpu_time=True"),
        ({"memory": "2 G"}, ValueError, "GB"),
        ({"memory": [1]}, TypeError, "memory=[1]: must be finite and above 0: a number of bytes"),
    ],
)
def test_bad_limits(given: dict[str, Any], error: type[Exception], says: str) -> None:
    """Invalid limits raise at once, with the value and the valid units."""
    with pytest.raises(error) as caught:
        Limits(**given)
    assert says in str(caught.value)


def test_threads_are_refused() -> None:
    """Threads cannot be killed: creating the task raises an error that names the remedy."""
    scheduler = Scheduler.with_threads(1)
    with pytest.raises(ValueError, match=r"cannot end a thread. Use Scheduler.with_processes"):
        scheduler.task(abs, plugins=Limits(wall_time=1))


def test_a_pool_enforces_them_itself() -> None:
    """On processes the function goes to the pool unchanged, with its limits."""
    scheduler = Scheduler.with_processes(1)
    calls: list[Any] = []
    scheduler.executor.submit_limited = lambda *call: calls.append(call)  # type: ignore[attr-defined]
    task = scheduler.task(abs, plugins=Limits(wall_time=1))
    scheduler.on_start(lambda: task.submit(-1))
    with pytest.raises(TypeError, match="must return a future"):
        scheduler.run()
    ((limits, fn, argument),) = calls
    assert (limits.wall_time, fn, argument) == (1, abs, -1)


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (WallTimeLimitError("late"), Limits.WALL_TIME_LIMIT_REACHED),
        (CpuTimeLimitError("busy"), Limits.CPU_TIME_LIMIT_REACHED),
        (MemoryLimitError("large"), Limits.MEMORY_LIMIT_REACHED),
    ],
)
def test_each_limit_has_its_event(error: Exception, event: Any) -> None:
    """A limit's event comes before the outcome, with the future and the error, and no other limit's event comes."""
    program = Program(plugins=Limits(wall_time=1, cpu_time=1, memory="1 GB"))
    program.submit()
    program.at(1, program.executor.fail, 0, error)
    program.run(on_exception="continue")
    assert program.own == ["submitted", event.name, "done", "exception"]
    (told,) = (record for record in program.recorder.records if record.event is event)
    assert told.args == (next(iter(program.histories())), error)


def test_elsewhere_the_function_takes_a_process_along() -> None:
    """On an executor without limits the function is wrapped, and keeps its name in messages."""
    program = Program(plugins=Limits(wall_time="1 s", memory="1 GB"))
    program.submit()
    program.at(1, program.executor.finish, 0)
    program.run()
    (submission,) = program.executor.submissions
    assert isinstance(submission.fn, LimitedFunction)
    assert submission.fn.__qualname__ == "work"
    assert program.task.plugins[0].status() == "wall time 1 s · memory 1,000 MB"
