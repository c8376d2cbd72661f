"""The parts of a run with a journal that differ from the usual ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._labels import call_label
from amltk._shield import shielded
from amltk.exceptions import JournalUnsupportedError
from amltk.journal.kinds import Kind
from amltk.journal.reference import CallReference
from amltk.scheduling._journal.action import Action
from amltk.scheduling._journal.placeholder import PlaceholderFuture
from amltk.scheduling._journal.values import dump, dump_error, load
from amltk.scheduling._loop.timers import Timer, Timers
from amltk.scheduling._nested import replaced
from amltk.scheduling._run.calls.submissions import Submissions
from amltk.scheduling._run.end_requests import EndRequests
from amltk.scheduling.events import callback_name
from amltk.scheduling.exit_state import ExitState
from amltk.scheduling.future import FUTURES, Future

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._run.journaled.input_recorder import InputRecorder
    from amltk.scheduling.call import Call
    from amltk.scheduling.future import DependentFuture

Code = ExitState.Code


def check_in_callback(recorder: InputRecorder, what: str) -> None:
    """Raise a `JournalUnsupportedError` if this is no callback of the run: nothing tells when to do it again."""
    if recorder.journal.recording and not recorder.is_in_callback():
        raise JournalUnsupportedError(
            f"cannot {what} from outside of the run's callbacks: with journal=, a function that is called cannot be"
            " recorded. Emit an event instead, with values, and do it in its callback"
        )


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


class JournaledTimers(Timers):
    """Arms no timer while recorded inputs are told: their records say when they fire. See `Timers`."""

    def __init__(self, recorder: InputRecorder, *args: Any) -> None:
        super().__init__(*args)
        self._recorder = recorder
        self._held: dict[int, tuple[Timer, float, float]] = {}  # with the delay, and when they were made
        self.made: int = 0

    @shielded
    def later(self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timer:
        """As in `Timers`, from callbacks and plugins only."""
        if not self._inbox.here():
            check_in_callback(self._recorder, f"call {callback_name(fn)} later")
        timer = super().later(delay, fn, args, kwargs)
        self.made = timer.number + 1
        journal = self._recorder.journal
        if journal.replaying:
            self._disarm(timer)
            self._held[timer.number] = timer, delay, journal.alive
        return timer

    @shielded
    def drop(self, timer: Timer) -> None:
        """As in `Timers`."""
        self._held.pop(timer.number, None)
        super().drop(timer)

    def take(self, number: int) -> Timer | None:
        """Take a timer whose record has come; None if it was cancelled."""
        held = self._held.pop(number, None)
        return None if held is None else held[0]

    def arm_held(self) -> None:
        """Let those run on that have not fired. The time between two sessions does not count."""
        alive = self._recorder.journal.alive
        for timer, delay, made_at in self._held.values():
            timer.when = self._loop.time() + max(0.0, delay - (alive - made_at))
            self._arm(timer)
        self._held = {}


class JournaledSubmissions(Submissions):
    """Records submissions, or compares them with what is recorded: then nothing is computed. See `Submissions`."""

    def __init__(self, recorder: InputRecorder, *args: Any) -> None:
        super().__init__(*args)
        self._recorder = recorder
        self._accepted: dict[Future[Any], bool] = {}  # and recorded; whether for the first time

    @shielded
    def submit(
        self,
        task: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call: Call | None = None,
    ) -> Future[Any]:
        """As in `Submissions`; from outside of callbacks, as an input.

        Raises:
            JournalMismatchError: Something else is recorded.
            JournalUnsupportedError: The task has a plugin that cannot be replayed; or see `FromOutside.submit`.
            JournalError: The arguments cannot be pickled.
        """
        if task is not None:
            check_plugins(task)
        recorder = self._recorder
        if recorder.journal.recording and recorder.is_outside():
            if self._dependencies.find(args, kwargs, self.link):
                raise JournalUnsupportedError(
                    f"cannot submit {callback_name(fn)} with futures as arguments from outside of the run's callbacks:"
                    " with journal=, that cannot be recorded. Emit an event instead, and submit it in its callback"
                )
            return recorder.from_outside.submit(Future(self.link, task, fn, args, kwargs, self._loop, call))
        return super().submit(task, fn, args, kwargs, call)

    def running_calls(self) -> list[Future[Any]] | None:
        """As in `Submissions`; callbacks are warned."""
        self._recorder.warn_of("running_calls, or a snapshot")
        return super().running_calls()

    @shielded
    def cancel(self, future: Future[Any]) -> bool:
        """As in `Submissions`; from outside of callbacks, as an input."""
        if not self._recorder.journal.recording or future.done():
            return super().cancel(future)
        if not self._recorder.is_in_callback():
            self._inbox.put_input(self.cancel_as_asked, future)
            return True
        number = future.number
        self._recorder.do(Action(Kind.CANCELLED, number, {}, None, None, lambda: f"call {number} is cancelled"))
        return super().cancel(future)

    def cancel_as_asked(self, future: Future[Any]) -> bool:
        """Carry out a `cancel` from outside of callbacks, as an input."""
        return super().cancel(future)

    def _accept_dependent(self, future: DependentFuture[Any]) -> None:
        """As in `Submissions`: the submission is what is recorded; that it goes on later follows from other records."""
        if self._recorder.journal.recording:
            action = _submission(future, future.args, future.kwargs, self._recorder.journal)
            self._accepted[future] = self._recorder.do(action)
        super()._accept_dependent(future)

    def _end_uncomputed(self, future: Future[Any], error: BaseException | None = None) -> None:
        """As in `Submissions`. It follows from other records as well, but readers of the journal want to know."""
        super()._end_uncomputed(future, error)
        self._accepted.pop(future, None)
        if error is not None and self._recorder.journal.recording:
            self._recorder.do(_failure(future, error))

    def _hand_over(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorder, journal = self._recorder, self._recorder.journal
        was_new = self._accepted.pop(future, None)
        if not journal.recording or (was_new is not None and not journal.replaying):
            result = None if was_new is not False else journal.comparison.recorded_results.of_number(future.number)
            if result is None:
                super()._hand_over(future, args, kwargs)
            else:  # recorded in a branch that the program has left since
                self._enter_recorded(future, args, kwargs, result)
            return
        action = _submission(future, args, kwargs, journal)
        if journal.replaying:
            self._admission.check(future)  # what was refused then is refused again; nothing waits
            is_new = recorder.do(action) if was_new is None else was_new
            self._enter(PlaceholderFuture(), future, args, kwargs)
            recorder.replayer.expect(future, is_new=is_new)
        elif not future.is_dependent and (result := journal.comparison.recorded_results.of_call(action)) is not None:
            recorder.do(action)
            self._enter_recorded(future, args, kwargs, result)
        else:
            super()._hand_over(future, args, kwargs)
            recorder.do(action)

    def _tell_waiting(self, future: Future[Any]) -> None:
        """In a run with a journal, nothing: whether a call waits depends on more than what is recorded."""

    def _enter_recorded(
        self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: bytes
    ) -> None:
        work = PlaceholderFuture()
        self._enter(work, future, args, kwargs)
        work.set_result(_load_result(result, future))

    def hand_over_expected(self, futures: Iterable[tuple[Future[Any], bool]]) -> None:
        """Have computed what was submitted in the replay and has no outcome.

        Args:
            futures: The futures, and whether each was submitted for the first time.
        """
        journal = self._recorder.journal
        for future, is_new in futures:
            args, kwargs = future.args, future.kwargs
            action = _submission(future, args, kwargs, journal)
            if not is_new:
                result = journal.comparison.recorded_results.of_number(future.number)
            else:  # the numbers of those that it depends on need not be those of another branch
                result = None if future.is_dependent else journal.comparison.recorded_results.of_call(action)
            if result is not None:
                assert isinstance(future.work, PlaceholderFuture)
                future.work.set_result(_load_result(result, future))
                continue
            call = future.call
            if call is not None:
                for plugin in call.task.plugins:
                    plugin.resume(call)
            if not is_new and (call is None or call.answer is None):
                future.note_attempt(future.attempt + journal.playback.again.pop(future.number, 0) + 1)
                journal.begin_again(action, future.attempt - 1)
            self._exchange(future, args, kwargs)

    def _exchange(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        work: Any = PlaceholderFuture()
        try:
            work = self._obtain(future, *self._with_results(future, args, kwargs))
        except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the future
            work.set_exception(error)
        self._pending_calls.exchange(future, work)
        work.add_done_callback(self._put_work)


def _load_result(value: bytes, future: Future[Any]) -> Any:
    return load(value, lambda: f"the result of {future.label}")


def _submission(future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any], journal: RunJournal) -> Action:
    """The action of a submission, whose future may have no number yet."""
    name = callback_name(future.function) if future.task is None else future.task.name
    number = future.number if future.number >= 0 else journal.numbers.following
    if future.is_dependent:
        args = replaced(future.args, FUTURES, _reference)
        kwargs = replaced(future.kwargs, FUTURES, _reference)
    value = dump((args, kwargs), lambda: f"what is submitted, {call_label(name, args, kwargs)},")

    def label() -> str:
        return f"call {number} is {name}{call_label('', args, kwargs)}"

    head: dict[str, Any] = {"task": name}
    call = future.call
    if call is not None and call.folder is not None and call.folder.parent == journal.folder.calls:
        head["place"] = int(call.folder.name)
    if call is not None and call.demand is not None:  # amounts that depend on the call are left out
        head["resources"] = {
            name: told for name, told in call.demand.amounts.items() if type(told) in {int, float, str}
        }
    if future.is_dependent:
        head["after"] = [other.number for other in future.dependencies if other.number >= 0]
    return Action(Kind.SUBMISSION, number, head, value, (args, kwargs), label)


def _reference(future: Future[Any]) -> CallReference:
    return CallReference(future.number)


def _failure(future: Future[Any], error: BaseException) -> Action:
    """The action of ending a call that was not computed."""
    number = future.number
    head = {"type": type(error).__name__, "message": str(error)}
    return Action(Kind.EXCEPTION, number, head, dump_error(error), None, lambda: f"call {number} is not computed")


def check_plugins(task: Any) -> None:
    """Raise a `JournalUnsupportedError` if a plugin of a task cannot be replayed."""
    for plugin in task.plugins:
        if not getattr(plugin, "replayable", True):
            raise JournalUnsupportedError(
                f"the task {task.name} has the plugin {plugin.name!r}, and what that does cannot be recorded yet: run"
                " it without journal=, or take the plugin away"
            )
