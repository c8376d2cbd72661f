"""The limits of one call."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from amltk._checks import check_optional_bytes, check_optional_seconds

if TYPE_CHECKING:
    from amltk.types import Duration


@dataclass(frozen=True, init=False)
class CallLimits:
    """The resources that one call may use before its worker is ended; None for no limit.

    CPU time and memory are checked 20 times a second, less often if there are thousands of processes. An excess counts
    if the next check, a hundredth of a second later, confirms it.

    Durations are given as seconds, as texts such as `"1.5 h"`, or as a `timedelta`, memory as bytes or as in `"2 GB"`.

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
        """Whether there is any limit."""
        return any(getattr(self, field.name) is not None for field in fields(self))
