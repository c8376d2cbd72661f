"""Times of day whose differences are true durations, even if the clock is set."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator

import pytest

from amltk._process import clock
from amltk.scheduling import Scheduler, SequentialExecutor
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.timeline import Timeline
from tests.helpers import sources

HOUR = 3600.0
MUCH = 60.0
"""Seconds longer than any machine is busy."""


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Set the clock of this process off by this many seconds."""
    monotonic = time.monotonic_ns
    real = time.time_ns() - monotonic()

    def set_clock(by: float) -> None:
        def time_ns() -> int:
            return monotonic() + real + round(by * 1e9)

        monkeypatch.setattr(clock, "time_ns", time_ns)
        monkeypatch.setattr(time, "time_ns", time_ns)
        monkeypatch.setattr(time, "time", lambda: time_ns() / 1e9)

    monkeypatch.setattr(clock, "_ahead", clock._ahead)  # restored at the end
    monkeypatch.setattr(clock, "_ahead_ns", clock._ahead_ns)
    set_clock(0)
    return set_clock


def test_it_tells_the_time_of_day() -> None:
    """If the clock was not set, it returns what `time.time()` returns."""
    clock.hold("a test")
    clock.release("a test")
    assert clock.now() == pytest.approx(time.time(), abs=MUCH)
    assert clock.now_ns() / 1e9 == pytest.approx(time.time(), abs=MUCH)
    assert clock.time_of(time.monotonic()) == pytest.approx(time.time(), abs=MUCH)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_it_stays_while_a_run_holds_it(set_clock: Callable[[float], None], by: float) -> None:
    """Setting the clock changes no time reported during a run, or during a concurrent run."""
    before = clock.now()
    clock.hold("first")
    set_clock(by)
    clock.hold("second")
    assert 0 <= clock.now() - before < MUCH
    for holder in ("first", "second", "second"):
        clock.release(holder)


def test_it_follows_a_clock_that_has_gone_ahead_from_the_next_run_on(set_clock: Callable[[float], None]) -> None:
    """After sleep a machine's time of day has advanced; setting it back does not repeat moments."""
    before = clock.now()
    for by in (HOUR, -HOUR):
        set_clock(by)
        clock.hold("next")
        clock.release("next")
        assert clock.now() == pytest.approx(before + HOUR, abs=MUCH)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_who_sets_the_clock_changes_no_duration(set_clock: Callable[[float], None], by: float) -> None:
    """If the clock is set during a call, its duration stays true in the timeline and the queue monitor."""
    scheduler = Scheduler(SequentialExecutor())
    timeline, monitor = Timeline(scheduler), QueueMonitor(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(set_clock, by), scheduler.submit(int)])
    scheduler.run(display=False)
    records = timeline.records()
    times = [at for r in records for at in (r.submitted, r.began, r.ended) if at is not None]
    assert len(times) == 6
    assert max(times) - min(times) < MUCH
    assert all(r.submitted <= (r.began or 0) <= (r.ended or 0) for r in records)
    steps = [at for at, _ in monitor._history.steps()]
    assert max(steps) - min(steps) < MUCH * 1e9


@pytest.mark.parametrize(
    ("began", "ended", "expected"),
    [
        (101.0, 103.0, (101.0, 103.0)),
        (100.0, 110.0, (100.0, 110.0)),
        (90.0, 92.0, (108.0, 110.0)),  # behind
        (3700.0, 3702.0, (108.0, 110.0)),  # ahead
        (109.0, 111.0, (108.0, 110.0)),
        (50.0, None, (50.0, None)),
    ],
)
def test_of_a_clock_that_differs_only_durations_are_believed(
    began: float, ended: float | None, expected: tuple[float, float | None]
) -> None:
    """Times that cannot lie between submission and arrival of the outcome are shifted to end at the arrival."""
    told = ExecutionInfo("elsewhere", 1, None, began, ended).within(100.0, 110.0)
    assert (told.began, told.ended) == expected


def test_nothing_else_reads_the_time_of_day() -> None:
    """Durations use the monotonic clock: only `clock` and the comparison of processes' starts read the time of day."""
    allowed = {"clock.py", "processes.py"}
    readers = [
        f"{module}:{node.lineno}"
        for module, tree in sources.trees().items()
        if module.rpartition("/")[2] not in allowed
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.ImportFrom) and _reads_time_of_day(node)
    ]
    assert readers == []


def _reads_time_of_day(node: ast.Attribute | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "time" and bool({name.name for name in node.names} & {"time", "time_ns"})
    if node.attr in {"now", "utcnow", "today"}:
        return "datetime" in ast.unparse(node)
    return node.attr in {"time", "time_ns"} and isinstance(node.value, ast.Name) and node.value.id == "time"
