"""The effect of a callback's error, for callbacks of every event: the order of all events, asserted in full."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from amltk.scheduling import ExitState
from tests.unit.program import (
    CANCELLED,
    ENDED,
    EXCEPTION,
    RESULT,
    STOPPED,
    SUBMITTED,
    CallbackError,
    ComputeError,
    Program,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Code = ExitState.Code
REACTIONS = ("raise", "end", "continue")

BEGUN = ["start", *SUBMITTED]


def one_result(program: Program) -> None:
    program.at(1, program.executor.finish, 0)


def one_exception(program: Program) -> None:
    program.at(1, program.executor.fail, 0, ComputeError())


def one_cancelled(program: Program) -> None:
    program.at(1, lambda: program.task.queue[0].cancel())


def stopped(program: Program) -> None:
    program.at(0.5, program.scheduler.stop)
    one_result(program)


def timed_out(program: Program) -> None:
    program.at(9, program.executor.finish, 0)  # the timeout is at 5


class Case(NamedTuple):
    """A callback of one event, in a run in which that event occurs."""

    event: str
    happens: Callable[[Program], None]
    code: Code
    """How the run ends if no callback raises."""
    trace: list[str]
    """The events if no callback raises."""
    ended: list[str]
    """The events if the callback raises and that ends the run."""
    abandoned: list[str]
    """The events if the callback raises something that is not an Exception."""

    def __str__(self) -> str:
        return self.event


EXHAUSTED = [*BEGUN, *RESULT, "empty", *ENDED]
DRAINED = [*BEGUN, "stop", "finishing", *RESULT, "finished"]
DRAINED_AT_TIMEOUT = [*BEGUN, "timeout", "finishing", *RESULT, "finished"]
DROPPED = [*BEGUN, "stop", "finishing", *CANCELLED, "finished"]
DROPPED_AT_TIMEOUT = [*BEGUN, "timeout", "finishing", *CANCELLED, "finished"]
AT_THE_END = [*BEGUN, *RESULT, "empty", *STOPPED]
FAILED = [*BEGUN, *EXCEPTION, "empty", *ENDED]
AT_THE_FAILURE = [*BEGUN, *EXCEPTION, "empty", *STOPPED]
WITHOUT = [*BEGUN, *CANCELLED, "empty", *ENDED]
AT_THE_CANCELLATION = [*BEGUN, *CANCELLED, "empty", *STOPPED]

CASES = [
    *(
        Case(event, one_result, Code.EXHAUSTED, EXHAUSTED, DRAINED, DROPPED)
        for event in ("start", "future-submitted", "work:submitted")
    ),
    *(
        Case(event, one_result, Code.EXHAUSTED, EXHAUSTED, AT_THE_END, AT_THE_END)
        for event in ("future-done", "future-result", "work:done", "work:result", "empty")
    ),
    *(
        Case(event, one_exception, Code.EXHAUSTED, FAILED, AT_THE_FAILURE, AT_THE_FAILURE)
        for event in ("future-exception", "work:exception")
    ),
    *(
        Case(event, one_cancelled, Code.EXHAUSTED, WITHOUT, AT_THE_CANCELLATION, AT_THE_CANCELLATION)
        for event in ("future-cancelled", "work:cancelled")
    ),
    # Here the run is already ending for another reason: no event is added.
    Case("stop", stopped, Code.STOPPED, DRAINED, DRAINED, DROPPED),
    Case("timeout", timed_out, Code.TIMEOUT, DRAINED_AT_TIMEOUT, DRAINED_AT_TIMEOUT, DROPPED_AT_TIMEOUT),
    Case("finishing", one_result, Code.EXHAUSTED, EXHAUSTED, EXHAUSTED, EXHAUSTED),
    Case("finished", one_result, Code.EXHAUSTED, EXHAUSTED, EXHAUSTED, EXHAUSTED),
]


def test_every_event_has_a_case() -> None:
    """The cases cover every event of a scheduler and of a task, except one that needs resources."""
    program = Program()
    known = {event.name for event in program.scheduler.emitter.events}
    known |= {f"work:{event.name}" for event in program.task.events} - {"work:waiting"}
    assert sorted(case.event for case in CASES) == sorted(known)


def raising(program: Program, event: str, error: BaseException, *, in_coroutine: bool) -> list[str]:
    """Subscribe a callback that raises, and then one that records its call."""

    def fail(*_: Any) -> None:
        raise error

    async def fail_in_coroutine(*_: Any) -> None:
        raise error

    called: list[str] = []
    emitter = program.task if event.startswith("work:") else program.scheduler.emitter
    name = event.removeprefix("work:")
    emitter.on(name)(fail_in_coroutine if in_coroutine else fail)
    emitter.on(name)(lambda *_: called.append(event))
    return called


def errors_logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("in_coroutine", [False, True], ids=["def", "async def"])
@pytest.mark.parametrize("reaction", REACTIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_callback_raises(case: Case, reaction: Any, in_coroutine: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The remaining callbacks run, then the policy decides; the error is raised, reported or logged, once."""
    error = CallbackError("broken")
    program = Program()
    program.submit()
    case.happens(program)
    called = raising(program, case.event, error, in_coroutine=in_coroutine)
    options: Any = {
        "timeout": 5 if case.happens is timed_out else None,
        "on_cancelled": "continue",
        "on_exception": {ComputeError: "continue"},
        "on_callback_exception": {CallbackError: reaction},
    }
    if reaction == "raise":
        with pytest.raises(CallbackError) as info:
            program.run(**options)
        assert info.value is error
    elif reaction == "end":
        code = Code.EXCEPTION if case.ended != case.trace else case.code
        assert program.run(**options) == ExitState(code, error)
    else:
        assert program.run(**options) == ExitState(case.code)
    assert program.trace == (case.trace if reaction == "continue" else case.ended)
    assert called == [case.event]
    name = case.event.removeprefix("work:")
    function = "fail_in_coroutine" if in_coroutine else "fail"
    of_a_call = case.event.startswith(("work:", "future-"))
    where = f"callback {function} of @{name}{' for work()' if of_a_call else ''}"
    if reaction == "continue":
        (record,) = errors_logged(caplog)
        assert record.getMessage() == f"{where} raised, and the run goes on"
        assert record.exc_info is not None
        assert record.exc_info[1] is error
    else:
        assert errors_logged(caplog) == []
        assert error.__notes__ == [f"raised by the {where}"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_callback_asks_to_end_the_program(case: Case, error: BaseException) -> None:
    """KeyboardInterrupt and SystemExit end the run whatever the policy, without waiting."""
    program = Program()
    program.submit()
    case.happens(program)
    called = raising(program, case.event, error, in_coroutine=False)
    with pytest.raises(type(error)) as info:
        program.run(
            timeout=5 if case.happens is timed_out else None,
            on_exception="continue",
            on_callback_exception="continue",
            on_cancelled="continue",
        )
    assert info.value is error
    assert program.trace == case.abandoned
    assert called == [case.event]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_coroutine_asks_to_end_the_program(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that asyncio lets propagate from a callback's task is held until the run has ended in order."""
    program = Program()
    program.submit()
    raising(program, "start", error, in_coroutine=True)
    with pytest.raises(type(error)) as info:
        program.scheduler.run(on_callback_exception="continue")
    assert info.value is error
    assert program.trace == DROPPED
    assert errors_logged(caplog) == []


@pytest.mark.parametrize("in_coroutine", [False, True], ids=["def", "async def"])
@pytest.mark.parametrize("reaction", REACTIONS)
def test_call_later_raises(reaction: Any, in_coroutine: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An exception from a call made by `call_later` is a callback's error as well."""
    error = CallbackError("broken")

    def fail() -> None:
        raise error

    async def fail_in_coroutine() -> None:
        raise error

    program = Program()
    program.submit()
    program.at(0.5, fail_in_coroutine if in_coroutine else fail)
    one_result(program)
    if reaction == "raise":
        with pytest.raises(CallbackError) as info:
            program.run(on_callback_exception=reaction)
        assert info.value is error
    elif reaction == "end":
        assert program.run(on_callback_exception=reaction) == ExitState(Code.EXCEPTION, error)
    else:
        assert program.run(on_callback_exception=reaction) == ExitState(Code.EXHAUSTED)
    assert program.trace == (EXHAUSTED if reaction == "continue" else DRAINED)
    assert len(errors_logged(caplog)) == (reaction == "continue")


def test_callback_is_asked_when_to_be_called_and_raises() -> None:
    """An error of `when=` counts as one of its callback."""

    def when() -> bool:
        raise CallbackError("when")

    program = Program()
    program.scheduler.on_start(lambda: pytest.fail("must not be called"), when=when)
    with pytest.raises(CallbackError, match="when"):
        program.run()
    assert program.trace == ["start", *STOPPED]


def test_second_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Only one exception can be raised: another callback's error is logged, so that it is not lost."""
    program = Program()
    raising(program, "start", CallbackError("first"), in_coroutine=False)
    raising(program, "finishing", CallbackError("second"), in_coroutine=False)
    with pytest.raises(CallbackError, match="first"):
        program.run()
    (record,) = errors_logged(caplog)
    assert record.getMessage() == "callback fail of @finishing raised while the run was ending"


def test_second_stop_with_an_exception_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The exception of a late stop is logged, so that it is not lost."""
    program = Program()
    program.scheduler.on_start(lambda: program.scheduler.stop(exception=CallbackError("first")))
    program.scheduler.on_stop(lambda *_: program.scheduler.stop(exception=CallbackError("second")))
    with pytest.raises(CallbackError, match="first"):
        program.run()
    (record,) = errors_logged(caplog)
    assert record.getMessage() == "stop() was called with an exception while the run was ending"
    assert str(record.exc_info and record.exc_info[1]) == "second"


def test_error_given_to_stop_and_raised(caplog: pytest.LogCaptureFixture) -> None:
    """A callback may pass its error to `stop` and raise it: it is one error, reported once."""

    def fail() -> None:
        error = CallbackError("broken")
        program.scheduler.stop(exception=error)
        raise error

    program = Program()
    program.scheduler.on_start(fail)
    assert program.run(on_exception="end").code is Code.EXCEPTION
    assert program.trace == ["start", *STOPPED]
    assert errors_logged(caplog) == []


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("reaction", REACTIONS)
def test_termination_raises(reaction: Any, wait: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An error while terminating the executor is subject to the policy; every submission still has its outcome."""
    error = CallbackError("cannot be ended")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    program = Program(terminate=fail)
    program.executor.shutdown = fail
    program.submit()
    program.at(1, program.executor.start, 0)
    program.at(2, program.scheduler.stop)
    if wait:
        program.at(3, program.executor.finish, 0)
    if reaction == "raise":
        with pytest.raises(CallbackError):
            program.run(on_callback_exception=reaction, wait=wait)
    else:
        expected = ExitState(Code.STOPPED, error if reaction == "end" else None)
        assert program.run(on_callback_exception=reaction, wait=wait) == expected
    assert program.trace == (DRAINED if wait else DROPPED)
    assert len(errors_logged(caplog)) == (reaction == "continue")
