"""What every plugin can rely on: hooks run in order, and each setup is torn down exactly once, in reverse."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from amltk.scheduling import Event, ExitState, Plugin, Scheduler
from amltk.testing import EventRecorder, ManualExecutor
from tests.unit.program import EXCEPTION, RESULT, SUBMITTED, ComputeError, Program

Code = ExitState.Code
SEEN: Event[[str], Any] = Event("seen")


class Observer(Plugin):
    """Records its hook calls."""

    def __init__(self, name: str, notes: list[str], *, refuses: bool = False) -> None:
        self.name = name
        self.notes = notes
        self.refuses = refuses

    def events(self) -> list[Event[..., Any]]:
        return [SEEN]

    def prepare(self, call: Any) -> bool:
        self.notes.append(f"prepare {self.name}")
        if self.refuses:
            return False
        call.on_end(self.notes.append, f"end {self.name}")
        call.on_outcome(lambda outcome: self.review(call, outcome))
        return True

    def review(self, call: Any, outcome: Any) -> Any:
        self.notes.append(f"review {self.name}")
        call.task.emit(SEEN, self.name)


def pair(notes: list[str], **options: Any) -> list[Plugin]:
    return [Observer("a", notes), Observer("b", notes, **options)]


SET_UP = ["prepare a", "prepare b"]
TORN_DOWN = ["end b", "end a"]
REVIEWED = ["review b", "review a"]


@pytest.mark.parametrize("ending", ["finish", "fail"])
def test_setup_and_teardown_are_paired(ending: str) -> None:
    """A finished call is reviewed and torn down by the last plugin first; events from reviews come first."""
    notes: list[str] = []
    program = Program(plugins=pair(notes))
    program.submit()
    outcome = (None,) if ending == "finish" else (ComputeError(),)
    program.at(1, getattr(program.executor, ending), 0, *outcome)
    program.run(on_exception="continue")
    assert notes == [*SET_UP, *REVIEWED, *TORN_DOWN]
    told = RESULT if ending == "finish" else EXCEPTION
    assert program.trace == ["start", *SUBMITTED, "work:seen", "work:seen", *told, "empty", "finishing", "finished"]


def test_teardown_where_a_later_plugin_refuses() -> None:
    """The plugins that had accepted the call are torn down at once, and nothing was submitted."""
    notes: list[str] = []
    program = Program(plugins=pair(notes, refuses=True))
    program.scheduler.on_start(lambda: notes.append(str(program.task.submit())))
    program.run()
    assert notes == [*SET_UP, "end a", "None"]
    assert program.trace == ["start", "empty", "finishing", "finished"]


def test_teardown_where_submitting_raises() -> None:
    """If the executor raises at submission, all setups are torn down."""
    notes: list[str] = []
    executor = ManualExecutor()
    scheduler = Scheduler(executor, terminate=False)
    task = scheduler.task(int, plugins=pair(notes))
    executor.shutdown()
    scheduler.on_start(lambda: task.submit())
    with pytest.raises(RuntimeError, match="shut down"):
        scheduler.run()
    assert notes == [*SET_UP, *TORN_DOWN]


def test_teardown_where_a_later_plugin_raises() -> None:
    """An exception from a plugin's hook reaches the submitter after the others are torn down."""

    class Broken(Plugin):
        def prepare(self, call: Any) -> bool:
            raise LookupError("no licence")

    notes: list[str] = []
    program = Program(plugins=[*pair(notes), Broken()])
    program.submit()
    with pytest.raises(LookupError, match="no licence"):
        program.run()
    assert notes == [*SET_UP, *TORN_DOWN]


@pytest.mark.parametrize("wait", [True, False])
def test_teardown_where_the_call_is_cancelled(wait: bool) -> None:
    """A call cancelled by the user or by the end of the run is torn down like any other."""
    notes: list[str] = []
    program = Program(plugins=pair(notes))
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.append(program.task.submit()))
    if wait:
        program.at(1, lambda: futures[0].cancel())
    program.run(on_cancelled="continue", timeout=5, wait=wait)
    assert [note for note in notes if not note.startswith("review")] == [*SET_UP, *TORN_DOWN]
    assert program.own[-1] == "cancelled"


def test_a_teardown_that_raises_keeps_no_other_from_being_done() -> None:
    """The error of a teardown goes to the policy, and the call's other teardowns run."""

    class Untidy(Plugin):
        def prepare(self, call: Any) -> bool:
            call.on_end(self.fall)
            return True

        def fall(self) -> None:
            raise OSError("disk full")

    notes: list[str] = []
    program = Program(plugins=[Observer("a", notes), Untidy(), Observer("b", notes)])
    program.submit()
    program.at(1, program.executor.finish, 0)
    state = program.run(on_callback_exception="end")
    assert isinstance(state.exception, OSError)
    assert notes[-2:] == ["end b", "end a"]
    assert program.own[-1] == "result"


def test_a_review_that_raises_keeps_no_other_from_being_asked() -> None:
    """The error of a review goes to the policy, and the call keeps its outcome."""

    class Confused(Observer):
        def review(self, call: Any, outcome: Any) -> Any:
            raise LookupError("what is this?")

    notes: list[str] = []
    program = Program(plugins=[Observer("a", notes), Confused("b", notes)])
    program.submit()
    program.at(1, program.executor.finish, 0)
    with pytest.raises(LookupError, match="what is this"):
        program.run()
    assert notes == [*SET_UP, "review a", *TORN_DOWN]
    assert program.own == ["submitted", "seen", "done", "result"]


class Holder(Plugin):
    """Holds outcomes back."""

    def __init__(self) -> None:
        self.holds: list[asyncio.Future[bool]] = []

    def prepare(self, call: Any) -> bool:
        call.on_outcome(lambda _: self.hold())
        return True

    def hold(self) -> asyncio.Future[bool]:
        self.holds.append(asyncio.get_running_loop().create_future())
        return self.holds[-1]


def test_an_ending_is_held_back() -> None:
    """Nothing is delivered, and the run is not empty, until all plugins that hold an outcome release it."""
    holders = [Holder(), Holder()]
    program = Program(plugins=holders)
    program.submit()
    program.at(1, program.executor.finish, 0)
    program.at(2, lambda: holders[0].holds[0].set_result(False))
    program.at(3, lambda: program.recorder.records.clear())
    program.at(4, lambda: holders[1].holds[0].set_result(False))
    with pytest.raises(AssertionError):  # the recording was cleared in between
        program.run()
    assert program.trace == [*RESULT, "empty", "finishing", "finished"]


def test_another_attempt() -> None:
    """A hold that ends with True has the call computed again: the same future, one submission, one outcome."""
    holder = Holder()
    program = Program(plugins=holder)
    program.submit()
    program.at(1, program.executor.fail, 0, ComputeError())
    program.at(2, lambda: holder.holds[0].set_result(True))
    program.at(3, program.executor.finish, 1, "at last")
    program.at(4, lambda: holder.holds[1].set_result(False))
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *RESULT, "empty", "finishing", "finished"]
    assert program.recorder.records[-4].args[1] == "at last"


@pytest.mark.parametrize("how", ["cancel", "timeout", "interrupt"])
def test_what_is_held_back_ends_with_the_run(how: str) -> None:
    """A held outcome is delivered when the user cancels the call or the run ends without waiting."""
    holder = Holder()
    program = Program(plugins=holder)
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.append(program.task.submit()))
    program.at(1, program.executor.finish, 0, "value")
    if how == "cancel":
        program.at(2, lambda: futures[0].cancel())
    elif how == "interrupt":
        program.at(2, signal.raise_signal, signal.SIGINT)
    if how == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            program.run()
    else:
        program.run(timeout=5, wait=False, on_cancelled="continue")
    assert program.own == ["submitted", *(["cancelled"] if how == "cancel" else ["done", "result"])]
    assert holder.holds[0].cancelled()


def test_events_of_a_plugin() -> None:
    """A plugin's events belong to the task: listed, counted, and subscribed to by name, by Event and with options."""
    notes: list[str] = []
    program = Program(plugins=Observer("a", notes))
    task = program.task
    seen: list[str] = []
    task.on("seen")(seen.append)
    task.on(SEEN, every=2)(seen.append)
    program.submit()
    program.at(1, program.executor.finish, 0)
    program.run()
    assert SEEN in task.events
    assert seen == ["a"]
    assert task.event_counts[SEEN] == 1


def test_callbacks_are_told_what_was_submitted() -> None:
    """The executor gets the arguments as changed by plugins; @submitted has those the user gave."""

    class Add(Plugin):
        def pre_submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return fn, (*args, "added"), {**kwargs, "more": True}

    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    task = scheduler.task(lambda *_args, **_kwargs: None, plugins=[Add(), Add()])
    recorder = EventRecorder(scheduler, task)
    scheduler.on_start(lambda: task.submit(1, x=2))
    scheduler.on_future_submitted(lambda _: executor.finish(0))
    scheduler.run()
    (submission,) = executor.submissions
    assert (submission.args, submission.kwargs) == ((1, "added", "added"), {"x": 2, "more": True})
    told = next(record for record in recorder.records if record.event.name == "submitted")
    assert (told.args[1:], told.kwargs) == ((1,), {"x": 2})
