"""Tells a run what is recorded: the same inputs, in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk.journal.kinds import Kind
from amltk.scheduling._journal.comparison import description
from amltk.scheduling._journal.values import load, load_outcome
from amltk.scheduling.call import Outcome
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._journal.inbox import JournaledInbox
    from amltk.scheduling._journal.playback import RecordedInput
    from amltk.scheduling._run.journaled.end_requests import JournaledEndRequests
    from amltk.scheduling._run.journaled.input_recorder import InputRecorder
    from amltk.scheduling._run.journaled.parts import JournaledSubmissions, JournaledTimers
    from amltk.scheduling._run.journaled.run import JournaledRun
    from amltk.scheduling._run.lifecycle import RunLifecycle
    from amltk.scheduling.future import Future

Code = ExitState.Code

_RESULT, _CANCELLED = map(int, (Kind.RESULT, Kind.CANCELLED))  # members are slow to reach

_UNEXPECTED: tuple[None, bool] = (None, False)

END = "end"
"""The step in which the end of the run is announced."""


class Replayer:
    """Knows how to replay each kind of recorded input. On the loop's thread.

    Args:
        recorder: Records what comes afterwards.
    """

    def __init__(self, recorder: InputRecorder) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._comparison = recorder.journal.comparison
        self._playback = recorder.journal.playback
        self._forgets_from = self._playback.overview.forgets_from
        self._settle: Callable[..., None]
        self._lifecycle: RunLifecycle
        self._run: JournaledRun
        self._inbox: JournaledInbox
        self._requests: JournaledEndRequests
        self._submissions: JournaledSubmissions
        self._timers: JournaledTimers
        self._expected: dict[int, tuple[Future[Any], bool]] = {}  # submitted in the replay, and not ended
        self._sure_timers: int | None = None  # how many were made before the first forgotten failure
        self._ends_to_come: set[str] = set()  # of calls that are no longer held back
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

    def connect(
        self,
        run: JournaledRun,
        inbox: JournaledInbox,
        requests: JournaledEndRequests,
        submissions: JournaledSubmissions,
        timers: JournaledTimers,
    ) -> None:
        """Set what handles the inputs, once the run has its parts."""
        self._run, self._inbox = run, inbox
        self._settle, self._lifecycle = run.settlement.settle, run.lifecycle
        self._requests, self._submissions, self._timers = requests, submissions, timers

    def expect(self, future: Future[Any], *, is_new: bool) -> None:
        """Note a call that was submitted in the replay."""
        self._expected[future.number] = future, is_new

    def replay_next(self) -> None:
        """Replay the next recorded input, or begin to record if there is none; unless the run ends or has to wait.

        Raises:
            JournalMismatchError: It cannot be replayed, as the program does something other than what is recorded.
        """
        if self._lifecycle.abandon:
            self._recorder.check_suspended()
        if not self._journal.replaying or self._journal.at_end or self._inbox.waits_for:
            return
        told = self._playback.next_input()
        if told is not None:
            frame = told[0]
            if frame[0] >= self._forgets_from and self._sure_timers is None:
                self._sure_timers = self._timers.made
            self._readers[frame[1]](told)
        elif self._is_at_end():
            self._journal.at_end = True
            self._recorder.from_outside.end_wait()
            self._inbox.end_replay()
        else:
            self._go_live()

    def _is_at_end(self) -> bool:
        run = self._run
        is_pending = bool(run.pending_calls) and not run.cuts_off()
        if run.lifecycle.running or is_pending or self._recorder.from_outside.n_waiting:
            return False
        self._comparison.check_all_done()
        return self._journal.is_finished()

    def _go_live(self) -> None:
        self._journal.go_live()
        expected, self._expected = list(self._expected.values()), {}
        self._recorder.from_outside.end_wait()
        self._inbox.end_replay(lambda: self._recorder.messages.go_live([future for future, _ in expected]))
        self._timers.arm_held()
        self._recorder.foreign.go_live()
        self._run.start_timeout()
        if self._run.cuts_off():
            return
        self._submissions.hand_over_expected([item for item in expected if not item[0].done()])

    def _again(self, told: RecordedInput, call: Callable[..., object], *args: Any) -> None:
        self._journal.tell_again(told, call, *args)

    def _tell_outcome(self, told: RecordedInput) -> None:
        frame = told[0]
        kind, call = frame[1], frame[2]
        future, _ = self._expected.pop(call, _UNEXPECTED)
        if future is None or future.done():
            self._check_submitted(told)
            return  # a callback has cancelled it
        if self._playback.again and (again := self._playback.take_again(call, frame[0])):
            future.note_attempt(future.attempt + again)
        if kind == _CANCELLED:
            outcome = Outcome(None, None, True)
        else:
            value = load_outcome(self._playback.value_of(told), future)
            outcome = Outcome(value, None, False) if kind == _RESULT else Outcome(None, value, False)
        if future.call is not None:
            self._recorder.messages.note_outcome(future)
        self._journal.tell_again(told, self._settle, future.work, outcome)

    def _tell_wakeup(self, told: RecordedInput) -> None:
        found = self._recorder.foreign.of_record(told.record)
        if found is not None:
            self._again(told, self._recorder.foreign.end, *found)
        else:
            name = told.record.head.get("task")
            self._comparison.differ_in_input(told, f"once({name}) has ended", "it was not called")

    def _tell_message(self, told: RecordedInput) -> None:
        record = told.record
        future, _ = self._expected.get(record.call or 0, (None, False))
        heard = self._recorder.messages.of_record(record, future, self._journal.playback.value(record))
        if heard is not None:
            self._again(told, self._run.tell_heard, heard)
        else:
            kind = record.head["message"]
            self._comparison.differ_in_input(told, f"call {record.call} sends a message ({kind})", "it has no comm")

    def _check_submitted(self, told: RecordedInput) -> None:
        call = told.record.call
        if call is not None and call >= self._run.pending_calls.accepted:
            done = self._playback.peek_done()
            what = f"call {call} was submitted" if done is None or done.call != call else description(done)
            self._comparison.differ_in_input(told, f"{what}, and has ended", "it was not submitted")

    def _tell_timer(self, told: RecordedInput) -> None:
        number = told.record.head["timer"]
        if self._sure_timers is not None and number >= self._sure_timers:
            # Callbacks that had answered the failure may have made others: this may be another one by now.
            self._comparison.differ_in_input(told, _description_of_timer(number), "it may be another one")
            return
        timer = self._timers.take(number)
        if timer is not None:
            self._again(told, self._timers.call, timer)
        elif number >= self._timers.made:
            self._comparison.differ_in_input(told, _description_of_timer(number), "there is none")

    def _tell_step(self, told: RecordedInput) -> None:
        name, step = self._take_step(told.record.head["step"])
        if step is not None:
            self._ends_to_come.discard(name)
            self._recorder.events_told += name.startswith("event")
            self._again(told, *step)
        elif name.startswith("answered") and (not self._comparison.goes_further or name in self._ends_to_come):
            self._journal.playback.put_back(told)
            self._inbox.wait_for_step(name)
        elif name == END or self._comparison.goes_further:
            self._comparison.leave_out(told.record)
        else:
            self._comparison.differ_in_input(told, _description_of_step(name), "this does not happen")

    def _take_step(self, name: str) -> tuple[str, Any]:
        """Take a step, which may have another name in the replay: there messages hold all ends of calls back."""
        step = self._inbox.take_step(name)
        verb, _, number = name.partition(" ")
        if verb in {"conclude", "answered"}:
            was_held = self._recorder.messages.end_hold(int(number))
            answered = f"answered {number}"
            if step is None and (was_held or answered in self._ends_to_come):
                self._ends_to_come.add(answered)
                return answered, self._inbox.take_step(answered)
        return name, step

    def _tell_stop(self, told: RecordedInput) -> None:
        record, run, requests = told.record, self._run, self._requests
        code = record.head["code"]
        if code == Code.EXHAUSTED.name:
            if not run.lifecycle.running or (run.has_nothing_to_do() and not self._recorder.from_outside.n_waiting):
                self._again(told, requests.exhausted)
            else:
                self._comparison.leave_out(record)
        elif code == Code.TIMEOUT.name:
            if not run.lifecycle.running or run.is_up_at(self._playback.overview.counted(told.frame[0], told.alive)):
                self._again(told, requests.time_is_up)
            else:
                self._comparison.leave_out(record)
        else:
            value = self._journal.playback.value(record)
            error = None if value is None else load(value, lambda: "the exception given to stop()")
            self._again(told, requests.stop_as_asked, record.head.get("message", ""), error)

    def _tell_request(self, told: RecordedInput) -> None:
        record = told.record
        if "asks" in record.head:
            asked = self._recorder.from_outside.of_record(record)
            if asked is not None:
                self._again(told, self._recorder.from_outside.carry_out, asked)
            else:
                of = record.head["of"]
                self._comparison.differ_in_input(
                    told, f"another thread submits a call of {of}", "there is no such task"
                )
            return
        assert record.call is not None
        future, _ = self._expected.get(record.call, (None, False))
        if future is not None and not future.done():
            self._again(told, self._submissions.cancel_as_asked, future)


def _description_of_timer(number: int) -> str:
    return f"timer {number} (0 is the first one of call_later, or of a plugin such as Retry) has fired"


def _description_of_step(name: str) -> str:
    """What the run did next, for people."""
    verb, _, number = name.partition(" ")
    if verb == "event":
        return f"event {number} of those that callbacks and plugins emit is delivered"
    return f"call {number} ends, which a plugin (Retry, Memo, Comm) has held back until now"
