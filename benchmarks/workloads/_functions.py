"""What workers compute: in a module, so that every tool sends its name and none its code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def sleep(seconds: float) -> float:
    """Nothing, for so long."""
    if seconds:
        time.sleep(seconds)
    return seconds


def sleep_until_when(seconds: float) -> int:
    """Nothing, for so long; gives the end of it, by the clock that all processes of a machine share."""
    if seconds:
        time.sleep(seconds)
    return time.monotonic_ns()


def echo(value: Any) -> Any:
    return value


def wait_for(path: str) -> None:
    """Nothing, until there is such a file; at once where there is no name."""
    while path and not Path(path).exists():
        time.sleep(0.01)
