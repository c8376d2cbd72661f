"""What users' objects and executors may do to a run, and how it still ends in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from concurrent.futures import Future as Work
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import SchedulerRunningError
from amltk.scheduling import Emitter, Event, ExitState, Scheduler
from amltk.scheduling._loop.inbox import Inbox
from amltk.scheduling._loop.turns import Turns
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors import SequentialExecutor
from amltk.testing import EventRecorder, ManualExecutor, run_in_virtual_time
from amltk.testing.manual_executor import Submission
from tests.helpers.gate import GUARD
from tests.unit.program import CANCELLED, ENDED, EXCEPTION, RESULT, STOPPED, SUBMITTED, Program, work

if TYPE_CHECKING:
    from collections.abc import Callable

Code = ExitState.Code


class BadReprError(Exception):
    """Its repr fails, and it accepts no notes."""

    def __repr__(self) -> str:
        raise BadReprError

    def add_note(self, _note: str) -> None:
        raise BadReprError


@pytest.mark.parametrize(
    ("event", "trace"),
    [
        ("future-done", ["start", *SUBMITTED, *RESULT, "empty", *STOPPED]),
        ("finishing", ["start", *SUBMITTED, *RESULT, "empty", *ENDED]),
        ("finished", ["start", *SUBMITTED, *RESULT, "empty", *ENDED]),
    ],
)
def test_an_error_of_a_callback_that_cannot_be_shown(event: str, trace: list[str]) -> None:
    """A callback error that cannot be shown is delivered like any other: all callbacks run, and it is raised."""
    program = Program()
    later: list[str] = []

    def fail(*_: Any) -> None:
        raise BadReprError

    program.scheduler.emitter.register(event, fail)
    program.scheduler.emitter.register(event, lambda *_: later.append(event))
    program.submit()
    program.at(0, program.executor.finish, 0)
    with pytest.raises(BadReprError):
        program.scheduler.run()  # asyncio.run, as in virtual time, cannot restore its handler after such an error
    assert later == [event]
    assert program.trace == trace


def test_an_error_of_compute_that_cannot_be_shown() -> None:
    """An exception of a call that cannot be shown is the outcome of its future and is raised."""
    program = Program()
    program.submit()
    program.at(0, program.executor.fail, 0, BadReprError())
    with pytest.raises(BadReprError):
        program.scheduler.run()  # asyncio.run, as in virtual time, cannot restore its handler after such an error
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *STOPPED]


@dataclass(frozen=True)
class FrozenError(Exception):
    """No attribute of it can be set, not even its traceback."""

    code: int


@pytest.mark.parametrize("on_exception", ["continue", "end", "raise"])
def test_an_error_of_compute_that_lets_nobody_change_it(on_exception: Any) -> None:
    """It is the outcome of its call and nothing else, also where a callback has raised it once more."""
    program = Program()
    program.submit()
    program.at(0, program.executor.fail, 0, FrozenError(3))
    seen: list[int] = []

    @program.scheduler.on_future_done
    def look(future: Any) -> None:
        try:
            future.result()
        except FrozenError as error:
            seen.append(error.code)

    if on_exception == "raise":
        with pytest.raises(FrozenError):
            run_in_virtual_time(program.scheduler.async_run(on_exception=on_exception))
    else:
        state = run_in_virtual_time(program.scheduler.async_run(on_exception=on_exception))
        assert state.code is (Code.EXHAUSTED if on_exception == "continue" else Code.EXCEPTION)
    assert seen == [3]
    end = ENDED if on_exception == "continue" else STOPPED
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *end]


def test_the_name_of_a_callback_is_short() -> None:
    """A partial's bound arguments may be large, and an object's repr may raise."""

    class Callback:
        def __call__(self) -> None: ...

        def __repr__(self) -> str:
            raise BadReprError

    assert callback_name(partial(partial(work, [0] * 1000), 1)) == "work"
    assert callback_name(Callback()) == "<Callback, whose repr raises BadReprError>"


class Broken(Work[Any]):
    """An executor's future that raises when asked for `what`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        setattr(self, what, self._fail)

    def _fail(self, *_: Any) -> Any:
        raise ConnectionError("gone")


class BrokenExecutorFutures(ManualExecutor):
    """Returns such futures."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.submissions.append(Submission(fn, args, kwargs, Broken(self.what)))
        return self.submissions[-1].future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait)


@pytest.mark.parametrize("what", ["exception", "result"])
def test_an_executor_that_cannot_tell_an_outcome(what: str) -> None:
    """If an executor's future raises when asked for its outcome, that exception is the outcome."""
    program = Program(executor=BrokenExecutorFutures(what))
    program.submit()
    program.at(0, program.executor.finish, 0)
    assert program.run(on_exception="continue") == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *ENDED]


def test_an_executor_that_takes_no_callbacks() -> None:
    """If an executor's future takes no callbacks, the submission was accepted, and its outcome is the exception."""
    program = Program(executor=BrokenExecutorFutures("add_done_callback"))
    program.submit()
    assert program.run(on_exception="continue") == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *ENDED]


@pytest.mark.parametrize("by", ["user", "run"])
def test_an_executor_that_cannot_cancel(by: str, caplog: pytest.LogCaptureFixture) -> None:
    """If the executor cannot cancel, the future is still cancelled, and the log says what went wrong."""
    program = Program(executor=BrokenExecutorFutures("cancel"))
    program.submit()
    if by == "user":
        program.at(0, lambda: program.task.queue[0].cancel())
        expected = ["start", *SUBMITTED, *CANCELLED, "empty", *ENDED]
    else:
        program.at(0, program.scheduler.stop)
        expected = ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]
    program.run(wait=False, on_cancelled="continue")
    assert program.trace == expected
    assert "cannot be cancelled" in caplog.text


@pytest.mark.parametrize("from_thread", [False, True])
def test_an_executor_that_returns_no_future(*, from_thread: bool) -> None:
    """An executor that returns no future raises an error that names it; nothing is pending afterwards."""
    executor: Any = ManualExecutor()
    executor.submit = lambda *_: None
    scheduler = Scheduler(executor)
    task = scheduler.task(work)
    recorder = EventRecorder(scheduler, task)

    @scheduler.on_start
    def launch() -> None:
        if from_thread:
            thread = threading.Thread(target=task.submit)
            thread.start()
            thread.join()
        else:
            task.submit()

    with pytest.raises(TypeError, match=r"ManualExecutor.* returned None from submit\(\): it must return a future"):
        scheduler.run()
    accepted = [*SUBMITTED, *EXCEPTION, "empty"] if from_thread else []
    assert recorder.names == ["start", *accepted, *STOPPED]


def test_async_callbacks_of_an_abandoned_run_go_to_their_first_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Async callbacks cannot delay `run(wait=False)`; those of @finished are awaited to their end."""
    program = Program()
    program.submit()
    steps: list[str] = []

    @program.scheduler.on_future_cancelled
    async def never_ends(_: Any) -> None:
        steps.append("cancelled begins")
        await asyncio.Event().wait()
        steps.append("cancelled goes on")

    @program.scheduler.on_finished
    async def save() -> None:
        await asyncio.sleep(1)
        steps.append("saved")

    program.at(0, program.scheduler.stop)
    assert program.run(wait=False) == ExitState(Code.STOPPED)
    assert steps == ["cancelled begins", "saved"]


def test_a_coroutine_of_a_timer_ends_before_finished() -> None:
    """A timer's coroutine ends before @finished, even one that starts while the executor is being shut down."""
    steps: list[str] = []
    closing = threading.Event()

    class Slow(ManualExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            closing.wait(GUARD)
            super().shutdown(wait, cancel_futures=cancel_futures)

    scheduler = Scheduler(Slow())

    async def late() -> None:
        closing.set()
        await asyncio.sleep(0.01)
        steps.append("late ends")

    scheduler.on_finishing(lambda: asyncio.get_running_loop().call_later(0.01, scheduler.emitter.emit, late_event))
    late_event: Event[[], Any] = Event("late")
    scheduler.emitter.add_event(late_event)
    scheduler.emitter.register(late_event, late)
    scheduler.on_finished(lambda: steps.append("finished"))
    scheduler.run()
    assert steps == ["late ends", "finished"]


def test_a_sequential_executor_serves_one_run_at_a_time() -> None:
    """A sequential executor has one thread: a second run is rejected, and the first one continues."""
    executor = SequentialExecutor()
    first, second = Scheduler(executor, terminate=False), Scheduler(executor, terminate=False)
    errors: list[BaseException] = []

    @first.on_start
    def nest() -> None:
        first.submit(int)
        try:
            second.run()
        except SchedulerRunningError as error:
            errors.append(error)

    assert first.run() == ExitState(Code.EXHAUSTED)
    assert "in use by another run" in str(errors[0])
    assert second.run() == ExitState(Code.EXHAUSTED)


def test_a_timer_that_another_thread_cancels_at_the_last_moment() -> None:
    """A timer cancelled by another thread is not called, even if the loop had already picked it up."""
    program = Program()
    called: list[int] = []

    @program.scheduler.on_start
    def start() -> None:
        def cancel_second() -> None:
            thread = threading.Thread(target=second.cancel)
            thread.start()
            thread.join()

        program.scheduler.call_later(1, cancel_second)
        second = program.scheduler.call_later(1, called.append, 2)

    program.run(timeout=2, end_on_empty=False)
    assert called == []


def test_two_threads_cannot_run_one_scheduler() -> None:
    """Two threads cannot run one scheduler, even while the executor is being created for the second run."""
    making, go_on = threading.Event(), threading.Event()
    scheduler = Scheduler.with_sequential()
    scheduler.run()
    remake: Callable[[], Any] = scheduler._remake  # type: ignore[assignment]

    def slowly() -> Any:
        making.set()
        go_on.wait(GUARD)
        return remake()

    scheduler._remake = slowly
    outcomes: list[ExitState] = []
    thread = threading.Thread(target=lambda: outcomes.append(scheduler.run()))
    thread.start()
    making.wait(GUARD)
    with pytest.raises(SchedulerRunningError):
        scheduler.run()
    go_on.set()
    thread.join()
    assert outcomes == [ExitState(Code.EXHAUSTED)]


def test_a_callback_that_emits_its_own_event_without_end() -> None:
    """A callback that emits its own event endlessly ends with a second cancellation."""
    program = Program()
    ping: Event[[], Any] = Event("ping")
    program.scheduler.emitter.add_event(ping)

    run: asyncio.Future[ExitState]
    pings = 0

    @program.scheduler.on_start
    @program.scheduler.emitter.on(ping)
    def again() -> None:
        nonlocal pings
        pings += 1
        if pings % 1000 == 0:
            run.cancel()
        program.scheduler.emitter.emit(ping)

    async def main() -> None:
        nonlocal run
        run = asyncio.ensure_future(program.scheduler.async_run())
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert program.trace[-1] == "finished"


def test_max_calls_holds_for_an_event_within_itself() -> None:
    """A callback that has used its last call is not called by a delivery already under way."""
    emitter = Emitter("plain")
    event: Event[[], Any] = Event("it")
    emitter.add_event(event)
    calls: list[str] = []

    def emit_again() -> None:
        calls.append("first")
        if len(calls) == 1:
            emitter.emit(event)

    emitter.register(event, emit_again)
    emitter.register(event, lambda: calls.append("once"), max_calls=1)
    emitter.emit(event)
    assert calls.count("once") == 1


@pytest.mark.filterwarnings("error")
def test_repeated_coroutines_after_one_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """The remaining repeats are skipped, and no coroutine is left unawaited."""
    program = Program()
    begun: list[int] = []

    @program.scheduler.on_start(repeat=3)
    async def fail() -> None:
        begun.append(1)
        raise ValueError

    with caplog.at_level(logging.ERROR):
        program.run(on_callback_exception="continue")
    assert begun == [1]


def test_the_outcome_of_a_future_is_not_the_users_to_say() -> None:
    """Users cannot set the outcome of a future, which could otherwise end without an event."""
    program = Program()
    program.submit()

    @program.scheduler.on_future_submitted
    def meddle(future: asyncio.Future[Any]) -> None:
        with pytest.raises(
            RuntimeError, match=r"the outcome of the call work\(\) can be set by the executor only; call cancel\(\)"
        ):
            future.set_result(3)
        with pytest.raises(RuntimeError, match="by the executor only"):
            future.set_exception(ValueError())

    program.at(0, program.executor.finish, 0, 4)
    program.run()
    assert program.trace == ["start", *SUBMITTED, *RESULT, "empty", *ENDED]


def test_a_run_that_never_began_uses_nothing_up() -> None:
    """A run cancelled before its first step can be run again."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)

    async def main() -> None:
        run = asyncio.ensure_future(scheduler.async_run())
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    run_in_virtual_time(main())
    assert executor.was_shut_down is None
    assert scheduler.run() == ExitState(Code.EXHAUSTED)


def test_a_signal_between_two_steps_of_the_inbox() -> None:
    """An exception from a signal handler in the inbox is passed on as a crash, and everything else is handled."""

    async def main() -> None:
        handled: list[Any] = []
        crashes: list[BaseException] = []
        inbox = Inbox(asyncio.get_running_loop(), Turns())
        inbox.connect(
            on_work=handled.append,
            on_idle=lambda: handled.append("idle"),
            on_crash=crashes.append,
        )

        class Torn(Exception): ...

        def tear(frame: Any, event: str, _arg: Any) -> Any:
            if frame.f_code.co_name == "_handle_for_a_while" and event == "call":
                sys.settrace(None)
                raise Torn
            return None

        inbox.put(handled.append, 1)
        sys.settrace(tear)
        await asyncio.sleep(0.01)
        sys.settrace(None)
        assert [type(error) for error in crashes] == [Torn]
        assert handled == [1, "idle"]
        inbox.close()

    asyncio.run(main())


def test_signal_handlers_that_users_set_during_a_run_stay() -> None:
    """Signal handlers set by users during a run stay: the end of a run restores only its own."""
    scheduler = Scheduler.with_sequential()
    before = signal.getsignal(signal.SIGTERM)

    def own(*_: Any) -> None: ...

    scheduler.on_start(lambda: signal.signal(signal.SIGTERM, own))
    try:
        scheduler.run()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_loops_own_signal_handlers_go_on_after_a_run() -> None:
    """A loop's own signal handlers still work after a run, which keeps the wake-up descriptor they need."""

    async def main() -> None:
        scheduler = Scheduler.with_sequential()
        loop = asyncio.get_running_loop()
        seen = asyncio.Event()
        scheduler.on_start(lambda: loop.add_signal_handler(signal.SIGUSR1, seen.set))
        await scheduler.async_run()
        signal.raise_signal(signal.SIGUSR1)
        await seen.wait()
        loop.remove_signal_handler(signal.SIGUSR1)

    asyncio.run(asyncio.wait_for(main(), 60))
