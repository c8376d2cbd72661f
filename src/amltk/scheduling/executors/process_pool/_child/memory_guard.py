"""Notices that a worker has grown too large, between its calls."""

from __future__ import annotations

import gc
import time

from amltk.scheduling.executors.process_pool._system.processes import footprint, me

LOOK_SECONDS = 1.0
"""The least time between two checks of a worker's memory, in seconds."""


class MemoryGuard:
    """See the module's docstring.

    Args:
        limit: How many bytes of memory the worker may have between calls.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next_look = 0.0

    def is_exceeded(self) -> bool:
        """Whether the worker has too much memory, even after garbage collection."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        if not _is_above(self._limit):
            return False
        gc.collect()
        return _is_above(self._limit)


def _is_above(limit: int) -> bool:
    """Whether this process has more memory than that; what it shares with others counts in part."""
    try:
        process = me()
    except LookupError:  # the system does not report it
        return False
    return process.resident > limit and footprint(process).its > limit  # the latter takes milliseconds
