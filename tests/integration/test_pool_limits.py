"""The limits of calls, and the arguments of a pool."""

from __future__ import annotations

import time
from typing import Any

import pytest

from amltk.exceptions import (
    CpuTimeLimitError,
    MemoryLimitError,
    TaskLimitError,
    WallTimeLimitError,
)
from amltk.scheduling.executors import CallLimits, ProcessPool
from tests.helpers.gate import GUARD
from tests.helpers.workers import identity


def burn() -> None:
    while True:
        pass


def hoard() -> None:
    hoarded = bytearray(400_000_000)
    time.sleep(GUARD)
    del hoarded


@pytest.mark.parametrize(
    ("limits", "fn", "args", "error"),
    [
        (CallLimits(wall_time=0.1), time.sleep, (GUARD,), WallTimeLimitError),
        (CallLimits(cpu_time=0.1), burn, (), CpuTimeLimitError),
        (CallLimits(memory=100_000_000), hoard, (), MemoryLimitError),
    ],
    ids=["wall-time", "cpu-time", "memory"],
)
def test_limits(limits: CallLimits, fn: Any, args: Any, error: type[TaskLimitError]) -> None:
    """A call that exceeds its limit ends with an error that has the limit and the usage; others are unaffected."""
    with ProcessPool(1) as pool:
        limited = pool.submit_limited(limits, fn, *args)
        after = pool.submit(identity, 1)
        with pytest.raises(error) as caught:
            limited.result(GUARD)
        assert caught.value.used >= caught.value.limit > 0
        assert caught.value.pid is not None
        assert after.result(GUARD) == 1
        assert pool.submit_limited(CallLimits(wall_time=GUARD, memory=10**12), identity, 2).result(GUARD) == 2


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"wall_time": 0}, ValueError), ({"memory": -1}, ValueError), ({"cpu_time": True}, TypeError)],
)
def test_limits_are_checked(limits: Any, error: type[Exception]) -> None:
    """An invalid limit is rejected at once."""
    with pytest.raises(error, match=f"{next(iter(limits))}="):
        CallLimits(**limits)


@pytest.mark.parametrize("arguments", [{"max_workers": 0}, {"max_tasks_per_child": 0}, {"mp_context": "teleport"}])
def test_arguments_are_checked(arguments: Any) -> None:
    """An invalid value is rejected with an error that shows it."""
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}="):
        ProcessPool(**arguments)
