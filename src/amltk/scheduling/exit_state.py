"""How a run ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NoReturn


@dataclass(frozen=True)
class ExitState:
    """How a run ended, as `Scheduler.run` returns it.

    Args:
        code: The reason that ended the run; the first one, where there were several.
        exception: What went wrong, where something did and the policy was not to raise it; else None.
    """

    class Code(enum.Enum):
        """The reasons for which a run ends."""

        STOPPED = enum.auto()
        """`Scheduler.stop` was called, without an exception."""

        TIMEOUT = enum.auto()
        """The time given as `timeout=` was up."""

        EXHAUSTED = enum.auto()
        """Nothing was left to compute or to respond to."""

        CANCELLED = enum.auto()
        """A future was cancelled, and `on_cancelled` ends the run then."""

        EXCEPTION = enum.auto()
        """Compute, a callback or `stop(exception=...)` had an exception, and `on_exception` ends the run then."""

        UNKNOWN = enum.auto()
        """The run was broken off from outside before it could say why."""

    code: Code
    exception: BaseException | None = None

    def __iter__(self) -> NoReturn:
        """Refused: a run gives no results.

        Raises:
            TypeError: Always; it shows what to write.
        """
        raise TypeError(
            "run() returns how the run has ended, and no results: they come by events, or one by one by"
            " `for call in task.map(...).results():`"
        )
