"""Records the inputs of a run, and tells it recorded ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.exceptions import JournalError, JournalMismatchError, JournalUnsupportedError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.action import Action
from amltk.scheduling._journal.placeholder import PlaceholderFuture
from amltk.scheduling._journal.values import dump_error, ending_of, load, outcome_of
from amltk.scheduling._run.journaled.foreign import ForeignWaits
from amltk.scheduling._run.journaled.heartbeat import Heartbeat
from amltk.scheduling._run.journaled.messages import Messages
from amltk.scheduling._run.journaled.parts import JournaledEndRequests, JournaledSubmissions, JournaledTimers
from amltk.scheduling._run.journaled.world import WorldWarner
from amltk.scheduling.events import callback_name
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from amltk.journal.format import Record
    from amltk.scheduling._journal.inbox import JournaledInbox
    from amltk.scheduling._journal.playback import RecordedInput
    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._run.journaled.from_outside import FromOutside
    from amltk.scheduling._run.journaled.run import JournaledRun
    from amltk.scheduling.call import Heard
    from amltk.scheduling.future import Future

    Written = tuple[Kind, dict[str, Any], bytes | None, int | None]
    """What is written of an input: kind, head, value, number of the call."""

    Writer = Callable[..., Written | None]
    """Says what to write of an input; None if that is known only when earlier inputs were told."""

Code = ExitState.Code

END = "end"
"""The step in which the end of the run is announced."""


class InputRecorder:
    """Knows what the inputs of a run mean: what to write of them, and how to tell them again. On the loop's thread.

    Args:
        journal: The journal.
        from_outside: Takes what is asked for from outside of callbacks.

    Attributes:
        journal: The journal.
        from_outside: As given.
        foreign: Awaits what does not belong to the run.
    """

    def __init__(self, journal: RunJournal, from_outside: FromOutside) -> None:
        self.journal: RunJournal = journal
        self.from_outside: FromOutside = from_outside
        self._messages = Messages()
        self._warner = WorldWarner()
        self.foreign: ForeignWaits = ForeignWaits(journal)
        self._ends_to_come: set[str] = set()  # of calls that are held back no more, in the replay
        self._run: JournaledRun
        self._inbox: JournaledInbox
        self._requests: JournaledEndRequests
        self._submissions: JournaledSubmissions
        self._timers: JournaledTimers
        self._heartbeat: Heartbeat
        self.keep_alive: Callable[[], None]
        self._expected: dict[int, tuple[Future[Any], bool]] = {}  # submitted in the replay, and not ended
        self._events_told = self._events_put = 0  # while the end is not announced
        self._writers: dict[Callable[..., object], Writer | None] = {}
        self._readers: dict[int, Callable[[RecordedInput], None]] = {
            Kind.RESULT: self._tell_outcome,
            Kind.EXCEPTION: self._tell_outcome,
            Kind.LOST: self._tell_outcome,
            Kind.CANCELLED: self._tell_outcome,
            Kind.TIMER: self._tell_timer,
            Kind.MESSAGE: self._tell_message,
            Kind.WAKEUP: self._tell_wakeup,
            Kind.STEP: self._tell_step,
            Kind.STOP: self._tell_stop,
            Kind.REQUEST: self._tell_request,
        }

    def connect(self, run: JournaledRun, inbox: JournaledInbox) -> None:
        """Say whose inputs they are, once the run has its parts."""
        self._run, self._inbox = run, inbox
        requests, submissions, timers = run.end_requests, run.submissions, run.timers
        assert isinstance(requests, JournaledEndRequests)
        assert isinstance(submissions, JournaledSubmissions)
        assert isinstance(timers, JournaledTimers)
        self._requests, self._submissions, self._timers = requests, submissions, timers
        self.from_outside.connect(run, inbox)
        self._messages.connect(run)
        self.foreign.connect(run.loop, inbox)
        self._heartbeat = Heartbeat(run.loop, self.journal, lambda: len(run.pending_calls) > 0, requests.crashed)
        self.keep_alive = self._heartbeat.keep
        self._writers = {
            inbox.run_own: None,
            timers.call: lambda timer: (Kind.TIMER, {"timer": timer.number}, None, None),
            run.settlement.conclude_reviewed: lambda future, _: _step(f"conclude {future.number}"),
            run.settlement.hooks.answered: lambda future, *_: _step(f"answered {future.number}"),
            run.announce_end: lambda *_: _step(END),
            run.tell: self._write_event,
            run.tell_heard: self._messages.write,
            self.foreign.end: self.foreign.write,
            requests.time_is_up: lambda: (Kind.STOP, {"code": Code.TIMEOUT.name}, None, None),
            requests.stop_as_asked: self._write_stop,
            submissions.cancel_as_asked: _write_cancel,
            self.from_outside.carry_out: self.from_outside.write,
        }

    def is_in_callback(self) -> bool:
        """Whether this is a callback of the run, on its thread, or the body of a loop over results."""
        return self._inbox.here() and (self._run.in_user_code or not self._run.loop.is_running())

    def is_outside(self) -> bool:
        """Whether what happens now is neither caused by an input nor done by a callback."""
        return not self._inbox.here() or not (self._inbox.is_handling() or self.is_in_callback())

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
        """Record a message that is told at once. Returns the number and the time of its record."""
        at = self.journal.time()
        kind, head, value, number = self._messages.write(heard)
        record = self.journal.add_input(kind, head, value, call=number, at=at)
        self.journal.flush()
        return record, at

    def find(self, action: Action) -> Record | None:
        """The record of what a callback does; None if it is done for the first time. Raises as `do` does."""
        try:
            return self.journal.recorded(action)
        except JournalMismatchError as error:
            self.refuse(error)
            raise

    def do_end(self, code: ExitState.Code) -> None:
        """The same for a request to end the run."""
        head: dict[str, Any] = {"code": code.name}
        if code is Code.TIMEOUT:
            head |= {"check": self._run.questions, "alive": self.journal.alive}
        self.do(Action(Kind.STOP, None, head, None, None, lambda: f"the run is asked to end ({code.name})"))

    def expect(self, future: Future[Any], *, is_new: bool) -> None:
        """Note a call that was submitted in the replay."""
        self._expected[future.number] = future, is_new

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
            return list(items)
        admitted = [self._admit(item, self.journal.time()) for item in items]
        self.journal.flush()
        return [item for item in admitted if item is not None]

    def _admit(self, item: Any, at: float) -> Any:
        """Record an input. Returns what to handle instead; None for what is no input."""
        journal, run = self.journal, self._run
        if type(item) is tuple:
            call = item[0]
            if call not in self._writers:
                raise JournalUnsupportedError(f"{callback_name(call)} is an input that cannot be recorded yet")
            write = self._writers[call]
            if write is None:
                return item
            written = write(*item[1:])
            if written is None:
                self._inbox.put_back(item)
                return None
            kind, head, value, number = written
            record = journal.add_input(kind, head, value, call=number, at=at)
            return (journal.tell, record, at, *item)
        future = run.pending_calls.of(item)
        if future is None:
            return None  # it was cancelled: a callback did that
        ending = ending_of(item)
        if run.is_of_the_end(ending.error):
            return item
        kind, outcome, value = outcome_of(ending, item, future)
        record = journal.add_input(kind, outcome, value, call=future.number, at=at)
        return (journal.tell, record, at, run.settlement.settle, item)

    def _write_event(self, *_: object) -> Written:
        self._events_told += 1
        return _step(f"event {self._events_told}")

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

    def finish(self) -> None:
        """Record the end of the run. Raises as `RunJournal.finish` does."""
        self._heartbeat.stop()
        self.foreign.close()
        self.check_suspended()
        cause = self._run.lifecycle.cause
        self.journal.finish(cause.code.name, cause.reason)

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

    def replay_next(self) -> None:
        """Tell the next recorded input; or begin to record, if there is none.

        Raises:
            JournalMismatchError: It cannot be told, as the program does something else than what is recorded.
        """
        told = self.journal.playback.next_input()
        if told is not None:
            self._readers[told.record.kind](told)
        elif self._is_at_end():
            self.journal.at_end = True
            self.from_outside.end_wait()
            self._inbox.end_replay()
        else:
            self._go_live()

    def _is_at_end(self) -> bool:
        if self._run.lifecycle.running or self._run.pending_calls or self.from_outside.n_waiting:
            return False
        self.journal.check_all_done()
        return self.journal.is_finished()

    def _go_live(self) -> None:
        self.journal.go_live()
        expected, self._expected = list(self._expected.values()), {}
        self.from_outside.end_wait()
        self._inbox.end_replay(lambda: self._messages.go_live([future for future, _ in expected]))
        self._timers.arm_held()
        self.foreign.go_live()
        self._run.start_timeout()
        self._submissions.hand_over_expected([item for item in expected if not item[0].done()])

    def _again(self, told: RecordedInput, call: Callable[..., object], *args: Any) -> None:
        self.journal.tell_again(told.record, told.alive, call, *args)

    def _tell_outcome(self, told: RecordedInput) -> None:
        record = told.record
        assert record.call is not None
        future, _ = self._expected.pop(record.call, (None, False))
        if future is None or future.done():
            self._check_submitted(record)
            return  # a callback has cancelled it
        work: Any = future.work
        assert isinstance(work, PlaceholderFuture)
        if again := self.journal.playback.again.pop(record.call, 0):
            future.note_attempt(future.attempt + again)
        if record.kind == Kind.CANCELLED:
            work.end(None, None, cancelled=True)
        else:
            outcome = load(self.journal.playback.value(record), lambda: f"the outcome of {future.label}")
            result, error = (outcome, None) if record.kind == Kind.RESULT else (None, outcome)
            work.end(result, error)
        self._messages.note_outcome(future)
        self._again(told, self._run.settlement.settle, work)

    def _tell_wakeup(self, told: RecordedInput) -> None:
        found = self.foreign.of_record(told.record)
        if found is not None:
            self._again(told, self.foreign.end, *found)
        else:
            name = told.record.head.get("task")
            self.journal.differ_in_input(told.record, f"once({name}) has ended", "it was not called")

    def _tell_message(self, told: RecordedInput) -> None:
        record = told.record
        future, _ = self._expected.get(record.call or 0, (None, False))
        heard = self._messages.of_record(record, future, self.journal.playback.value(record))
        if heard is not None:
            self._again(told, self._run.tell_heard, heard)
        else:
            kind = record.head["message"]
            self.journal.differ_in_input(record, f"call {record.call} sends a message ({kind})", "it has no comm")

    def _check_submitted(self, record: Record) -> None:
        if record.call is not None and record.call >= self.journal.numbers.following:
            self.journal.differ_in_input(record, f"call {record.call} has ended", "it was not submitted")

    def _tell_timer(self, told: RecordedInput) -> None:
        number = told.record.head["timer"]
        timer = self._timers.take(number)
        if timer is not None:
            self._again(told, self._timers.call, timer)
        elif number >= self._timers.made:
            self.journal.differ_in_input(told.record, f"timer {number} of call_later has fired", "there is none")

    def _tell_step(self, told: RecordedInput) -> None:
        name, step = self._take_step(told.record.head["step"])
        if step is not None:
            self._ends_to_come.discard(name)
            self._events_told += name.startswith("event")
            self._again(told, *step)
        elif name.startswith("answered") and (not self.journal.goes_further or name in self._ends_to_come):
            self.journal.playback.put_back(told)
            self._inbox.wait_for_step(name)
        elif name == END or self.journal.goes_further:
            self.journal.leave_out(told.record)
        else:
            self.journal.differ_in_input(told.record, f"the run goes on with its step {name!r}", "there is none")

    def _take_step(self, name: str) -> tuple[str, Any]:
        """Take a step, which may have another name in the replay: there messages hold all ends of calls back."""
        step = self._inbox.take_step(name)
        verb, _, number = name.partition(" ")
        if verb in {"conclude", "answered"}:
            was_held = self._messages.end_hold(int(number))
            answered = f"answered {number}"
            if step is None and (was_held or answered in self._ends_to_come):
                self._ends_to_come.add(answered)
                return answered, self._inbox.take_step(answered)
        return name, step

    def _tell_stop(self, told: RecordedInput) -> None:
        record, run, requests = told.record, self._run, self._requests
        code = record.head["code"]
        if code == Code.EXHAUSTED.name:
            if not run.lifecycle.running or (run.has_nothing_to_do() and not self.from_outside.n_waiting):
                self._again(told, requests.exhausted)
            else:
                self.journal.leave_out(record)
        elif code == Code.TIMEOUT.name:
            if not run.lifecycle.running or run.is_up_at(told.alive):
                self._again(told, requests.time_is_up)
            else:
                self.journal.leave_out(record)
        else:
            value = self.journal.playback.value(record)
            error = None if value is None else load(value, lambda: "the exception given to stop()")
            self._again(told, requests.stop_as_asked, record.head.get("message", ""), error)

    def _tell_request(self, told: RecordedInput) -> None:
        record = told.record
        if "asks" in record.head:
            asked = self.from_outside.of_record(record)
            if asked is not None:
                self._again(told, self.from_outside.carry_out, asked)
            else:
                of = record.head["of"]
                self.journal.differ_in_input(record, f"another thread submits a call of {of}", "there is no such task")
            return
        assert record.call is not None
        future, _ = self._expected.get(record.call, (None, False))
        if future is not None and not future.done():
            self._again(told, self._submissions.cancel_as_asked, future)


def _step(name: str) -> Written:
    return Kind.STEP, {"step": name}, None, None


def _write_cancel(future: Future[Any]) -> Written | None:
    # A call that another thread has submitted has a number only when that was told.
    return None if future.number < 0 else (Kind.REQUEST, {}, None, future.number)
