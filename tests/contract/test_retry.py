"""On every executor, a call that failed or lost its worker is computed again behind the same future."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.scheduling import ExitState, Retry
from amltk.testing import EventRecorder
from tests.contract import work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities

ENDED = ["done", "result"]


def compute(scheduler: Scheduler, how: str, folder: Path) -> list[str]:
    """Compute a call whose first attempts fail; return the events of its task."""
    task = scheduler.task(work.fail_at_first, plugins=Retry(ValueError, attempts=3, lost_workers=3, wait=0.01))
    recorder = EventRecorder(scheduler, task)
    futures: list[Any] = []
    scheduler.on_start(lambda: futures.append(task.submit(how, folder, 2)))
    assert scheduler.run(on_exception="continue").code is ExitState.Code.EXHAUSTED
    assert futures[0].result() == 2
    assert scheduler.event_counts[scheduler.FUTURE_SUBMITTED] == scheduler.event_counts[scheduler.FUTURE_DONE] == 1
    return [record.event.name for record in recorder.records if record.source is task]


def test_what_raises_is_tried_again(scheduler: Scheduler, tmp_path: Path) -> None:
    """Two attempts that raise and one that returns are one call with a result."""
    assert compute(scheduler, "raise", tmp_path) == ["submitted", "retry", "retry", *ENDED]


def test_what_is_lost_is_tried_again(
    make: Callable[..., Scheduler], capabilities: Capabilities, tmp_path: Path
) -> None:
    """Two killed workers cost two attempts, and the call has a result, where a crash affects only its own call."""
    if capabilities.isolates_crashes:
        assert compute(make(), "die", tmp_path) == ["submitted", "retry", "retry", *ENDED]
