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


class RunLifecycle:
    """The phase of a run, the reason for its end, and what is to be raised. May be used from any thread.

    The first reason counts. So does the first exception, except that one to be raised takes precedence over one that is
    not.

    Args:
        pending: The submissions that have not ended; a run with pending submissions cannot be exhausted.

    Attributes:
        phase: The phase of the run.
        running: Whether the run accepts work, that is, whether the phase is `RUNNING`.
        code: The reason for the end.
        message: The reason in the words of whatever requested the end; empty if there are none.
        exception: What went wrong.
        raises: Whether the run raises the exception.
        abandon: Whether the run ends without waiting for compute.
    """

    def __init__(self, pending: Sized) -> None:
        self.phase: Phase = Phase.IDLE
        self.running: bool = False
        self.code: ExitState.Code = ExitState.Code.UNKNOWN
        self.message: str = ""
        self.exception: BaseException | None = None
        self.raises: bool = False
        self.abandon: bool = False
        self._reason = ""  # why it ended, if the exception is not kept
        self._pending = pending
        self._lock = threading.RLock()  # a signal handler may stop the run while its own thread holds it

    def move_to(self, phase: Phase) -> None:
        """Enter a phase."""
        self.phase = phase
        self.running = phase is Phase.RUNNING

    def check_running(self, what: str) -> None:
        """Raise an error saying that `what` cannot be done, unless the run accepts work."""
        if not self.running:
            why = "" if self.phase is Phase.IDLE else f" ({self.reason})"
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
            self.move_to(Phase.FINISHING)
            self.code = code
            self.message = message
            return True

    def keep(self, exception: BaseException, *, raises: bool) -> bool:
        """Note what went wrong.

        Returns:
            False if the exception was not kept because there is an earlier one.
        """
        with self._lock:
            if self.exception is not None and (self.raises or not raises):
                return False
            self.exception = exception
            self.raises = raises
            return True

    def without_exception(self) -> RunLifecycle:
        """A copy without the exception, whose traceback has frames that may keep anything alive."""
        bare = RunLifecycle(self._pending)
        bare.phase, bare.running, bare.code, bare.abandon = self.phase, self.running, self.code, self.abandon
        bare.message, bare._reason = self.message, self.reason
        return bare

    @property
    def reason(self) -> str:
        """Why the run ends, in words, for messages."""
        if self.exception is not None:
            return safe_repr(self.exception)
        return self._reason or (f"{self.code.name}: {self.message}" if self.message else self.code.name)
