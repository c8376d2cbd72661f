"""Durations, times and workers in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.journal import Call

_MB, _GB = 10**6, 10**9
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def seconds(duration: float) -> str:
    """A duration with its unit, in three digits or so: `1.5 h`."""
    for size, unit in _UNITS:
        if duration >= size:
            return f"{duration / size:.3g} {unit}"
    return f"{duration:.3g} s" if duration >= 1 else f"{duration * 1000:.3g} ms"


def size(memory: int) -> str:
    """An amount of memory with its unit: `210 MB`, `1.5 GB`."""
    return f"{memory / _GB:.1f} GB" if memory >= _GB else f"{memory / _MB:.0f} MB"


def moment(time: float) -> str:
    """A time of day, in UTC, to the second."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def where(call: Call) -> str:
    """The worker of a call; empty if it is not known."""
    if call.pid is None:
        return call.host or ""
    return f"{call.pid}@{call.host}" if call.host else str(call.pid)
