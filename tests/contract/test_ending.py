"""On every executor, a run ends in order, for the reason it reports, and leaves nothing behind.

A fixture of all tests counts threads, processes, handlers and file descriptors around each one.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState
from amltk.testing import EventRecorder
from tests import leaks
from tests.contract import work
from tests.helpers.gate import GUARD, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities
    from tests.contract.backends import ExecutorAdapter
    from tests.helpers.gate import Gate

Code = ExitState.Code


def children() -> frozenset[int]:
    """The child processes of this one, except shared ones and helpers that serve it until it exits."""
    return leaks.Holdings.now().children


# ------------------------------------------------------------------------------------------------------ exit states


def test_exhausted(scheduler: Scheduler) -> None:
    """A run with no work left is exhausted."""
    scheduler.on_start(lambda: scheduler.submit(work.double, 1))
    assert scheduler.run() == ExitState(Code.EXHAUSTED)


def test_stopped(scheduler: Scheduler) -> None:
    """A stopped run reports that and delivers the message; the first stop counts."""
    told: list[Any] = []
    scheduler.on_start(lambda: (scheduler.stop(stop_msg="first"), scheduler.stop(stop_msg="second")))
    scheduler.on_stop(lambda *args: told.append(args))
    assert scheduler.run() == ExitState(Code.STOPPED)
    assert told == [("first", None)]


def test_timed_out(scheduler: Scheduler) -> None:
    """A run that times out reports that, even if its callbacks never stop submitting."""
    scheduler.on_start(lambda: scheduler.submit(work.double, 1))

    @scheduler.on_future_done
    def again(_: Any) -> None:
        if scheduler.running():
            scheduler.submit(work.double, 1)

    assert scheduler.run(timeout=0.2) == ExitState(Code.TIMEOUT)
    assert scheduler.event_counts[scheduler.TIMEOUT] == 1


def test_failed(make: Callable[..., Scheduler]) -> None:
    """The exception that ends a run is in the exit state or raised; the policy decides by type."""
    for policy in ("end", {ValueError: "end"}, {KeyError: "raise", Exception: "end"}):
        scheduler = make()
        scheduler.on_start(lambda scheduler=scheduler: scheduler.submit(work.raise_it, ValueError("diverged")))
        state = scheduler.run(on_exception=policy)
        assert state.code is Code.EXCEPTION
        assert repr(state.exception) == "ValueError('diverged')"
    for policy in ("raise", {KeyError: "continue"}, {ValueError: "raise", Exception: "continue"}):
        scheduler = make()
        scheduler.on_start(lambda scheduler=scheduler: scheduler.submit(work.raise_it, ValueError("diverged")))
        with pytest.raises(ValueError, match="diverged"):
            scheduler.run(on_exception=policy)


def test_stopped_with_an_exception(scheduler: Scheduler) -> None:
    """Stopping with an exception fails the run with it."""
    error = LookupError("no more data")
    scheduler.on_start(lambda: scheduler.stop(exception=error))
    assert scheduler.run(on_exception="end") == ExitState(Code.EXCEPTION, error)


# --------------------------------------------------------------------------------------------------- without waiting


def stop_soon(scheduler: Scheduler) -> None:
    """Stop the run from another thread, but not in the middle of the callback that submits."""
    if scheduler.executor_kind.capabilities.in_loop:
        scheduler.stop()
    else:
        scheduler.call_later(0, scheduler.stop)


def end_without_waiting(
    scheduler: Scheduler,
    gate: Gate,
    capabilities: Capabilities,
    asked: Callable[[], Any],
    backlog: int = 0,
    **options: Any,
) -> ExitState:
    """Run work that never returns; end the run while it is running; only what cannot be killed is let go."""
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(backlog)])

    def when_begun() -> None:
        asked()
        if capabilities.in_loop:
            gate.open()  # the loop itself is blocked there

    gate.when_begun(1, when_begun)
    state = scheduler.run(wait=False, **options)
    if capabilities.kills_running or capabilities.in_loop:
        gate.wait_gone()
    else:
        assert gate.present == len(gate.pids) <= 2  # every call that arrived is still there
    return state


def test_a_stop_without_waiting(make: Callable[..., Scheduler], gate: Gate, capabilities: Capabilities) -> None:
    """With `wait=False` a stop ends running work where possible, and never waits for it."""
    before = children()
    scheduler = make()
    recorder = EventRecorder(scheduler)
    state = end_without_waiting(scheduler, gate, capabilities, lambda: stop_soon(scheduler))
    assert state == ExitState(Code.STOPPED)
    assert children() <= before or not (capabilities.kills_running or capabilities.in_process)
    assert recorder.names[:4] == ["start", "future-submitted", "stop", "finishing"]
    assert recorder.names[-1] == "finished"
    if not capabilities.in_loop:
        assert recorder.names[4:-1] == ["future-cancelled"]  # whether it was killed or abandoned


def test_a_timeout_without_waiting(scheduler: Scheduler, gate: Gate, capabilities: Capabilities) -> None:
    """With `wait=False` the timeout ends running work as well; the backlog is cancelled and never starts."""
    before = children()
    state = end_without_waiting(scheduler, gate, capabilities, lambda: None, backlog=50, timeout=1.0)
    assert children() <= before or not (capabilities.kills_running or capabilities.in_process)
    if capabilities.in_loop:
        assert state.code in {Code.TIMEOUT, Code.EXHAUSTED}
        return
    assert state == ExitState(Code.TIMEOUT)
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 51


def test_no_policy_applies_to_what_the_end_itself_cancels(
    make: Callable[..., Scheduler], gate: Gate, capabilities: Capabilities
) -> None:
    """Calls that the closing run kills and cancels do not turn a stop into an exception or a cancellation."""
    scheduler = make()
    scheduler.on_start(lambda: [scheduler.submit(work.double, 1) for _ in range(100)])
    state = end_without_waiting(
        scheduler, gate, capabilities, scheduler.stop, on_exception="raise", on_cancelled="raise"
    )
    assert state == ExitState(Code.STOPPED)


# --------------------------------------------------------------------------------------------------------- draining


def test_running_work_is_waited_for(scheduler: Scheduler, gate: Gate, capabilities: Capabilities) -> None:
    """With `wait=True` running work completes after the stop while the loop runs, delivered before `@finished`."""
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address, "late"))
    gate.when_begun(1, lambda: (stop_soon(scheduler), gate.open() if capabilities.in_loop else None))

    async def main() -> ExitState:
        finishing = asyncio.Event()
        scheduler.on_finishing(finishing.set)
        run = asyncio.create_task(scheduler.async_run())
        await finishing.wait()
        for _ in range(100):  # the loop turns while the run waits
            await asyncio.sleep(0)
        assert capabilities.in_loop or not run.done()
        gate.open()
        return await run

    assert asyncio.run(main()) == ExitState(Code.STOPPED)
    assert recorder.names == [
        *("start", "future-submitted", "stop", "finishing"),
        *("future-done", "future-result", "finished"),
    ]


def test_the_backlog_is_computed_to_its_end(scheduler: Scheduler, gate: Gate) -> None:
    """With `wait=True` everything accepted before the stop is computed and delivered before the run returns."""
    results: list[int] = []
    scheduler.on_start(lambda: [scheduler.submit(work.double, n) for n in range(100)])
    scheduler.on_future_result(lambda *_: scheduler.stop(), max_calls=1)
    scheduler.on_future_result(lambda _, result: results.append(result))
    told: list[int] = []
    scheduler.on_finished(lambda: told.append(len(results)))
    assert scheduler.run() == ExitState(Code.STOPPED)
    assert sorted(results) == list(range(0, 200, 2))
    assert told == [100]


# --------------------------------------------------------------------------------------------------------- afterwards


def test_the_executor_is_shut_down(backend: ExecutorAdapter, make: Callable[..., Scheduler]) -> None:
    """After a run its executor accepts no more work, and its workers have exited."""
    scheduler = make()
    before = children()
    scheduler.on_start(lambda: scheduler.submit(work.double, 1))
    scheduler.run()
    with pytest.raises(RuntimeError):
        scheduler.executor.submit(work.double, 1)
    assert children() <= before


def test_a_failing_start_leaves_nothing(make: Callable[..., Scheduler]) -> None:
    """A `@start` callback that raises ends the run in order; what it submitted ends as well."""
    scheduler = make()
    recorder = EventRecorder(scheduler)

    @scheduler.on_start
    def launch() -> None:
        scheduler.call_later(GUARD, os.abort)
        scheduler.submit(work.double, 1)
        raise LookupError("no data")

    with pytest.raises(LookupError, match="no data") as caught:
        scheduler.run(timeout=GUARD)
    assert any("launch" in note for note in caught.value.__notes__)
    assert sorted(recorder.names) == sorted(
        ["start", "future-submitted", "future-done", "future-result", "stop", "finishing", "finished"]
        + (["empty"] if "empty" in recorder.names else [])
    )


@pytest.mark.parametrize("wait", [True, False])
def test_a_cancelled_async_run_ends_in_order(make: Callable[..., Scheduler], gate: Gate, wait: bool) -> None:
    """Cancelling the task that awaits a run ends the run in order without waiting; the task can go on afterwards."""
    scheduler = make()
    recorder = EventRecorder(scheduler)
    in_loop = scheduler.executor_kind.capabilities.in_loop

    async def main() -> None:
        run = asyncio.create_task(scheduler.async_run(wait=wait))
        loop = asyncio.get_running_loop()
        gate.when_begun(1, lambda: (loop.call_soon_threadsafe(run.cancel), gate.open() if in_loop else None))
        scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(10)])
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert recorder.names[-1] == "finished"
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] > 0
