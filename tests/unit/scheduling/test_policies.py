"""Errors of calls and errors of callbacks have separate policies and separate counts."""

from __future__ import annotations

import asyncio
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.snapshot import Snapshot
from tests.unit.program import CANCELLED, EXCEPTION, RESULT, SUBMITTED, CallbackError, ComputeError, Program

if TYPE_CHECKING:
    from collections.abc import Callable

Code = ExitState.Code

NO_EXCEPTIONS = [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError("mine")]


def fail(*_: Any) -> None:
    raise CallbackError("cannot save")


@pytest.mark.parametrize("policy", ["raise", "end", "continue", {Exception: "continue"}], ids=str)
def test_a_policy_for_calls_lets_no_callback_fail_unseen(policy: Any) -> None:
    """Whatever `on_exception` says, an error of a callback is raised unless its own policy says otherwise."""
    program = Program()
    program.submit(3)
    program.task.on_result(fail)
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    program.at(2, program.executor.finish, 2)
    with pytest.raises(CallbackError, match="cannot save"):
        program.run(on_exception=policy)


@pytest.mark.parametrize("policy", ["raise", "end", {CallbackError: "raise"}], ids=str)
def test_a_policy_for_callbacks_says_nothing_of_calls(policy: Any) -> None:
    """Whatever `on_callback_exception` says, `on_exception` decides about an error of a call."""
    program = Program()
    program.submit(2)
    program.at(1, program.executor.fail, 0, CallbackError("a call raises the same type"))
    program.at(2, program.executor.finish, 1)
    state = program.run(on_exception="continue", on_callback_exception=policy)
    assert (state.code, state.exceptions, state.callback_exceptions) == (Code.EXHAUSTED, 1, 0)


def test_both_are_counted() -> None:
    """The exit state counts failed calls and callback errors of the run; a snapshot counts them over all runs."""
    program = Program(terminate=False)
    program.submit(3)
    program.task.on_done(fail)
    program.task.on_exception(fail)
    for n in range(2):
        program.at(1, program.executor.fail, n, ComputeError())
    program.at(1, program.executor.finish, 2)
    state = program.run(on_exception="continue", on_callback_exception="continue")
    assert state == ExitState(Code.EXHAUSTED)
    assert (state.exceptions, state.callback_exceptions) == (2, 5)
    snapshot = Snapshot.of(program.scheduler)
    assert (snapshot.counts.failed, snapshot.callback_exceptions) == (2, 5)
    assert program.scheduler.callback_exceptions == 5


def test_an_exit_state_shows_what_was_counted() -> None:
    """Counts are shown if not zero, and do not make states different."""
    state = ExitState(Code.EXHAUSTED, None, exceptions=2)
    assert state == ExitState(Code.EXHAUSTED)
    assert repr(state) == "ExitState(code=<Code.EXHAUSTED: 3>, exception=None, exceptions=2, callback_exceptions=0)"
    assert repr(ExitState(Code.EXHAUSTED)) == "ExitState(code=<Code.EXHAUSTED: 3>, exception=None)"


# ------------------------------------------------------------------------------------- what a call raises, raised again


@pytest.mark.parametrize("error", NO_EXCEPTIONS, ids=repr)
@pytest.mark.parametrize("how", ["await", "result"])
def test_an_outcome_that_a_callback_raises_again_is_an_error_of_the_callback(how: str, error: BaseException) -> None:
    """A callback that re-raises a call's SystemExit does not request the end of the program."""
    program = Program()
    program.submit(2)
    if how == "await":

        @program.task.on_submitted(max_calls=1)
        async def take(future: asyncio.Future[Any]) -> None:
            await future
    else:

        @program.task.on_done(max_calls=1)
        def take(future: asyncio.Future[Any]) -> None:
            future.result()

    program.at(1, program.executor.fail, 0, error)
    program.at(2, program.executor.finish, 1)
    state = program.run(on_exception="continue", on_callback_exception="continue")
    assert (state.code, state.exceptions, state.callback_exceptions) == (Code.EXHAUSTED, 1, 1)
    assert program.own == ["submitted", "submitted", "done", "exception", "done", "result"]


def test_a_cancelled_future_that_a_callback_awaits_is_no_error() -> None:
    """A cancelled future awaited by a callback is not an error: it has its own event and policy."""
    program = Program()
    program.submit()

    @program.task.on_submitted
    async def take(future: asyncio.Future[Any]) -> None:
        await future

    program.at(1, lambda: program.task.queue[0].cancel())
    state = program.run(on_cancelled="continue")
    assert (state.code, state.callback_exceptions) == (Code.EXHAUSTED, 0)


@pytest.mark.parametrize("error", NO_EXCEPTIONS, ids=repr)
def test_other_calls_go_on_after_a_call_that_raises_what_is_no_exception(error: BaseException) -> None:
    """With "end" and "raise" the run waits for pending calls, as after any other exception of a call."""
    program = Program()
    program.submit(2)
    program.at(1, program.executor.fail, 0, error)
    program.at(2, program.executor.finish, 1)
    assert program.run(on_exception="end") == ExitState(Code.EXCEPTION, error)
    assert program.trace == ["start", *SUBMITTED * 2, *EXCEPTION, "stop", "finishing", *RESULT, "finished"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException])
@pytest.mark.parametrize("option", ["on_exception", "on_callback_exception"])
def test_what_ends_the_program_is_no_key(option: str, kind: type[BaseException]) -> None:
    """A mapping that seems to keep Ctrl-C from ending the run is rejected, and the message names the option."""
    options: Any = {option: {kind: "continue"}}
    with pytest.raises(ValueError, match=f"{option}: {kind.__name__} cannot be a key"):
        Scheduler.with_sequential().run(**options)


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError])
def test_other_types_that_are_no_exceptions_are_keys(kind: type[BaseException]) -> None:
    """Other types outside `Exception` may be keys of a mapping, since a call can raise them."""
    program = Program()
    program.submit()
    program.at(1, program.executor.fail, 0, kind())
    assert program.run(on_exception={kind: "continue"}) == ExitState(Code.EXHAUSTED)


# --------------------------------------------------------------------------------------- what the run itself has ended


@pytest.mark.parametrize("error", [BrokenExecutor("killed"), SystemExit(143), ValueError("interrupted")], ids=repr)
def test_what_a_strategy_ends_is_told_as_cancelled(error: BaseException) -> None:
    """However an executor reports a call that the user's strategy has killed, it does not count as failed."""
    program = Program(terminate=lambda executor: executor.fail(0, error))
    program.submit()
    program.at(1, program.executor.start, 0)
    program.at(2, program.scheduler.stop)
    state = program.run(wait=False)
    assert (state.code, state.exceptions) == (Code.STOPPED, 0)
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]


@pytest.mark.parametrize("end", ["stop", "timeout"])
def test_what_has_ended_before_is_told_as_what_it_is(end: str) -> None:
    """A failure and a result that precede the request to end, but are undelivered, are not cancellations."""
    program = Program(terminate=lambda executor: executor.fail(3, ComputeError("killed")))
    program.submit(4)

    def outcomes_and_end() -> None:
        for n in range(4):
            program.executor.start(n)
        program.executor.fail(0, ComputeError("its own"))
        program.executor.finish(1)
        program.executor.fail(2, BrokenExecutor("its own"))
        if end == "stop":
            program.scheduler.stop()

    program.at(1, outcomes_and_end)
    state = program.run(timeout=1 if end == "timeout" else None, wait=False, on_exception="continue")
    assert state.exceptions == 2
    assert [name for name in program.trace if name in {"future-exception", "future-result", "future-cancelled"}] == [
        *("future-exception", "future-result", "future-exception", "future-cancelled")
    ]


def test_a_result_that_comes_while_the_executor_ends_is_a_result() -> None:
    """A result is not thrown away because the run was about to kill its call."""
    program = Program(terminate=lambda executor: executor.finish(0, 7))
    program.submit()
    program.at(1, program.executor.start, 0)
    program.at(2, program.scheduler.stop)
    program.run(wait=False)
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *RESULT, "finished"]


# -------------------------------------------------------------------------------------------------- after the last run


def end_by_error(scheduler: Scheduler) -> None:
    scheduler.on_start(fail)
    with pytest.raises(CallbackError):
        scheduler.run()


def end_by_stop(scheduler: Scheduler) -> None:
    scheduler.on_start(scheduler.stop)
    scheduler.run()


@pytest.mark.parametrize(
    ("end", "text"),
    [(end_by_error, r"CallbackError\('cannot save'\)"), (end_by_stop, "STOPPED")],
    ids=["error", "stop"],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda scheduler: scheduler.submit(abs, 1),
        lambda scheduler: scheduler.task(abs).submit(1),
        lambda scheduler: scheduler.call_later(1, abs, 1),
    ],
    ids=["submit", "task", "call_later"],
)
def test_a_submission_after_a_run_says_how_that_has_ended(
    use: Callable[[Scheduler], Any], end: Callable[[Scheduler], None], text: str
) -> None:
    """A service whose run ended with an error answers requests with that error, not with "call run()"."""
    scheduler = Scheduler.with_sequential()
    with pytest.raises(SchedulerNotRunningError, match=r"is not running; do it in a callback of @start"):
        use(scheduler)
    end(scheduler)
    with pytest.raises(SchedulerNotRunningError, match=rf"its last run has ended \({text}\)"):
        use(scheduler)


def test_a_submission_during_the_end_says_why_the_run_ends() -> None:
    """A submission while the run is ending raises an error with the reason for the end."""
    errors: list[Exception] = []
    scheduler = Scheduler.with_sequential()

    @scheduler.on_finishing
    def submit() -> None:
        try:
            scheduler.submit(abs, 1)
        except SchedulerNotRunningError as error:
            errors.append(error)

    end_by_error(scheduler)
    assert "cannot submit abs: the run is ending (CallbackError('cannot save'))" in str(errors[0])
