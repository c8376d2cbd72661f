"""The rate of a run, and its remaining time."""

from __future__ import annotations

import pytest

from amltk.display import pace
from amltk.display.pace import Pace
from amltk.scheduling.snapshot import Counts


def counts(unended: int, done: int, cancelled: int = 0) -> Counts:
    return Counts(unended, None, done, 0, cancelled)


def read(pace: Pace, *readings: tuple[float, int, int]) -> tuple[float, Counts]:
    """Feed readings of time, pending and done; return the last result."""
    for elapsed, unended, done in readings:
        pace.read(elapsed, counts(unended, done))
    elapsed, unended, done = readings[-1]
    return elapsed, counts(unended, done)


def test_the_rate_is_that_of_the_last_minute() -> None:
    """A run that has sped up is shown with its current rate."""
    pace = Pace()
    now = read(pace, *[(t, 8, t) for t in range(100)], *[(100 + t, 8, 100 + 50 * t) for t in range(100)])
    assert pace.rate(*now) == pytest.approx(50)


def test_a_slow_run_has_the_rate_since_its_start() -> None:
    """If hardly any call ended in the last minute, the rate is the mean of the whole run."""
    pace = Pace()
    now = read(pace, *[(t / 4, 8, t // 4 // 600) for t in range(4 * 3600)])
    assert pace.rate(*now) == pytest.approx(5 / 3600, rel=1e-3)


def test_before_time_has_passed_there_is_no_rate() -> None:
    """The first sample does not divide by zero."""
    pace = Pace()
    now = read(pace, (0.0, 0, 5))
    assert pace.rate(*now) == 0
    assert pace.to_go(*now, None) is None
    assert pace.to_go(*now, 100) is None


def test_the_time_to_go_is_told_once_nothing_more_is_submitted() -> None:
    """A run that submitted all its work at the start has a remaining time; one that keeps submitting has none."""
    all_at_once, on_and_on = Pace(), Pace()
    now = read(all_at_once, *[(t, 100 - t, t) for t in range(21)])
    assert all_at_once.to_go(*now, None) == pytest.approx(80)
    now = read(on_and_on, *[(t, 8, t) for t in range(21)])
    assert on_and_on.to_go(*now, None) is None


def test_with_a_total_the_time_to_go_is_told_at_any_time() -> None:
    """If the total is known, a run that keeps submitting has a remaining time as well."""
    pace = Pace()
    now = read(pace, *[(t, 8, t) for t in range(21)])
    assert pace.to_go(*now, 100) == pytest.approx(80)
    assert pace.to_go(*now, 20) is None


def test_what_was_cancelled_does_not_count_as_computed() -> None:
    """A run that ends by cancelling what is pending does not look fast."""
    pace = Pace()
    now = counts(0, 10, 1000)
    pace.read(10.0, now)
    assert pace.rate(10.0, now) == 1


def test_what_is_kept_does_not_grow_with_the_time() -> None:
    """A day-long run keeps as many readings as one of a minute."""
    readings = Pace()
    read(readings, *[(t / 4, 8, t) for t in range(10_000)])
    assert len(readings._readings) <= pace.PACE_WINDOW + 1
