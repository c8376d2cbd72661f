"""What one call may use."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """What one call may use before its worker is ended; None for no limit.

    Attributes:
        wall_time: Seconds from the moment that the worker begins it.
        cpu_time: Seconds of CPU of the worker and of the processes that it has started. Looked at 20 times a second.
        memory: Bytes of resident memory of the worker and of the processes that it has started, all in all: a worker
            that has done nothing yet takes some 20 MB. Looked at 20 times a second.

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
