"""How far a run is, and why it ends: the one place where that is decided."""

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
    """The life cycle of a run; it only moves down this list."""

    IDLE = "has not started"
    RUNNING = "is running"
    FINISHING = "is ending"  # from the moment an end is asked for: nothing more is accepted
    OVER = "is over"


class RunLifecycle:
    """The phase of a run, the reason for its end, and what is to be raised. May be used from any thread.

    The first reason counts. So does the first exception, but one that is to be raised comes before one that is not.

    Args:
        pending: What has not ended; a run with something pending cannot be exhausted.

    Attributes:
        phase: How far the run is.
        running: Whether the run accepts work: whether it is in that phase.
        code: The reason for the end.
        message: The same in the words of whoever asked for it; empty if there are none.
        exception: What went wrong.
        raises: Whether the exception is to be raised to the caller of the run.
        abandon: Whether compute is not waited for.
    """

    def __init__(self, pending: Sized) -> None:
        self.phase: Phase = Phase.IDLE
        self.running: bool = False
        self.code: ExitState.Code = ExitState.Code.UNKNOWN
        self.message: str = ""
        self.exception: BaseException | None = None
        self.raises: bool = False
        self.abandon: bool = False
        self._reason = ""  # why it has ended, where the exception is not kept
        self._pending = pending
        self._lock = threading.RLock()  # a signal's handler may stop the run while its own thread holds it

    def move_to(self, phase: Phase) -> None:
        """Enter a phase."""
        self.phase = phase
        self.running = phase is Phase.RUNNING

    def check_running(self, what: str) -> None:
        """Raise an error that says `what` cannot be done, unless the run accepts work."""
        if not self.running:
            why = "" if self.phase is Phase.IDLE else f" ({self.reason})"
            raise SchedulerNotRunningError(
                f"cannot {what}: the run {self.phase.value}{why}; guard it with `if scheduler.running():`"
            )

    def accept(self, what: Callable[[], str], note: Callable[[], None]) -> None:
        """Call `note` if the run accepts work, and let no end come in between; else raise as `check_running` does."""
        with self._lock:
            if not self.running:
                self.check_running(what())
            note()

    def request(self, code: ExitState.Code, message: str = "", *, abandon: bool = False) -> bool:
        """Ask for the end.

        Returns:
            Whether this was the first reason, so that the end has to be announced.
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
            False if it was not kept, because there is an earlier exception.
        """
        with self._lock:
            if self.exception is not None and (self.raises or not raises):
                return False
            self.exception = exception
            self.raises = raises
            return True

    def without_exception(self) -> RunLifecycle:
        """The same without what went wrong, whose traceback has frames that may keep anything."""
        bare = RunLifecycle(self._pending)
        bare.phase, bare.running, bare.code, bare.abandon = self.phase, self.running, self.code, self.abandon
        bare.message, bare._reason = self.message, self.reason
        return bare

    @property
    def reason(self) -> str:
        """Why it ends, in words; for messages."""
        if self.exception is not None:
            return safe_repr(self.exception)
        return self._reason or (f"{self.code.name}: {self.message}" if self.message else self.code.name)
