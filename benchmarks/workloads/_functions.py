"""The functions that workers compute. They are in a module so that every tool pickles them by name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def sleep(seconds: float) -> float:
    """Sleep for this long."""
    if seconds:
        time.sleep(seconds)
    return seconds


def sleep_until_when(seconds: float) -> int:
    """Sleep for this long; return the end time on the clock that all processes of a machine share."""
    if seconds:
        time.sleep(seconds)
    return time.monotonic_ns()


def count(steps: int) -> int:
    """Compute in pure Python."""
    total = 0
    for step in range(steps):
        total += step & 1
    return total


def echo(value: Any) -> Any:
    return value


def wait_for(path: str) -> None:
    """Wait until this file exists; return at once if the path is empty."""
    while path and not Path(path).exists():
        time.sleep(0.01)
