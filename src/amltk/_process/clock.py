"""Times of day whose differences are true durations, although somebody may set the clock meanwhile.

They are counted on the monotonic clock, which all processes of a machine share, from the time of day at which a run
began. While a run goes on nothing changes that; between runs they follow the time of day where it has gone ahead, as it
has when a machine has slept. They never go back.
"""

from __future__ import annotations

import threading
from time import monotonic, monotonic_ns, time_ns

_LOOKS = 5
"""How often both clocks are read; the least that lies between two readings is the error."""


def _difference() -> int:
    """By how much the time of day is ahead of the monotonic clock, in nanoseconds."""
    best = None
    for _ in range(_LOOKS):
        before, time, after = monotonic_ns(), time_ns(), monotonic_ns()
        if best is None or after - before < best[0]:
            best = after - before, time - after
    assert best is not None
    return best[1]


_ahead_ns: int = _difference()
_ahead: float = _ahead_ns / 1e9
_holders: set[object] = set()
_lock = threading.Lock()


def now() -> float:
    """Seconds since the epoch."""
    return monotonic() + _ahead


def now_ns() -> int:
    """Nanoseconds since the epoch."""
    return monotonic_ns() + _ahead_ns


def time_of(moment: float) -> float:
    """When a moment on the monotonic clock of this machine was, in seconds since the epoch."""
    return moment + _ahead


def hold(holder: object) -> None:
    """Follow the time of day no more until `release`; first catch up with it, unless there is another holder."""
    global _ahead, _ahead_ns  # noqa: PLW0603 - there is one clock
    with _lock:
        if not _holders:
            _ahead_ns = max(_ahead_ns, _difference())
            _ahead = _ahead_ns / 1e9
        _holders.add(holder)


def release(holder: object) -> None:
    """The counterpart of `hold`. Harmless when repeated."""
    with _lock:
        _holders.discard(holder)
