"""What one call may use."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """What one call may use before its worker is ended; None for no limit.

    CPU time and memory are looked at 20 times a second, less often where there are thousands of processes. An excess
    counts if the next look, a hundredth of a second later, confirms it.

    Attributes:
        wall_time: Seconds from the moment that the worker begins it.
        cpu_time: Seconds of CPU that the worker and its processes have used since the call began: those that it and
            they have started, in this call or, as joblib's, in an earlier one. What they used before is not counted;
            what the call's have used stays counted when they end. Not seen is a process that begins and ends between
            two looks and that its parent does not wait for; on macOS, any that begins and ends between two looks.
        memory: Bytes of memory that the worker and its processes have at the moment, whichever call has started them: a
            worker that has done nothing yet takes some 20 MB. Memory that several processes share, forked ones for
            instance, counts once, and shared with others in part, where the system tells (Linux: PSS); the resident
            memory counts of a process of which it does not.

    Raises:
        ValueError: A limit is not above 0.
        TypeError: A limit is no number.
    """

    wall_time: float | None = None
    cpu_time: float | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{field.name}={value!r}: must be a number above 0, or None for no limit")
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{field.name}={value!r}: must be finite and above 0, or None for no limit")

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any(getattr(self, field.name) is not None for field in fields(self))
