"""How the end of a run with a journal comes about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._notes import add_note
from amltk._shield import shielded
from amltk.exceptions import JournalError
from amltk.scheduling._run.end_requests import EndRequests
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._run.journaled.input_recorder import InputRecorder

Code = ExitState.Code


class JournaledEndRequests(EndRequests):
    """Records what ends the run. See `EndRequests`."""

    def __init__(self, recorder: InputRecorder, *args: Any) -> None:
        super().__init__(*args)
        self._recorder = recorder
        self._is_an_input = False

    def request(
        self, code: ExitState.Code, message: str = "", exception: BaseException | None = None, *, abandon: bool = False
    ) -> None:
        """As in `EndRequests`. An end without waiting suspends the run."""
        journal = self._recorder.journal
        if journal.recording and not abandon and self._lifecycle.running and not self._is_an_input:
            if code is Code.EXHAUSTED:
                if journal.replaying or not self._inbox.here():
                    return
                self._recorder.note_exhausted()
            else:
                self._recorder.do_end(code)
        super().request(code, message, exception, abandon=abandon)

    @shielded
    def stop(self, message: str, exception: BaseException | None) -> None:
        """As in `EndRequests`; from outside of callbacks, as an input."""
        if self._recorder.journal.recording and not self._recorder.is_in_callback():
            self._inbox.put_and_wake(self.stop_as_asked, message, exception)
        else:
            super().stop(message, exception)

    def call_failed(self, error: BaseException, label: str, *, raises: bool) -> None:
        """As in `EndRequests`. One that was recorded is not computed again, whatever the function does by now."""
        super().call_failed(error, label, raises=raises)
        journal = self._recorder.journal
        if journal.replaying:
            add_note(
                error,
                "recorded in the journal by an earlier session, and not computed again;"
                f" `amltk retry {journal} --failed` has the program, started again, compute it",
            )

    def begin_to_abandon(self) -> None:
        """As in `EndRequests`. What this causes is not recorded: a program that goes further computes those calls."""
        super().begin_to_abandon()
        if self._lifecycle.abandon:
            self._backend.leave_calls()  # the next session goes on from here
        try:
            self._recorder.end_record()
        except JournalError as error:
            self._recorder.refuse(error)

    def stop_as_asked(self, message: str, exception: BaseException | None) -> None:
        """Carry out a `stop` from outside of callbacks, as an input."""
        self._as_input(lambda: super(JournaledEndRequests, self).stop(message, exception))

    def time_is_up(self) -> None:
        """End the run at its timeout, as an input."""
        self._as_input(lambda: self.request(Code.TIMEOUT))

    def exhausted(self) -> None:
        """End the run, which has nothing left to do, as an input."""
        self._as_input(lambda: self.request(Code.EXHAUSTED))

    def _as_input(self, request: Callable[[], None]) -> None:
        self._is_an_input = True
        try:
            request()
        finally:
            self._is_an_input = False
