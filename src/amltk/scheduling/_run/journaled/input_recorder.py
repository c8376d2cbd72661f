"""Records the inputs of a run, and what callbacks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.exceptions import JournalError, JournalMismatchError, JournalUnsupportedError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.action import Action
from amltk.scheduling._journal.values import dump_error, encoded, outcome_of
from amltk.scheduling._run.journaled.end_requests import JournaledEndRequests
from amltk.scheduling._run.journaled.foreign import ForeignWaits
from amltk.scheduling._run.journaled.heartbeat import Heartbeat
from amltk.scheduling._run.journaled.messages import Messages
from amltk.scheduling._run.journaled.parts import JournaledSubmissions, JournaledTimers
from amltk.scheduling._run.journaled.replayer import END, Replayer
from amltk.scheduling._run.journaled.status_reporter import StatusReporter
from amltk.scheduling._run.journaled.world import WorldWarner
from amltk.scheduling.events import callback_name
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from amltk.journal.format import Record
    from amltk.scheduling._journal.inbox import JournaledInbox
    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._run.journaled.from_outside import FromOutside
    from amltk.scheduling._run.journaled.run import JournaledRun
    from amltk.scheduling._run.pending_calls import PendingCalls
    from amltk.scheduling.call import Heard
    from amltk.scheduling.future import Future

    Written = tuple[Kind, dict[str, Any], bytes | None, int | None]
    """What is written of an input: kind, head, value, number of the call."""

    Writer = Callable[..., Written | None]
    """Says what to write of an input; None if that is known only when earlier inputs were told."""

Code = ExitState.Code


class InputRecorder:
    """Decides what to record of the inputs of a run, and of what callbacks do. On the loop's thread.

    Args:
        journal: The journal.
        from_outside: Handles requests from outside of callbacks.
        tasks: The scheduler's tasks, from a layer above; more may be added.

    Attributes:
        journal: The journal.
        from_outside: As given.
        messages: Handles the messages of calls.
        replayer: Replays what is recorded.
        events_told: How many events were handled after the end was requested and before it was announced.
        foreign: Awaits what does not belong to the run.
        on_recorded: Called when everything that has happened is recorded; None if nothing needs to know.
    """

    def __init__(self, journal: RunJournal, from_outside: FromOutside, tasks: Sequence[Any] = ()) -> None:
        self.journal: RunJournal = journal
        self.from_outside: FromOutside = from_outside
        self.messages: Messages = Messages()
        self._warner = WorldWarner()
        self.foreign: ForeignWaits = ForeignWaits(journal)
        self._run: JournaledRun
        self._inbox: JournaledInbox
        self._settle: Callable[..., None]
        self._pending_calls: PendingCalls
        self._requests: JournaledEndRequests
        self._tasks = tasks
        self.on_recorded: Callable[[], None] | None = None
        self._heartbeat: Heartbeat
        self._status: StatusReporter
        self.events_told: int = 0  # while the end is not announced
        self._events_put = 0
        self.replayer: Replayer = Replayer(self)
        self._writers: dict[Callable[..., object], Writer | None] = {}

    def connect(self, run: JournaledRun, inbox: JournaledInbox) -> None:
        """Say whose inputs they are, once the run has its parts."""
        self._run, self._inbox = run, inbox
        self._settle, self._pending_calls = run.settlement.settle, run.pending_calls
        requests, submissions, timers = run.end_requests, run.submissions, run.timers
        assert isinstance(requests, JournaledEndRequests)
        assert isinstance(submissions, JournaledSubmissions)
        assert isinstance(timers, JournaledTimers)
        self._requests = requests
        self.replayer.connect(run, inbox, requests, submissions, timers)
        self.from_outside.connect(run, inbox)
        self.messages.connect(run)
        self.foreign.connect(run.loop, inbox)
        self._heartbeat = Heartbeat(run.loop, self.journal, lambda: len(run.pending_calls) > 0, requests.crashed)
        self._status = StatusReporter(run, self.journal.folder, self._tasks)
        self._writers = {
            inbox.run_own: None,
            timers.call: lambda timer: (Kind.TIMER, {"timer": timer.number}, None, None),
            run.settlement.conclude_reviewed: lambda future, _: _step(f"conclude {future.number}"),
            run.settlement.hooks.answered: lambda future, *_: _step(f"answered {future.number}"),
            run.announce_end: lambda *_: _step(END),
            run.tell: self._write_event,
            run.tell_heard: self.messages.write,
            self.foreign.end: self.foreign.write,
            requests.time_is_up: lambda: (Kind.STOP, {"code": Code.TIMEOUT.name}, None, None),
            requests.stop_as_asked: self._write_stop,
            submissions.cancel_as_asked: _write_cancel,
            self.from_outside.carry_out: self.from_outside.write,
        }

    def keep_alive(self) -> None:
        """Record now and then that the run is alive, and what is running. Called when nothing is left to handle."""
        self._heartbeat.keep()
        self._status.keep()
        if self.on_recorded is not None:
            self.on_recorded()

    def is_in_callback(self) -> bool:
        """Whether this is a callback of the run, on its thread, or the body of a loop over results."""
        return self._inbox.here() and (self._run.in_user_code or not self._run.loop.is_running())

    def is_outside(self) -> bool:
        """Whether what happens now is neither caused by an input nor done by a callback."""
        return not self._inbox.is_handling_here() and not self.is_in_callback()

    def is_recording(self) -> bool:
        """Whether what happens now belongs to the journal."""
        return self.journal.recording and not self._run.lifecycle.abandon

    def warn_of(self, what: str) -> None:
        """Warn if a callback asks for this, which differs at a replay."""
        if self.is_recording() and self.is_in_callback():
            self._warner.warn(what)

    def refuse(self, error: JournalError) -> None:
        """End the run with an error, without waiting, whatever its policies say."""
        self._run.end_requests.fail(str(error), error, raises=True, abandon=True)

    # ------------------------------------------------------------------ what callbacks do

    def do(self, action: Action) -> bool:
        """Record what a callback does, or compare it with what is recorded. Whether it is done for the first time.

        Raises:
            JournalMismatchError: Something else is recorded.
        """
        is_new = self.find(action) is None
        if is_new and self.journal.recording:
            self.journal.add(action)
        return is_new

    def write_heard(self, heard: Heard) -> tuple[int, float]:
        """Record a message that is delivered at once. Returns the number and the time of its record."""
        at = self.journal.time()
        kind, head, value, number = self.messages.write(heard)
        record = self.journal.add_input(kind, head, value, call=number, at=at)
        self.journal.flush()
        return record, at

    def find(self, action: Action) -> Record | None:
        """The record of what a callback does; None if it is done for the first time. Raises as `do` does."""
        try:
            return self.journal.comparison.recorded(action)
        except JournalMismatchError as error:
            self.refuse(error)
            raise

    def do_end(self, code: ExitState.Code) -> None:
        """The same for a request to end the run."""
        head: dict[str, Any] = {"code": code.name}
        if code is Code.TIMEOUT:
            head |= {"check": self._run.questions, "alive": self.journal.counted}
        self.do(Action(Kind.STOP, None, head, None, None, lambda: f"the run is asked to end ({code.name})"))

    def note_exhausted(self) -> None:
        """Record that nothing is left to do: this is the next input."""
        journal = self.journal
        at = journal.time()
        number = journal.add_input(Kind.STOP, {"code": Code.EXHAUSTED.name}, at=at)
        journal.flush()
        journal.tell(number, at, int)

    # ------------------------------------------------------------------ recording

    def admit(self, items: Iterable[Any]) -> list[Any]:
        """Record inputs that came in together; returns what to handle instead of them.

        Raises:
            JournalError: One of them cannot be recorded, or the journal cannot be written.
        """
        if not self.journal.recording or self.journal.at_end:
            return [item for item in items if not self._is_cut_off(item)]
        at, admitted = self.journal.time(), []
        for item in items:
            handled = self._admit_call(item, at) if type(item) is tuple else self._admit_outcome(item, at)
            if handled is not None:
                admitted.append(handled)
        self.journal.flush()
        return admitted

    def _is_cut_off(self, item: Any) -> bool:
        """Whether it is the outcome of a call that came too late to be recorded, while the run abandons its calls.

        Callbacks are then told that the call was cancelled, as at a replay, and as for the others that are cut off.
        """
        if type(item) is tuple or not self._run.lifecycle.abandoning or self._pending_calls.of(item) is None:
            return False
        error = outcome_of(item).error
        return error is None or not self._run.is_of_the_end(error)

    def _admit_call(self, item: tuple[Any, ...], at: float) -> Any:
        """Record an input. Returns what to handle instead; None for what is to come later."""
        call = item[0]
        if call not in self._writers:
            raise JournalUnsupportedError(f"{callback_name(call)} is an input that cannot be recorded yet")
        write = self._writers[call]
        if write is None:
            return item
        written = write(*item[1:])
        if written is None:
            if not item[1].done():  # a future
                self._inbox.put_back(item)
            return None
        kind, head, value, number = written
        record = self.journal.add_input(kind, head, value, call=number, at=at)
        return (self.journal.tell, record, at, *item)

    def _admit_outcome(self, item: Any, at: float) -> Any:
        """The same for the outcome of a call; None for what is no input."""
        future = self._pending_calls.of(item)
        if future is None:
            return None  # it was cancelled: a callback did that
        outcome = outcome_of(item)
        if outcome.error is not None and self._run.is_of_the_end(outcome.error):
            return item
        journal = self.journal
        record = journal.add_encoded(*encoded(outcome, item, future), future.number, at)
        return (journal.tell, record, at, self._settle, item, outcome)

    def _write_event(self, *_: object) -> Written:
        self.events_told += 1
        return _step(f"event {self.events_told}")

    def _write_stop(self, message: str, exception: BaseException | None) -> Written:
        value = None if exception is None else dump_error(exception)
        return Kind.STOP, {"code": Code.STOPPED.name, "message": message}, value, None

    def check_from_elsewhere(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Raise a `JournalUnsupportedError` for what another thread may not ask for."""
        if self.journal.recording:
            what = f"{args[0].event} from another thread" if call == self._run.tell else callback_name(call)
            raise JournalUnsupportedError(
                f"{what}: with journal=, this cannot be recorded if another thread asks for it. Do it in a callback"
            )

    def check_suspended(self) -> None:
        """Record nothing more if the run ends without waiting: the next session goes on from here."""
        if self.journal.recording and self._run.lifecycle.abandon:
            was_replaying = self.journal.replaying
            self.journal.suspend(self._run.lifecycle.cause.reason)
            if was_replaying:
                self.from_outside.end_wait()
                self._inbox.end_replay()

    def end_record(self) -> None:
        """Record the end of the run, or of the session, unless it is recorded. Raises as `RunJournal.finish` does."""
        self.check_suspended()
        cause = self._run.lifecycle.cause
        self.journal.finish(cause.code.name, cause.reason)

    def finish(self) -> None:
        """The run is over. Raises as `end_record` does."""
        self._heartbeat.stop()
        self._status.stop()
        self.foreign.close()
        self.from_outside.close()
        self.end_record()

    # ------------------------------------------------------------------ replaying

    def step_name(self, call: Callable[..., object], args: tuple[Any, ...]) -> str:
        """The name of an input that the run has put off itself; empty for any other."""
        if call == self._run.tell:
            self._events_put += 1
            return f"event {self._events_put}"
        write = self._writers.get(call)
        if write is None or call == self._requests.stop_as_asked or (written := write(*args)) is None:
            return ""
        kind, head, *_ = written
        return str(head["step"]) if kind == Kind.STEP else ""


def _step(name: str) -> Written:
    return Kind.STEP, {"step": name}, None, None


def _write_cancel(future: Future[Any]) -> Written | None:
    # A call that another thread has submitted has a number only when that was handled, and plugins have let it pass.
    return None if future.number < 0 else (Kind.REQUEST, {}, None, future.number)
