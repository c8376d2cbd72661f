"""How a run ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NoReturn


@dataclass(frozen=True)
class ExitState:
    """How a run ended, as `Scheduler.run` returns it.

    Args:
        code: The reason that ended the run; the first one, where there were several.
        exception: What went wrong, where something did and the policy was not to raise it; else None.
        exceptions: How many calls ended with an exception in this run, whatever `on_exception` made of them.
        callback_exceptions: How often a callback or a plugin raised, whatever `on_callback_exception` made of it.
        reason: Why, in words: what `Scheduler.stop` was told, or what has raised; empty if there is nothing to say.

    Two states are equal when their codes and exceptions are, whatever was counted and said.
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
        """Compute, a callback or `stop(exception=...)` had an exception, and the policy about it ends the run then."""

        UNKNOWN = enum.auto()
        """The run was broken off from outside before it could say why."""

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
        """Refused: a run gives no results.

        Raises:
            TypeError: Always; it shows what to write.
        """
        raise TypeError(
            "run() returns how the run has ended, and no results: they come by events, or one by one by"
            " `for call in task.map(...).results():`"
        )
