"""The limits of one call."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """The resources that one call may use before its worker is ended; None for no limit.

    CPU time and memory are checked 20 times a second, less often if there are thousands of processes. An excess counts
    if the next check, a hundredth of a second later, confirms it.

    Attributes:
        wall_time: Seconds from the moment that the worker begins the call.
        cpu_time: Seconds of CPU that the worker and its processes have used since the call began: all processes that it
            and its processes have started, in this call or, like joblib's, in an earlier one. Earlier usage does not
            count; usage of processes that end during the call does. A process is missed if it begins and ends between
            two checks and its parent does not wait for it; on macOS, any process that begins and ends between two
            checks.
        memory: Bytes of memory that the worker and its processes currently use, whichever call has started them: an
            idle worker takes about 20 MB. Memory shared by these processes, for example after a fork, counts once, and
            memory shared with others counts in part, if the system reports that (Linux: PSS); otherwise the resident
            memory of each process counts.

    Raises:
        ValueError: A limit is not above 0.
        TypeError: A limit is not a number.
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
        """Whether there is any limit."""
        return any(getattr(self, field.name) is not None for field in fields(self))
