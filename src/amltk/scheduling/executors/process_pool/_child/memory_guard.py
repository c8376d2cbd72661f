"""Notices that a worker has grown too large, between its calls."""

from __future__ import annotations

import gc
import os
import time

from amltk.scheduling.executors.process_pool._system.descendants import ON_LINUX

LOOK_SECONDS = 1.0
"""How often a worker looks at its memory at most, in seconds: looking takes some 20 microseconds."""


class MemoryGuard:
    """See the module's docstring.

    Args:
        limit: How many bytes of memory the worker may have between calls.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next_look = 0.0

    def is_exceeded(self) -> bool:
        """Whether the worker has too much memory, even without what garbage collection frees."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        if _resident_bytes() <= self._limit:
            return False
        gc.collect()
        return _resident_bytes() > self._limit


def _resident_bytes() -> int:
    """The memory of this process that is in use now, in bytes."""
    if not ON_LINUX:
        import psutil

        resident: int = psutil.Process().memory_info().rss
        return resident
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
