"""On every executor, events come in the same order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState
from amltk.testing import EventRecorder
from tests.contract import work
from tests.contract.backends import BACKENDS
from tests.helpers.gate import pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Scheduler
    from tests.helpers.gate import Gate

CREATED = ["start", "future-submitted", "double:submitted"]


def record(scheduler: Scheduler, *calls: Any) -> tuple[Any, EventRecorder]:
    """A scheduler with a task, and a recorder of both; the task is submitted once for each item of `calls`."""
    task = scheduler.task(work.double)
    recorder = EventRecorder(scheduler, task)
    scheduler.on_start(lambda: [task.submit(call) for call in calls])
    return task, recorder


def test_one_result(scheduler: Scheduler) -> None:
    """The trace of a run with one result: the scheduler's events of a future come before the task's."""
    _, recorder = record(scheduler, 1)
    scheduler.run()
    assert recorder.names == [
        *CREATED,
        *("future-done", "future-result", "double:done", "double:result"),
        *("empty", "finishing", "finished"),
    ]


def test_one_exception(scheduler: Scheduler) -> None:
    """The trace of a run ended by an exception: `@empty` still comes when nothing is pending."""
    _, recorder = record(scheduler, None)
    assert scheduler.run(on_exception="end").code is ExitState.Code.EXCEPTION
    assert recorder.names == [
        *CREATED,
        *("future-done", "future-exception", "double:done", "double:exception"),
        *("empty", "stop", "finishing", "finished"),
    ]


def test_one_exception_that_is_passed_over(scheduler: Scheduler) -> None:
    """The trace of a run that continues after an exception."""
    _, recorder = record(scheduler, None)
    assert scheduler.run(on_exception="continue").code is ExitState.Code.EXHAUSTED
    assert recorder.names == [
        *CREATED,
        *("future-done", "future-exception", "double:done", "double:exception"),
        *("empty", "finishing", "finished"),
    ]


def test_one_cancellation(scheduler: Scheduler) -> None:
    """The trace of a run whose only future is cancelled before it can start."""
    task, recorder = record(scheduler)

    @scheduler.on_start
    def launch() -> None:
        task.submit(1).cancel()

    assert scheduler.run(on_cancelled="continue").code is ExitState.Code.EXHAUSTED
    assert recorder.names == [*CREATED, "future-cancelled", "double:cancelled", "empty", "finishing", "finished"]


def test_a_stop_with_work_pending(scheduler: Scheduler, gate: Gate) -> None:
    """The end is announced at once, pending work then ends with its events, and `@finished` is last."""
    task = scheduler.task(pass_gate)
    recorder = EventRecorder(scheduler, task)
    scheduler.on_start(lambda: task.submit(gate.address))
    task.on_submitted(scheduler.stop)
    scheduler.on_finishing(gate.open)
    assert scheduler.run().code is ExitState.Code.STOPPED
    assert recorder.names == [
        *("start", "future-submitted", "pass_gate:submitted", "stop", "finishing"),
        *("future-done", "future-result", "pass_gate:done", "pass_gate:result"),
        "finished",
    ]


def test_nothing_to_do(scheduler: Scheduler) -> None:
    """The trace of a run without submissions."""
    _, recorder = record(scheduler)
    assert scheduler.run() == ExitState(ExitState.Code.EXHAUSTED)
    assert recorder.names == ["start", "empty", "finishing", "finished"]


def test_the_events_of_each_of_many_futures_are_in_order(scheduler: Scheduler) -> None:
    """However computations overlap, each future has its six events in order, with no events of another in between."""
    _, recorder = record(scheduler, *range(100))
    scheduler.run()
    by_future: dict[asyncio.Future[int], list[str]] = {}
    for entry in recorder.records[1:-3]:
        by_future.setdefault(entry.args[0], []).append(entry.name)
    ending = ["future-done", "future-result", "double:done", "double:result"]
    assert list(by_future.values()) == [["future-submitted", "double:submitted", *ending]] * 100
    endings = [name for name in recorder.names[1:-3] if name in ending]
    assert endings == ending * 100
    assert recorder.names[-3:] == ["empty", "finishing", "finished"]
    assert sorted(future.result() for future in by_future) == list(range(0, 200, 2))


def test_callbacks_are_called_on_one_thread_one_at_a_time(scheduler: Scheduler) -> None:
    """Callbacks run on the loop's thread, one at a time."""
    here = work.where()
    places: list[tuple[int, int]] = []
    depths: list[int] = []
    depth = 0
    task = scheduler.task(work.double)

    def note(*_: Any) -> None:
        nonlocal depth
        depth += 1
        depths.append(depth)
        places.append(work.where())
        if len(places) < 200 and scheduler.running():
            task.submit(1)
        depth -= 1

    for event in (*scheduler.emitter.events, *task.events):
        owner = task if event in task.events else scheduler.emitter
        owner.register(event, note)
    scheduler.run()
    assert set(places) == {here}
    assert set(depths) == {1}


def test_a_callback_may_await_the_next_result(scheduler: Scheduler) -> None:
    """An `async def` callback is part of the run: `@finished` comes after it has ended."""
    recorder = EventRecorder(scheduler)
    seen: list[Any] = []

    @scheduler.on_start
    async def launch() -> None:
        first = await scheduler.submit(work.double, 1)
        seen.append(first)
        seen.append(await scheduler.submit(work.double, first))
        with pytest.raises(TypeError):
            await scheduler.submit(work.double, None)

    assert scheduler.run(on_exception="continue").code is ExitState.Code.EXHAUSTED
    assert seen == [2, 4]
    one = ["future-submitted", "future-done", "future-result"]
    failed = ["future-submitted", "future-done", "future-exception"]
    assert recorder.names == ["start", *one, *one, *failed, "empty", "finishing", "finished"]


def test_a_failing_callback_takes_no_event_away(scheduler: Scheduler) -> None:
    """A callback of `@future-done` that raises suppresses neither the callbacks after it nor the events that follow."""
    reached: list[str] = []
    _, recorder = record(scheduler, 1)

    @scheduler.on_future_done
    def fail(_: Any) -> None:
        raise LookupError("callback")

    scheduler.on_future_done(lambda _: reached.append("next callback"))
    with pytest.raises(LookupError, match="callback"):
        scheduler.run()
    assert reached == ["next callback"]
    assert recorder.names == [
        *CREATED,
        *("future-done", "future-result", "double:done", "double:result"),
        *("empty", "stop", "finishing", "finished"),
    ]


def test_an_outcome_is_told_before_the_loop_itself_computes_the_next() -> None:
    """Where calls run on the loop's own thread, each outcome is delivered before the next call starts."""
    for backend in BACKENDS:
        if backend.capabilities.in_loop:
            scheduler = backend.make()
            order: list[str] = []
            scheduler.on_start(lambda s=scheduler, order=order: [s.submit(order.append, f"call {n}") for n in range(3)])
            scheduler.on_future_result(lambda *_, order=order: order.append("told"))
            scheduler.run()
            assert order == ["call 0", "told", "call 1", "told", "call 2", "told"]


def test_a_stop_without_waiting_is_heeded_before_the_next_call(make: Callable[..., Scheduler]) -> None:
    """If a callback stops the run after the first result, calls that have not started are dropped."""
    scheduler = make(workers=1)
    scheduler.on_start(lambda: [scheduler.submit(work.double, n) for n in range(100)])
    scheduler.on_future_result(lambda *_: scheduler.stop())
    assert scheduler.run(wait=False) == ExitState(ExitState.Code.STOPPED)
    computed = scheduler.event_counts[scheduler.FUTURE_RESULT]
    if scheduler.executor_kind.capabilities.in_loop:
        assert computed == 1
    assert (
        computed
        + scheduler.event_counts[scheduler.FUTURE_CANCELLED]
        + scheduler.event_counts[scheduler.FUTURE_EXCEPTION]
        == 100
    )
