"""Measures what a call uses, in the worker that computes it."""

from __future__ import annotations

import os
import resource
import sys
import time

LEAST_SECONDS = 0.001
"""Calls that take less are not measured to the end: that would take a part of their time."""

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

_RESET_PEAK = b"5"
"""Written to `/proc/self/clear_refs`, it makes the peak memory of this process what it uses now, see proc(5)."""


class Meter:
    """The CPU time of this process between two moments, and the most memory that it had.

    The system knows the peak of a process's whole life; Linux can forget the earlier one. Where it cannot, the peak of
    a call is only known if there was no higher one before.
    """

    def __init__(self) -> None:
        self._reset: int | None = None
        self._cpu = 0.0
        self._peak = 0  # that was reached before the call; 0 if the system has forgotten it
        try:
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:  # not Linux, or not allowed in this container
            pass

    def begin(self) -> None:
        """A call begins."""
        if self._reset is not None:
            try:
                os.pwrite(self._reset, _RESET_PEAK, 0)
            except OSError:  # the function of an earlier call has closed it
                self._reset = None
        if self._reset is None:
            self._peak = _peak()
        self._cpu = time.process_time()

    def end(self) -> tuple[float, int]:
        """The seconds of CPU time since then, and the most bytes of memory; 0 if those are not known."""
        cpu, peak = time.process_time() - self._cpu, _peak()
        return cpu, peak if peak > self._peak else 0


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT
