"""The order of events on every path from `@start` to `@finished`, asserted in full."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from amltk.exceptions import ExecutorBrokenError, FutureCancelledError
from amltk.scheduling import ExitState, Scheduler
from amltk.testing import EventRecorder, run_in_virtual_time
from tests.helpers.gate import GUARD
from tests.unit.program import (
    CANCELLED,
    ENDED,
    EXCEPTION,
    RESULT,
    STOPPED,
    SUBMITTED,
    ComputeError,
    Program,
    work,
)

Code = ExitState.Code
REACTIONS = ("raise", "end", "continue")


@pytest.fixture
def program() -> Program:
    return Program()


# --------------------------------------------------------------------------------------------------- nothing left to do


def test_exhausted(program: Program) -> None:
    """One submission with a result: each event once, in order, the scheduler's before the task's."""
    program.submit()
    program.at(1, program.executor.finish, 0, "value")
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *RESULT, "empty", *ENDED]


def test_events_carry_the_future_and_its_outcome(program: Program) -> None:
    """Callbacks get the future, the arguments of the submission, and the result."""
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.append(program.task.submit(1, key=2)))
    program.at(1, program.executor.finish, 0, "value")
    program.run()
    (future,) = futures
    assert [(record.name, record.args, record.kwargs) for record in program.recorder.records] == [
        ("start", (), {}),
        ("future-submitted", (future,), {}),
        ("work:submitted", (future, 1), {"key": 2}),
        ("future-done", (future,), {}),
        ("future-result", (future, "value"), {}),
        ("work:done", (future,), {}),
        ("work:result", (future, "value"), {}),
        ("empty", (), {}),
        ("finishing", (), {}),
        ("finished", (), {}),
    ]


def test_nothing_submitted(program: Program) -> None:
    """A run to which nothing is submitted still says once that it is empty."""
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", "empty", *ENDED]


def test_endings_come_in_the_order_in_which_compute_ended(program: Program) -> None:
    """Of two submissions, the first to end has its events first; the events of each are contiguous."""
    program.submit(2)
    program.at(1, program.executor.finish, 1)
    program.at(2, program.executor.fail, 0, ComputeError())
    program.run(on_exception="continue")
    assert program.trace == ["start", *SUBMITTED, *SUBMITTED, *RESULT, *EXCEPTION, "empty", *ENDED]


def test_submission_without_a_task(program: Program) -> None:
    """`scheduler.submit` emits the scheduler's events and no task's."""
    program.scheduler.on_start(lambda: program.scheduler.submit(work))
    program.at(1, program.executor.finish, 0)
    program.run()
    assert program.trace == ["start", "future-submitted", "future-done", "future-result", "empty", *ENDED]


def test_refilled_in_empty(program: Program) -> None:
    """What `@empty` submits runs as usual, and `@empty` comes again when it has ended."""
    program.submit()
    program.scheduler.on_empty(lambda: program.task.submit(), max_calls=1)
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *RESULT, "empty", *SUBMITTED, *RESULT, "empty", *ENDED]


def test_submitted_by_the_last_result(program: Program) -> None:
    """A callback that reacts to the last result with another submission keeps the run from being empty."""
    program.submit()
    program.task.on_result(lambda *_: program.task.submit(), max_calls=1)
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    program.run()
    assert program.trace == ["start", *SUBMITTED, *RESULT, *SUBMITTED, *RESULT, "empty", *ENDED]


def test_empty_again_and_again_without_an_end(program: Program) -> None:
    """With `end_on_empty=False` an empty run continues, here until the timeout."""
    program.at(1, lambda: program.task.submit())
    program.at(2, program.executor.finish, 0)
    assert program.run(end_on_empty=False, timeout=10) == ExitState(Code.TIMEOUT)
    assert program.trace == ["start", "empty", *SUBMITTED, *RESULT, "empty", "timeout", *ENDED]


# ----------------------------------------------------------------------------------------------------------------- stop


def test_stop_in_start(program: Program) -> None:
    """A run stopped in `@start` has no `@empty`."""
    program.scheduler.on_start(program.scheduler.stop)
    assert program.run() == ExitState(Code.STOPPED)
    assert program.trace == ["start", *STOPPED]


def test_stop_in_start_after_a_submission(program: Program) -> None:
    """What `@start` submitted before it stopped is accepted and completed."""
    program.submit()
    program.at(1, program.executor.finish, 0)
    program.scheduler.on_start(program.scheduler.stop)
    assert program.run() == ExitState(Code.STOPPED)
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *RESULT, "finished"]


def test_stop_in_the_last_result(program: Program) -> None:
    """`@empty` follows the outcome that made the run empty, even if a callback of that outcome stopped the run."""
    program.submit()
    program.scheduler.on_future_result(program.scheduler.stop)
    program.at(1, program.executor.finish, 0)
    assert program.run() == ExitState(Code.STOPPED)
    assert program.trace == ["start", *SUBMITTED, *RESULT, "empty", *STOPPED]


def test_stop_in_empty(program: Program) -> None:
    """A stop in `@empty` is the reason for the end, not the exhaustion that would have come next."""
    program.scheduler.on_empty(program.scheduler.stop)
    assert program.run() == ExitState(Code.STOPPED)
    assert program.trace == ["start", "empty", *STOPPED]


def test_stop_with_pending_work(program: Program) -> None:
    """With `wait=True` pending calls are computed after `@finishing`, and `@empty` does not come again."""
    program.submit(2)
    program.at(1, program.scheduler.stop)
    program.at(2, program.executor.finish, 0)
    program.at(3, program.executor.finish, 1)
    assert program.run() == ExitState(Code.STOPPED)
    assert program.trace == ["start", *SUBMITTED, *SUBMITTED, "stop", "finishing", *RESULT, *RESULT, "finished"]
    assert program.executor.was_shut_down == {"wait": True, "cancel_futures": False}


def test_stop_without_waiting(program: Program) -> None:
    """With `wait=False` calls that have not started are cancelled, in the order of submission."""
    program.submit(2)
    program.at(1, program.scheduler.stop)
    assert program.run(wait=False) == ExitState(Code.STOPPED)
    assert program.trace == ["start", *SUBMITTED, *SUBMITTED, "stop", "finishing", *CANCELLED, *CANCELLED, "finished"]
    assert program.executor.was_shut_down == {"wait": False, "cancel_futures": True}


def test_stop_comes_after_what_happened_before_it(program: Program) -> None:
    """Calls that had ended when the stop was requested have their events first."""

    def both_end() -> None:
        program.executor.finish(0)
        program.executor.finish(1)

    program.submit(2)
    program.task.on_result(program.scheduler.stop)
    program.at(1, both_end)
    program.run()
    assert program.trace == ["start", *SUBMITTED, *SUBMITTED, *RESULT, *RESULT, *STOPPED]


def test_stop_twice(program: Program) -> None:
    """The first stop counts; a second one adds no event."""
    program.scheduler.on_start(lambda: program.scheduler.stop(stop_msg="first"))
    program.scheduler.on_start(lambda: program.scheduler.stop(stop_msg="second"))
    program.scheduler.on_finishing(program.scheduler.stop)
    program.run()
    assert program.trace == ["start", *STOPPED]
    assert program.recorder.records[1].args == ("first", None)


def test_stop_message(program: Program) -> None:
    """Without a message `@stop` has what `stop` was called with."""
    program.scheduler.on_start(program.scheduler.stop)
    program.run()
    assert program.recorder.records[1].args == ("stop() was called", None)


@pytest.mark.parametrize("reaction", REACTIONS)
def test_stop_with_an_exception(program: Program, reaction: Any) -> None:
    """`stop(exception=...)` ends the run under every policy; only "raise" raises it."""
    error = ComputeError("enough")
    program.scheduler.on_start(lambda: program.scheduler.stop(stop_msg="why", exception=error))
    if reaction == "raise":
        with pytest.raises(ComputeError, match="enough"):
            program.run(on_exception=reaction)
    else:
        assert program.run(on_exception=reaction) == ExitState(Code.EXCEPTION, error)
    assert program.trace == ["start", *STOPPED]
    assert program.recorder.records[1].args == ("why", error)


def test_stop_with_an_exception_that_is_mapped(program: Program) -> None:
    """A mapping handles the exception given to `stop` like any other."""
    error = ComputeError("enough")
    program.scheduler.on_start(lambda: program.scheduler.stop(exception=error))
    assert program.run(on_exception={ComputeError: "end"}) == ExitState(Code.EXCEPTION, error)


# -------------------------------------------------------------------------------------------------------------- timeout


def test_timeout_with_wait(program: Program) -> None:
    """At the timeout a run with `wait=True` lets pending calls finish."""
    program.submit()
    program.at(7, program.executor.finish, 0)
    assert program.run(timeout=5) == ExitState(Code.TIMEOUT)
    assert program.trace == ["start", *SUBMITTED, "timeout", "finishing", *RESULT, "finished"]


@pytest.mark.parametrize("terminate", [True, False])
def test_timeout_without_wait(terminate: bool) -> None:
    """At the timeout with `wait=False` waiting calls are cancelled and running ones are abandoned as cancelled."""
    program = Program(terminate=terminate)
    program.submit(2)
    program.at(1, program.executor.start, 0)
    assert program.run(timeout=5, wait=False) == ExitState(Code.TIMEOUT)
    # The one that had not started ends first: the other one ends with the executor.
    assert program.trace == [
        *["start", *SUBMITTED, *SUBMITTED, "timeout", "finishing"],
        *[*CANCELLED, *CANCELLED, "finished"],
    ]
    order = [record.args[0] for record in program.recorder.records if record.name == "future-submitted"]
    ended = [record.args[0] for record in program.recorder.records if record.name == "future-cancelled"]
    assert ended == order[::-1]


def test_timeout_without_wait_on_an_executor_that_fails_what_it_kills() -> None:
    """If a killed worker shows as an exception, its call is delivered as cancelled: the run ended it."""

    def kill(executor: Any) -> None:
        executor.fail(0, ComputeError("killed"))

    program = Program(terminate=kill)
    program.submit()
    program.at(1, program.executor.start, 0)
    assert program.run(timeout=5, wait=False) == ExitState(Code.TIMEOUT)
    assert program.trace == ["start", *SUBMITTED, "timeout", "finishing", *CANCELLED, "finished"]


def test_timeout_of_zero(program: Program) -> None:
    """With a timeout of 0 seconds `@start` is still delivered."""
    assert program.run(timeout=0, end_on_empty=False) == ExitState(Code.TIMEOUT)
    assert program.trace == ["start", "empty", "timeout", *ENDED]


def test_timeout_noticed_by_a_callback(program: Program) -> None:
    """If `running()` notices the timeout, the run ends for that reason, not as exhausted a moment later."""
    states: list[bool] = []
    program.scheduler.on_start(lambda: states.append(program.scheduler.running()))
    assert program.run(timeout=0) == ExitState(Code.TIMEOUT)
    assert states == [False]
    assert program.trace == ["start", "timeout", *ENDED]


def test_timeout_while_draining(program: Program) -> None:
    """A timeout after another reason to end changes nothing."""
    program.submit()
    program.at(1, program.scheduler.stop)
    program.at(9, program.executor.finish, 0)
    assert program.run(timeout=5) == ExitState(Code.STOPPED)
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *RESULT, "finished"]


# ---------------------------------------------------------------------------------------------------- errors of compute


def test_compute_raises_and_the_policy_is_raise(program: Program) -> None:
    """The exception of a call is delivered, ends the run, and is raised unchanged."""
    error = ComputeError("diverged")
    program.submit()
    program.at(1, program.executor.fail, 0, error)
    with pytest.raises(ComputeError) as info:
        program.run()
    assert info.value is error
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *STOPPED]
    assert program.recorder.records[-3].args == ("work() raised ComputeError('diverged')", error)


def test_compute_raises_and_the_policy_is_end(program: Program) -> None:
    """The exception of a call is delivered, ends the run, and is in the exit state."""
    error = ComputeError("diverged")
    program.submit()
    program.at(1, program.executor.fail, 0, error)
    assert program.run(on_exception="end") == ExitState(Code.EXCEPTION, error)
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *STOPPED]


def test_compute_raises_and_the_policy_is_continue(program: Program) -> None:
    """The exception of a call is delivered, and the run continues."""
    program.submit(2)
    program.at(1, program.executor.fail, 0, ComputeError())
    program.at(2, program.executor.finish, 1)
    assert program.run(on_exception="continue") == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *SUBMITTED, *EXCEPTION, *RESULT, "empty", *ENDED]


@pytest.mark.parametrize("reaction", ["raise", "end"])
def test_compute_raises_with_other_work_pending(program: Program, reaction: Any) -> None:
    """With `wait=True` the other calls complete after the exception; a second exception is not kept."""
    first = ComputeError("first")
    program.submit(3)
    program.at(1, program.executor.fail, 0, first)
    program.at(2, program.executor.finish, 1)
    program.at(3, program.executor.fail, 2, ComputeError("second"))
    if reaction == "raise":
        with pytest.raises(ComputeError, match="first"):
            program.run(on_exception=reaction)
    else:
        assert program.run(on_exception=reaction) == ExitState(Code.EXCEPTION, first)
    assert program.trace == [
        *["start", *SUBMITTED * 3, *EXCEPTION, "stop", "finishing"],
        *[*RESULT, *EXCEPTION, "finished"],
    ]


def test_compute_raises_without_waiting(program: Program) -> None:
    """With `wait=False` the other calls are cancelled."""
    program.submit(2)
    program.at(1, program.executor.fail, 0, ComputeError())
    with pytest.raises(ComputeError):
        program.run(wait=False)
    assert program.trace == ["start", *SUBMITTED * 2, *EXCEPTION, "stop", "finishing", *CANCELLED, "finished"]


class SpecialError(ComputeError):
    """A subclass, for the order in a mapping."""


MAPPINGS = [
    pytest.param({ComputeError: "continue"}, ComputeError(), None, id="matched"),
    pytest.param({ComputeError: "end"}, SpecialError(), "end", id="by a base class"),
    pytest.param({SpecialError: "continue", ComputeError: "end"}, SpecialError(), None, id="subclass first"),
    pytest.param({ComputeError: "end", SpecialError: "continue"}, SpecialError(), "end", id="base class first"),
    pytest.param({SpecialError: "continue"}, ComputeError(), "raise", id="unmatched"),
    pytest.param({ComputeError: "raise"}, ComputeError(), "raise", id="raise"),
    pytest.param({}, ComputeError(), "raise", id="empty mapping"),
]


@pytest.mark.parametrize(("mapping", "error", "ends"), MAPPINGS)
def test_compute_raises_and_the_policy_is_a_mapping(
    program: Program, mapping: Any, error: Exception, ends: str | None
) -> None:
    """The types are tried in order with isinstance; an exception that matches none is raised."""
    program.submit()
    program.at(1, program.executor.fail, 0, error)
    if ends == "raise":
        with pytest.raises(ComputeError) as info:
            program.run(on_exception=mapping)
        assert info.value is error
    elif ends == "end":
        assert program.run(on_exception=mapping) == ExitState(Code.EXCEPTION, error)
    else:
        assert program.run(on_exception=mapping) == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *(STOPPED if ends else ENDED)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("reaction", [*REACTIONS, {Exception: "continue"}], ids=str)
def test_compute_raises_what_is_no_exception(program: Program, reaction: Any, error: BaseException) -> None:
    """KeyboardInterrupt and SystemExit raised by a call are outcomes like any other, subject to the policy."""
    program.submit(2)
    program.at(1, program.executor.fail, 0, error)
    program.at(2, program.executor.finish, 1)
    if reaction == "continue":
        assert program.run(on_exception=reaction) == ExitState(Code.EXHAUSTED)
    elif reaction == "end":
        assert program.run(on_exception=reaction) == ExitState(Code.EXCEPTION, error)
    else:
        with pytest.raises(type(error)) as info:
            program.run(on_exception=reaction)
        assert info.value is error
    ends = ["empty", *ENDED] if reaction == "continue" else ["finished"]
    stops = [] if reaction == "continue" else ["stop", "finishing"]
    assert program.trace == ["start", *SUBMITTED * 2, *EXCEPTION, *stops, *RESULT, *ends]


def test_a_raising_policy_wins_over_one_that_ends(program: Program) -> None:
    """If one exception ends the run and the policy for a later one is to raise, the later one is raised."""
    program.submit(2)
    program.at(1, program.executor.fail, 0, ValueError("ends"))
    program.at(2, program.executor.fail, 1, ComputeError("raises"))
    with pytest.raises(ComputeError, match="raises"):
        program.run(on_exception={ValueError: "end"})


# -------------------------------------------------------------------------------------------------------- cancellations


@pytest.mark.parametrize("reaction", REACTIONS)
@pytest.mark.parametrize("started", [False, True], ids=["waiting", "started"])
def test_future_cancelled_by_the_user(program: Program, reaction: Any, started: bool) -> None:
    """A future cancelled by the user has one outcome, whatever its call does; the policy is `on_cancelled`."""
    program.submit()
    if started:
        program.at(0, program.executor.start, 0)
    program.at(1, lambda: program.task.queue[0].cancel())
    if started:
        program.at(2, program.executor.finish, 0)
    if reaction == "raise":
        with pytest.raises(FutureCancelledError, match=r"the call work\(\) was cancelled, and on_cancelled is 'raise'"):
            program.run(on_cancelled=reaction)
    else:
        state = program.run(on_cancelled=reaction)
        assert state.code is (Code.CANCELLED if reaction == "end" else Code.EXHAUSTED)
        assert isinstance(state.exception, FutureCancelledError) == (reaction == "end")
    assert program.trace == [
        *["start", *SUBMITTED, *CANCELLED, "empty"],
        *(ENDED if reaction == "continue" else STOPPED),
    ]


def test_future_cancelled_right_after_its_submission(program: Program) -> None:
    """A future cancelled before its `@future-submitted` was delivered still has that event first."""

    @program.scheduler.on_start
    def submit_and_cancel() -> None:
        future = program.task.submit()
        assert future is not None
        future.cancel()

    program.run(on_cancelled="continue")
    assert program.trace == ["start", *SUBMITTED, *CANCELLED, "empty", *ENDED]


def test_future_cancelled_after_its_compute_ended(program: Program) -> None:
    """Until its events are delivered, a future can be cancelled; the result on its way is dropped."""

    def finish_and_cancel() -> None:
        future = program.task.queue[0]
        program.executor.finish(0, "late")
        assert future.cancel()

    program.submit()
    program.at(1, finish_and_cancel)
    program.run(on_cancelled="continue")
    assert program.trace == ["start", *SUBMITTED, *CANCELLED, "empty", *ENDED]


def test_future_cancelled_by_the_executor(program: Program) -> None:
    """A future that the executor cancels counts as cancelled by the user."""
    program.submit()
    program.at(1, lambda: program.executor.submissions[0].future.cancel())
    with pytest.raises(FutureCancelledError):
        program.run()
    assert program.trace == ["start", *SUBMITTED, *CANCELLED, "empty", *STOPPED]


def test_future_cancelled_while_draining(program: Program) -> None:
    """A cancellation after the stop, with `wait=True`, is raised as the user's; the first reason stays."""
    program.submit()
    program.at(1, program.scheduler.stop)
    program.at(2, lambda: program.task.queue[0].cancel())
    with pytest.raises(FutureCancelledError):
        program.run()
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]


# -------------------------------------------------------------------------------------------------- the executor breaks


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("reaction", [*REACTIONS, {Exception: "continue"}], ids=str)
def test_executor_breaks(program: Program, reaction: Any, wait: bool) -> None:
    """An executor that breaks fails all pending calls and ends the run, whatever the policies."""
    program.submit(2)
    program.at(1, program.executor.start, 0)
    program.at(2, program.executor.break_down, "out of memory")
    with pytest.raises(ExecutorBrokenError, match="out of memory") as info:
        program.run(on_exception=reaction, wait=wait)
    assert str(info.value.__cause__) == "out of memory"
    assert program.trace == ["start", *SUBMITTED * 2, *EXCEPTION * 2, *STOPPED]


@pytest.mark.parametrize("reaction", REACTIONS)
def test_executor_is_found_broken_by_a_submission(program: Program, reaction: Any) -> None:
    """A submission that finds the executor broken is rejected and ends the run, whatever the policies."""
    program.scheduler.on_start(program.executor.break_down)
    program.submit()
    with pytest.raises(ExecutorBrokenError, match="computes nothing more: the test broke it"):
        program.run(on_exception=reaction, end_on_empty=False)
    assert program.trace == ["start", *STOPPED]


def test_resubmitting_on_a_broken_executor_ends(program: Program) -> None:
    """Callbacks that react to each exception with another submission do not spin on a broken executor."""
    program.submit()
    program.task.on_exception(lambda *_: program.scheduler.running() and program.task.submit())
    program.at(1, program.executor.break_down)
    with pytest.raises(ExecutorBrokenError):
        program.run(on_exception="continue")
    assert program.trace == ["start", *SUBMITTED, *EXCEPTION, "empty", *STOPPED]


# --------------------------------------------------------------------------------------------------- ended from outside


def test_async_run_is_cancelled(program: Program) -> None:
    """A cancelled `async_run` ends in order, without waiting for calls, before the cancellation propagates."""
    program.submit(2)
    program.at(1, program.executor.start, 0)

    async def main() -> None:
        async with asyncio.timeout(5):
            await program.scheduler.async_run()

    with pytest.raises(TimeoutError):
        run_in_virtual_time(main())
    assert program.trace == ["start", *SUBMITTED * 2, "stop", "finishing", *CANCELLED, *CANCELLED, "finished"]
    program.check_books()


def test_async_run_is_cancelled_as_a_task(program: Program) -> None:
    """The task that awaits `async_run` ends as cancelled, even if it is cancelled while the run is ending."""
    program.submit()

    async def main() -> asyncio.Task[Any]:
        task = asyncio.create_task(program.scheduler.async_run())
        program.scheduler.on_stop(lambda *_: task.cancel())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task

    assert run_in_virtual_time(main()).cancelled()
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]


def test_async_run_that_is_ending_is_cancelled(program: Program) -> None:
    """Cancelling a stopped run that waits for calls ends the waiting, but keeps the order."""
    program.submit()
    program.at(1, program.scheduler.stop)

    async def main() -> None:
        async with asyncio.timeout(5):
            await program.scheduler.async_run()

    with pytest.raises(TimeoutError):
        run_in_virtual_time(main())
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]


def test_ctrl_c_in_a_callback(program: Program) -> None:
    """Ctrl-C during a callback raises there; the run ends in order and KeyboardInterrupt propagates."""
    reached: list[str] = []

    def callback() -> None:
        signal.raise_signal(signal.SIGINT)
        reached.append("after the signal")

    program.submit()
    program.at(0, callback)
    with pytest.raises(KeyboardInterrupt):
        program.scheduler.run()
    assert reached == []
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]
    program.check_books()


def test_ctrl_c_between_callbacks(program: Program) -> None:
    """Ctrl-C while the loop waits ends the run in order, before anything else that has arrived."""
    program.submit()
    program.scheduler.on_start(
        lambda: asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT),
    )
    with pytest.raises(KeyboardInterrupt):
        program.scheduler.run()
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]
    program.check_books()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_raised_right_through_the_loop(program: Program, error: BaseException) -> None:
    """An exception from the user's own signal handler in the loop is held until the run has ended in order."""

    def raise_it() -> None:
        raise error

    program.submit()
    program.scheduler.on_start(lambda: asyncio.get_running_loop().call_soon(raise_it))
    with pytest.raises(type(error)) as info:
        program.scheduler.run()
    assert info.value is error
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]


@pytest.mark.parametrize("second", ["in a callback", "between callbacks"])
def test_second_ctrl_c_does_not_wait_for_the_executor(second: str) -> None:
    """Ctrl-C while the executor is slow to be killed takes effect: the run ends without it."""
    go_on = threading.Event()

    def kill(_executor: Any) -> None:
        assert go_on.wait(GUARD)

    program = Program(terminate=kill)
    program.submit()
    program.at(0, program.executor.start, 0)
    program.at(0.01, signal.raise_signal, signal.SIGINT)
    if second == "in a callback":
        program.at(0.05, signal.raise_signal, signal.SIGINT)
    else:
        program.at(0.05, lambda: asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt):
            program.scheduler.run()
    finally:
        go_on.set()
    assert program.trace == ["start", *SUBMITTED, "stop", "finishing", *CANCELLED, "finished"]
    program.check_books()


# ------------------------------------------------------------------------------------------------------ the plain run()


def test_run_in_real_time(program: Program) -> None:
    """`run()` gives the same order as `async_run()`."""
    program.submit()
    program.at(0, program.executor.finish, 0)
    assert program.scheduler.run() == ExitState(Code.EXHAUSTED)
    assert program.trace == ["start", *SUBMITTED, *RESULT, "empty", *ENDED]


def test_sequential_run() -> None:
    """The sequential executor computes after `submit` has returned: its events come in the usual order."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(work)
    recorder = EventRecorder(scheduler, task)
    scheduler.on_start(lambda: task.submit(), repeat=2)
    assert scheduler.run() == ExitState(Code.EXHAUSTED)
    assert recorder.names == ["start", *SUBMITTED * 2, *RESULT * 2, "empty", *ENDED]


def test_sequential_run_that_is_stopped_without_waiting() -> None:
    """After the stop the sequential executor makes no further call; waiting calls are cancelled."""
    scheduler = Scheduler.with_sequential()
    called: list[int] = []

    def work(number: int) -> None:
        called.append(number)

    task = scheduler.task(work)
    recorder = EventRecorder(scheduler, task)
    scheduler.on_start(lambda: [task.submit(n) for n in range(3)])
    task.on_result(scheduler.stop)
    assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
    assert called == [0]
    assert recorder.names == ["start", *SUBMITTED * 3, *RESULT, "stop", "finishing", *CANCELLED * 2, "finished"]
