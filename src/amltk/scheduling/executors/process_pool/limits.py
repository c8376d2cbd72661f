"""What one call may use."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from amltk._checks import check_optional_bytes, check_optional_seconds

if TYPE_CHECKING:
    from amltk.types import Duration


@dataclass(frozen=True, init=False)
class CallLimits:
    """What one call may use before its worker is ended; None for no limit.

    CPU time and memory are looked at 20 times a second, less often where there are thousands of processes. An excess
    counts if the next look, a hundredth of a second later, confirms it.

    Durations are given as seconds, as texts such as `"1.5 h"`, or as a `timedelta`, memory as bytes or as in `"2 GB"`.

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
        ValueError: A limit is not above 0 or not finite, or has no such unit.
        TypeError: A limit is neither a number nor a text, nor a `timedelta` where it is a duration.
    """

    wall_time: float | None
    cpu_time: float | None
    memory: int | None

    def __init__(
        self,
        *,
        wall_time: Duration | None = None,
        cpu_time: Duration | None = None,
        memory: float | str | None = None,
    ) -> None:
        limits = {
            "wall_time": check_optional_seconds("wall_time", wall_time, above_zero=True),
            "cpu_time": check_optional_seconds("cpu_time", cpu_time, above_zero=True),
            "memory": check_optional_bytes("memory", memory),
        }
        for name, limit in limits.items():
            object.__setattr__(self, name, limit)  # it is frozen

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return any(getattr(self, field.name) is not None for field in fields(self))
