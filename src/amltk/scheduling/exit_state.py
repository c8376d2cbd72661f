"""How a run ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NoReturn


@dataclass(frozen=True)
class ExitState:
    """How a run ended, as returned by `Scheduler.run`.

    Args:
        code: Why the run ended; the first reason, if there were several.
        exception: What went wrong, if anything did and the policy was not to raise it; else None.
        exceptions: How many calls ended with an exception in this run, however `on_exception` reacted.
        callback_exceptions: How many exceptions callbacks and plugins raised, however `on_callback_exception` reacted.
        reason: The reason in words: the message given to `Scheduler.stop`, or what raised; empty if there is none.

    Two states are equal if their codes and exceptions are equal; counts and reason are ignored.
    """

    class Code(enum.Enum):
        """The reasons for which a run ends."""

        STOPPED = enum.auto()
        """`Scheduler.stop` was called, without an exception."""

        TIMEOUT = enum.auto()
        """The time given as `timeout=` was up."""

        EXHAUSTED = enum.auto()
        """Nothing was left to compute or to handle."""

        CANCELLED = enum.auto()
        """A future was cancelled, and `on_cancelled` ends the run in this case."""

        EXCEPTION = enum.auto()
        """Compute, a callback or `stop(exception=...)` had an exception, and the policy for it ends the run."""

        UNKNOWN = enum.auto()
        """The run was aborted from outside before it had a reason."""

    code: Code
    exception: BaseException | None = None
    exceptions: int = field(default=0, compare=False)
    callback_exceptions: int = field(default=0, compare=False)
    reason: str = field(default="", compare=False, kw_only=True)

    def __repr__(self) -> str:
        counts = f", exceptions={self.exceptions}, callback_exceptions={self.callback_exceptions}"
        shown = counts if self.exceptions or self.callback_exceptions else ""
        reason = f", reason={self.reason!r}" if self.reason else ""
        return f"ExitState(code={self.code!r}, exception={self.exception!r}{shown}{reason})"

    def __iter__(self) -> NoReturn:
        """Refused: a run returns no results.

        Raises:
            TypeError: Always; it shows what to write.
        """
        raise TypeError(
            "run() returns how the run ended, not the results: they arrive in events, or one by one from"
            " `for call in task.map(...).results():`"
        )
