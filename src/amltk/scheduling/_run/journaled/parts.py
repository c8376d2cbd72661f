"""The parts of a run with a journal that differ from the usual ones."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._labels import arguments_in_short
from amltk._shield import shielded
from amltk.exceptions import JournalUnsupportedError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.action import Action
from amltk.scheduling._journal.placeholder import PlaceholderFuture
from amltk.scheduling._journal.values import dump_arguments, dump_error, load
from amltk.scheduling._loop.timers import Timer, Timers
from amltk.scheduling._run.calls.submissions import Submissions
from amltk.scheduling._run.journaled.actions import arguments_of, failure, identity_of, job_name_of, more_of, submission
from amltk.scheduling.call import PromisedCall
from amltk.scheduling.events import callback_name
from amltk.scheduling.exit_state import ExitState
from amltk.scheduling.future import Future, task_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future as Work

    from amltk.scheduling._run.journaled.input_recorder import InputRecorder
    from amltk.scheduling.call import Call
    from amltk.scheduling.executors.capabilities import Identity
    from amltk.scheduling.future import DependentFuture

Code = ExitState.Code

_submit, _hand_over = Submissions.submit, Submissions._hand_over  # looked up once, since `super()` takes longer


def check_in_callback(recorder: InputRecorder, what: str) -> None:
    """Raise a `JournalUnsupportedError` if this is no callback of the run: nothing says when to do it again."""
    if recorder.journal.recording and not recorder.is_in_callback():
        raise JournalUnsupportedError(
            f"cannot {what} from outside of the run's callbacks: with journal=, a function that is called cannot be"
            " recorded. Emit an event instead, with values, and do it in its callback"
        )


class JournaledTimers(Timers):
    """Arms no timer while recorded inputs are replayed: their records say when they fire. See `Timers`."""

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
        self._journal = recorder.journal
        inbox: Any = self._inbox
        self._is_handling: Callable[[], bool] = inbox.is_handling_here
        self._was_accepted = False  # whether the call that is being handed over was
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
        if task is not None and task.plugins:
            check_plugins(task)
        if self._journal.recording and not self._is_handling() and self._recorder.is_outside():
            return self.submit_from_outside(task, fn, args, kwargs)
        if type(call) is not PromisedCall or call.promised.done():  # one that was kept in an earlier run
            return _submit(self, task, fn, args, kwargs, call)
        self._lifecycle.check_running(f"submit {callback_name(fn)}")
        future = call.promised
        future.call = call
        self._hand_over(future, args, kwargs)
        return future

    def submit_from_outside(
        self, task: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Future[Any]:
        """Submit as an input. Returns the future that the call gets then. Raises as `submit` does."""
        if task is not None:
            check_plugins(task)
        if self._dependencies.find(args, kwargs, self.link):
            raise JournalUnsupportedError(
                f"cannot submit {callback_name(fn)} with futures as arguments from outside of the run's callbacks:"
                " with journal=, that cannot be recorded. Emit an event instead, and submit it in its callback"
            )
        return self._recorder.from_outside.submit(Future(self.link, task, fn, args, kwargs, self._loop))

    def running_calls(self) -> list[Future[Any]] | None:
        """As in `Submissions`; callbacks are warned."""
        self._recorder.warn_of("running_calls, or a snapshot")
        return super().running_calls()

    @shielded
    def cancel(self, future: Future[Any]) -> bool:
        """As in `Submissions`; from outside of callbacks, as an input."""
        if not self._journal.recording or future.done():
            return super().cancel(future)
        number = future.number
        if number < 0 or not self._recorder.is_in_callback():  # without a number it cannot be recorded yet
            self._inbox.put_input(self.cancel_as_asked, future)
            return True
        self._recorder.do(Action(Kind.CANCELLED, number, {}, None, None, lambda: f"call {number} is cancelled"))
        return super().cancel(future)

    def cancel_as_asked(self, future: Future[Any]) -> bool:
        """Carry out a `cancel` from outside of callbacks, as an input."""
        return super().cancel(future)

    def _accept_dependent(self, future: DependentFuture[Any]) -> None:
        """As in `Submissions`: the submission is what is recorded; that it goes on later follows from other records."""
        if self._journal.recording:
            action = submission(future, future.args, future.kwargs, self._journal, self._pending_calls.accepted)
            self._accepted[future] = self._recorder.do(action)
        super()._accept_dependent(future)

    def _end_uncomputed(self, future: Future[Any], error: BaseException | None = None) -> None:
        """As in `Submissions`. It follows from other records as well, but readers of the journal want to know."""
        super()._end_uncomputed(future, error)
        self._accepted.pop(future, None)
        if error is not None and self._journal.recording:
            self._recorder.do(failure(future, error))

    def _hand_over(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        journal = self._journal
        was_new = self._accepted.pop(future, None) if self._accepted else None
        if not journal.recording or (was_new is not None and not journal.replaying):
            result = None if was_new is not False else journal.comparison.recorded_results.of_number(future.number)
            if result is None:
                super()._hand_over(future, args, kwargs)
            else:  # recorded in a branch that the program has left since
                self._enter_recorded(future, args, kwargs, result)
            return
        task = task_name(future)
        given = arguments_of(future, args, kwargs)
        value = dump_arguments(task, *given)
        if journal.replaying:
            if future.call is not None:
                self._admission.check(future)  # what was refused then is refused again; nothing waits
            if was_new is None:
                number = future.number if future.number >= 0 else self._pending_calls.accepted
                was_new = False
                if not journal.comparison.is_recorded(number, task, value):
                    self._refuse_again(task, *given)
                    was_new = self._recorder.do(submission(future, args, kwargs, journal, self._pending_calls.accepted))
            self._enter(PlaceholderFuture(), future, args, kwargs)
            self._recorder.replayer.expect(future, is_new=was_new)
            return
        known = journal.comparison.recorded_results
        if known.calls and not future.is_dependent and (result := known.of_call(task, value, given)) is not None:
            journal.add_submission(task, self._pending_calls.accepted, value, *given, more=more_of(future, journal))
            self._enter_recorded(future, args, kwargs, result)
        else:
            try:
                _hand_over(self, future, args, kwargs)
            except Exception as error:
                self._note_refusal(error, future, task, value, given)
                raise
            if journal.recording:  # the executor may have ended the run
                journal.add_submission(task, future.number, value, *given, more=more_of(future, journal))

    def hand_over_accepted(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As in `Submissions`."""
        self._was_accepted = True
        try:
            super().hand_over_accepted(future, args, kwargs)
        finally:
            self._was_accepted = False

    def _note_refusal(
        self,
        error: Exception,
        future: Future[Any],
        task: str,
        value: bytes,
        given: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> None:
        """Record what the executor has raised; a call that was accepted before ends with it, which is an input."""
        journal = self._journal
        if not self._recorder.is_recording() or not self._is_admissible(future):
            return
        if self._was_accepted:
            number = future.number if future.number >= 0 else self._pending_calls.accepted
            journal.add_submission(task, number, value, *given, more=more_of(future, journal))
            return
        head = {"task": task, "arguments": arguments_in_short(*given), "type": type(error).__name__}
        journal.add(Action(Kind.REFUSAL, None, head, dump_error(error), None, lambda: f"{task} is refused"))

    def _is_admissible(self, future: Future[Any]) -> bool:
        """Whether a call was not refused before the executor was asked; such a refusal will be repeated anyway."""
        try:
            self._admission.check(future)
        except Exception:  # noqa: BLE001 - it has been reported already
            return False
        return True

    def _refuse_again(self, task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise what the executor raised for this submission in an earlier session, if it did."""
        journal = self._journal
        refusal = journal.comparison.refusal(task, arguments_in_short(args, kwargs))
        if refusal is not None:
            error = load(journal.playback.value(refusal), lambda: f"why the executor has refused {task}")
            raise error

    def _tell_waiting(self, future: Future[Any]) -> None:
        """In a run with a journal, nothing: whether a call waits depends on more than what is recorded."""

    def _enter_recorded(
        self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: bytes
    ) -> None:
        work = PlaceholderFuture()
        self._enter(work, future, args, kwargs)
        work.set_result(_load_result(result, future))

    def identify(self, work: Work[Any]) -> Identity | None:
        """What the call behind an executor's future is recognised by; None if its end was handled."""
        future = self._pending_calls.of(work)
        return None if future is None else identity_of(future)

    def ended_among(self, names: Iterable[str]) -> set[str]:
        """Which of these names, that calls have in their executor, are of calls that need no outcome any more."""
        accepted, pending = self._pending_calls.accepted, set(map(job_name_of, self._pending_calls))
        return {name for name in names if int(name.partition("-")[0]) < accepted and name not in pending}

    def hand_over_expected(self, futures: Iterable[tuple[Future[Any], bool]]) -> None:
        """Have computed what was submitted in the replay and has no outcome.

        Args:
            futures: The futures, and whether each was submitted for the first time.
        """
        journal = self._journal
        for future, is_new in futures:
            args, kwargs = future.args, future.kwargs
            action = submission(future, args, kwargs, journal, self._pending_calls.accepted)
            if not is_new:
                result = journal.comparison.recorded_results.of_number(future.number)
            else:  # the numbers of those that it depends on need not be those of another branch
                known = journal.comparison.recorded_results
                asked = action.head["task"], action.value or b"", action.given
                result = None if future.is_dependent else known.of_call(*asked)
            if result is not None:
                assert isinstance(future.work, PlaceholderFuture)
                future.work.set_result(_load_result(result, future))
                continue
            call = future.call
            if call is not None:
                for plugin in call.task.plugins:
                    plugin.resume(call)
            if not is_new and (call is None or call.answer is None):
                begun = future.attempt + journal.playback.take_again(future.number)
                if self._backend.has_call(partial(identity_of, future)):
                    future.note_attempt(begun)  # it goes on, or has ended meanwhile
                else:
                    future.note_attempt(begun + 1)
                    journal.begin_again(action, begun)
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


def check_plugins(task: Any) -> None:
    """Raise a `JournalUnsupportedError` if a plugin of a task cannot be replayed."""
    for plugin in task.plugins:
        if not getattr(plugin, "replayable", True):
            raise JournalUnsupportedError(
                f"the task {task.name} has the plugin {plugin.name!r}, and what that does cannot be recorded yet: run"
                " it without journal=, or take the plugin away"
            )
