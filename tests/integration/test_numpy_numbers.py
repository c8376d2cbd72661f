"""Numbers of numpy and durations of numpy and pandas are accepted like Python's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from amltk._checks import check_between, check_count, check_seconds
from amltk.scheduling import Limiter, Scheduler
from amltk.scheduling.queue_monitor import QueueMonitor


@pytest.mark.parametrize("value", [np.int64(2), np.uint8(2), np.array(2)])
def test_counts(value: Any) -> None:
    """Every kind of integer is a count."""
    number = check_count("max_calls", value)
    assert (number, type(number)) == (2, int)


@pytest.mark.parametrize("value", [np.bool_(True), np.float64(2.0), np.timedelta64(2, "s"), np.array([2, 3])])
def test_no_counts(value: Any) -> None:
    """Bools, floats, durations and arrays of several numbers are not counts."""
    with pytest.raises(TypeError, match="must be a whole number"):
        check_count("max_calls", value)


@pytest.mark.parametrize("value", [np.float16(1.5), np.float32(1.5), np.float64(1.5)])
def test_numbers(value: Any) -> None:
    """Every kind of float is a number."""
    number = check_between("factor", value, 1)
    assert (number, type(number)) == (1.5, float)
    assert check_seconds("timeout", value) == 1.5


@pytest.mark.parametrize(
    "value", [np.timedelta64(1, "h"), np.timedelta64(3600, "s"), pd.Timedelta("1h"), np.float32(3600), np.int32(3600)]
)
def test_durations(value: Any) -> None:
    """An hour is an hour, in whatever unit it is stored."""
    assert check_seconds("timeout", value) == 3600.0


def test_no_durations() -> None:
    """A bool is not a number of seconds, and what is not a time has none."""
    for value in (np.bool_(True), np.array([1.0, 2.0]), np.datetime64("2024-01-01")):
        with pytest.raises(TypeError, match="must be finite"):
            check_seconds("timeout", value)
    with pytest.raises(ValueError, match="must be finite"):
        check_seconds("timeout", np.timedelta64("NaT", "s"))


def test_a_run_with_them() -> None:
    """They reach workers, limits and the display as plain numbers."""
    scheduler = Scheduler.with_processes(np.int64(1))
    task = scheduler.task(abs, plugins=Limiter(max_calls=np.int64(2)))
    monitor = QueueMonitor(scheduler)
    scheduler.on_start(repeat=np.int64(3))(lambda: task.submit(-1))
    scheduler.run(display=False, timeout=np.float32(60))
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 2
    assert task.plugins[0].status() == "calls 2/2"
    assert scheduler.n_workers == 1
    assert monitor.df(n_workers=np.int64(1))["idle"].max() == 1
    for interval in ("1 ms", 0.001, np.float32(0.001), (1, "ms")):
        monitor.plot(interval=interval)
