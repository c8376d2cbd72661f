"""On every executor, a call that exceeds a limit ends, with its processes, its event and its error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CpuTimeLimitError, MemoryLimitError, WallTimeLimitError
from amltk.scheduling import ExitState, Limits
from amltk.testing import EventRecorder
from tests.contract import work
from tests.helpers.gate import pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities
    from tests.helpers.gate import Gate


@pytest.fixture
def limited(scheduler: Scheduler, capabilities: Capabilities) -> Callable[..., list[Any]] | None:
    """Computes one call within limits and then another; returns the events and the error of the first.

    None on threads, which reject limits.
    """

    def compute(limits: Limits, fn: Callable[..., Any], *args: Any) -> list[Any]:
        task = scheduler.task(fn, plugins=limits)
        recorder = EventRecorder(scheduler, task)
        others: list[Any] = []
        scheduler.on_start(lambda: task.submit(*args))
        task.on_done(lambda _: scheduler.submit(work.double, 2))
        scheduler.on_future_result(lambda _, result: others.append(result))
        assert scheduler.run(on_exception="continue").code is ExitState.Code.EXHAUSTED
        assert others == [4]
        told = [record for record in recorder.records if record.source is task]
        return [*(record.event.name for record in told), told[-1].args[1]]

    if capabilities.in_process and not capabilities.in_loop:
        with pytest.raises(ValueError, match="Python cannot end a thread"):
            compute(Limits(wall_time=1), work.double, 2)
        return None
    return compute


def test_wall_time(limited: Callable[..., list[Any]] | None, gate: Gate) -> None:
    """A call that sleeps too long is ended; its process is gone when the event is delivered."""
    if limited is None:
        return
    *told, error = limited(Limits(wall_time="1 s"), pass_gate, gate.address)
    assert told == ["submitted", "wall-time-limit-reached", "done", "exception"]
    assert isinstance(error, WallTimeLimitError)
    assert error.used >= error.limit == 1
    gate.wait_gone()


def test_cpu_time(limited: Callable[..., list[Any]] | None) -> None:
    """A call that computes too long is ended."""
    if limited is None:
        return
    *told, error = limited(Limits(cpu_time="200 ms"), work.burn)
    assert told == ["submitted", "cpu-time-limit-reached", "done", "exception"]
    assert isinstance(error, CpuTimeLimitError)


def test_memory(limited: Callable[..., list[Any]] | None) -> None:
    """A call that takes too much memory is ended."""
    if limited is None:
        return
    *told, error = limited(Limits(memory="300 MB"), work.hoard)
    assert told == ["submitted", "memory-limit-reached", "done", "exception"]
    assert isinstance(error, MemoryLimitError)
    assert error.used > error.limit == 300_000_000
