"""The phase of a run and the reason for its end: both are decided only here."""

from __future__ import annotations

import enum
import threading
from typing import TYPE_CHECKING

from amltk._notes import safe_repr
from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable, Sized


class Phase(enum.Enum):
    """The phases of a run, in order. A run never goes back."""

    IDLE = "has not started"
    RUNNING = "is running"
    FINISHING = "is ending"  # from the moment the end is requested: nothing more is accepted
    OVER = "is over"


class EndCause:
    """Why a run ends: what requested it, and what went wrong.

    Attributes:
        code: The reason for the end.
        message: The reason in the words of whatever requested the end; empty if there are none.
        exception: What went wrong; None if nothing did, or if it was dropped.
        raises: Whether the run raises the exception.
    """

    __slots__ = ("_reason", "code", "exception", "message", "raises")

    def __init__(self, code: ExitState.Code = ExitState.Code.UNKNOWN, message: str = "", reason: str = "") -> None:
        self.code: ExitState.Code = code
        self.message: str = message
        self.exception: BaseException | None = None
        self.raises: bool = False
        self._reason = reason  # in place of an exception that was dropped

    @property
    def reason(self) -> str:
        """Why the run ends, in words, for messages."""
        if self.exception is not None:
            return safe_repr(self.exception)
        return self._reason or (f"{self.code.name}: {self.message}" if self.message else self.code.name)


class RunLifecycle:
    """The phase of a run and the cause of its end.

    Owns both: nothing else changes them. May be used from any thread, and by signal handlers.

    The first reason counts. So does the first exception, except that one to be raised takes precedence over one that is
    not.

    Args:
        pending: The submissions that have not ended; a run with pending submissions cannot be exhausted.

    Attributes:
        phase: The phase of the run.
        running: Whether the run accepts work, that is, whether the phase is `RUNNING`.
        cause: Why it ends.
        abandon: Whether the run ends without waiting for compute.
        abandoning: Whether the run itself cancels and kills now, so that no policy applies to how calls end.
    """

    def __init__(self, pending: Sized) -> None:
        self.phase: Phase = Phase.IDLE
        self.running: bool = False
        self.cause: EndCause = EndCause()
        self.abandon: bool = False
        self.abandoning: bool = False
        self._pending = pending
        self._lock = threading.RLock()  # a signal handler may stop the run while its own thread holds it
        self._unrequested = {"end": True}  # taken by the first request: a signal handler may make one within another

    @property
    def is_ending(self) -> bool:
        """Whether the end was requested."""
        return self.phase in {Phase.FINISHING, Phase.OVER}

    @property
    def is_over(self) -> bool:
        """Whether everything was delivered."""
        return self.phase is Phase.OVER

    def move_to(self, phase: Phase) -> None:
        """Enter a phase."""
        self.phase = phase
        self.running = phase is Phase.RUNNING

    def check_running(self, what: str) -> None:
        """Raise an error saying that `what` cannot be done, unless the run accepts work."""
        if not self.running:
            why = "" if self.phase is Phase.IDLE else f" ({self.cause.reason})"
            raise SchedulerNotRunningError(
                f"cannot {what}: the run {self.phase.value}{why}; guard it with `if scheduler.running():`"
            )

    def accept(self, what: Callable[[], str], note: Callable[[], None]) -> None:
        """Call `note` if the run accepts work, atomically; else raise as `check_running` does."""
        with self._lock:
            if not self.running:
                self.check_running(what())
            note()

    def request(self, code: ExitState.Code, message: str = "", *, abandon: bool = False) -> bool:
        """Request the end.

        Returns:
            Whether this was the first reason, so that the end must be announced.
        """
        with self._lock:
            self.abandon = self.abandon or abandon
            if not self.running or (code is ExitState.Code.EXHAUSTED and self._pending):
                return False
            if self._unrequested.pop("end", None) is None:
                return False
            self.move_to(Phase.FINISHING)
            self.cause.code = code
            self.cause.message = message
            return True

    def keep(self, exception: BaseException, *, raises: bool) -> bool:
        """Note what went wrong.

        Returns:
            False if the exception was not kept because there is an earlier one.
        """
        with self._lock:
            cause = self.cause
            if cause.exception is not None and (cause.raises or not raises):
                return False
            cause.exception = exception
            cause.raises = raises
            return True

    def drop_exception(self) -> EndCause:
        """Drop the exception: much refers to a run, and the frames of a traceback may keep anything alive.

        Returns:
            Why the run ended, with the exception.
        """
        cause = self.cause
        self.cause = EndCause(cause.code, cause.message, cause.reason)
        return cause
