"""What plugins share during a run."""

from __future__ import annotations

import pytest

from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling import Scheduler
from amltk.scheduling._run.resources import RunResources
from amltk.scheduling._run.run import Run


class Thing:
    """Records when it is closed."""

    def __init__(self, closed: list[Thing]) -> None:
        self.closed = closed

    def close(self) -> None:
        self.closed.append(self)


def test_a_thing_is_made_once_and_closed_once() -> None:
    """The same key returns the same object; all are closed, the last one first, and no more are created then."""
    shared, closed = RunResources(), []
    first = shared.get("a", lambda: Thing(closed))
    second = shared.get("b", lambda: Thing(closed))
    assert shared.get("a", lambda: Thing(closed)) is first
    shared.close()
    shared.close()
    assert closed == [second, first]
    with pytest.raises(SchedulerNotRunningError, match="the run is over"):
        shared.get("a", lambda: Thing(closed))


def test_what_cannot_be_made_is_tried_again() -> None:
    """A factory that raises leaves nothing behind."""
    shared, closed = RunResources(), []
    with pytest.raises(ZeroDivisionError):
        shared.get("a", lambda: Thing(1 // 0))  # type: ignore[arg-type]
    thing = shared.get("a", lambda: Thing(closed))
    shared.close()
    assert closed == [thing]


def test_a_run_closes_what_is_shared() -> None:
    """Objects exist until `@finished` was delivered, then are closed; the next run has its own."""
    scheduler = Scheduler.with_sequential()
    closed: list[Thing] = []
    made: list[Thing] = []
    runs: list[Run] = []

    @scheduler.on_start
    @scheduler.on_finished
    def use() -> None:
        made.append(scheduler.current_run.resources.get("a", lambda: Thing(closed)))
        runs.append(scheduler.current_run)
        assert made[-1] not in closed

    scheduler.run()
    scheduler.run()
    assert [made[0], made[2]] == [made[1], made[3]] == closed
    assert runs[0] is not runs[2]
    with pytest.raises(SchedulerNotRunningError, match="@start"):
        _ = scheduler.current_run


def test_an_error_in_closing_ends_in_the_run() -> None:
    """An exception in closing propagates from the run, after everything else was closed."""
    scheduler = Scheduler.with_sequential()
    closed: list[Thing] = []

    class Broken:
        def close(self) -> None:
            raise OSError("stuck")

    @scheduler.on_start
    def use() -> None:
        scheduler.current_run.resources.get("a", lambda: Thing(closed))
        scheduler.current_run.resources.get("b", Broken)

    with pytest.raises(OSError, match="stuck"):
        scheduler.run()
    assert len(closed) == 1
