"""What a run with a journal has to do with the world around it: warnings of what differs each time, and a job's end."""

from __future__ import annotations

import os
import sys
import warnings

OWN = "amltk."

JOB_END = "SLURM_JOB_END_TIME"
"""When Slurm ends the job of this process, in seconds since the epoch. Other schedulers tell their jobs nothing."""


class WorldWarner:
    """Warns, once for each callback, of what reads the world and differs at a replay."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def warn(self, what: str) -> None:
        """Warn that the callback that is running asks for this."""
        frame, level = sys._getframe(1), 2
        while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(OWN):
            frame, level = frame.f_back, level + 1
        name = frame.f_code.co_qualname
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"{name} asks for {what}, which may differ when the program is started again: a callback of a run with"
                " a journal must not act on it. Use n_pending or queue, or scheduler.once(...)",
                RuntimeWarning,
                stacklevel=level,
            )


def job_end() -> float | None:
    """When the batch job of this process ends, in seconds since the epoch; None if there is none, or if unknown."""
    text = os.environ.get(JOB_END, "")
    return float(text) if text.isdigit() else None
