"""On every executor, a cancelled future is done at once, counts as cancelled, and frees its slot."""

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import FutureCancelledError
from amltk.scheduling import ExitState, Limiter
from amltk.testing import EventRecorder
from tests.contract import work
from tests.helpers.gate import GUARD, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities
    from tests.helpers.gate import Gate

AHEAD = 10
"""More calls than any executor dequeues before they can start."""


def test_pending_work_never_starts(make: Callable[..., Scheduler], gate: Gate, tmp_path: Path) -> None:
    """A future that is cancelled while waiting has its event while others run, and its function is never called."""
    scheduler = make(workers=1)
    cancelled: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        for _ in range(AHEAD):
            scheduler.submit(pass_gate, gate.address)
        late = scheduler.submit(work.touch, tmp_path / "started")
        assert late.cancel()
        assert late.cancelled()
        assert not late.cancel()

    @scheduler.on_future_cancelled
    def go_on(future: asyncio.Future[Any]) -> None:
        cancelled.append(future.cancelled())
        gate.open()

    gate.when_begun(1, gate.open if scheduler.executor_kind.capabilities.in_loop else lambda: None)
    assert scheduler.run(on_cancelled="continue").code is ExitState.Code.EXHAUSTED
    assert cancelled == [True]
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == AHEAD
    assert not (tmp_path / "started").exists()


def test_running_work_is_ended_as_claimed(
    make: Callable[..., Scheduler], gate: Gate, capabilities: Capabilities
) -> None:
    """Cancelling running work delivers one event at once; the work is killed if that is claimed, or else runs on."""
    scheduler = make(workers=1)
    recorder = EventRecorder(scheduler)
    futures: queue.Queue[asyncio.Future[Any]] = queue.Queue()
    alive: list[int] = []
    scheduler.on_start(lambda: futures.put(scheduler.submit(pass_gate, gate.address)))

    def cancel_from_the_thread_of_the_gate() -> None:
        assert futures.get(timeout=GUARD).cancel()
        if capabilities.in_loop:
            gate.open()

    gate.when_begun(1, cancel_from_the_thread_of_the_gate)

    @scheduler.on_future_cancelled
    def look(_: Any) -> None:
        scheduler.submit(work.double, 1)
        if capabilities.cancels_running or capabilities.in_loop:
            gate.wait_gone()
        alive.append(gate.present)
        gate.open()

    assert scheduler.run(on_cancelled="continue").code is ExitState.Code.EXHAUSTED
    assert alive == [0 if capabilities.cancels_running or capabilities.in_loop else 1]
    assert recorder.names == [
        *("start", "future-submitted", "future-cancelled", "future-submitted", "future-done", "future-result"),
        *("empty", "finishing", "finished"),
    ]


@pytest.mark.parametrize("policy", ["raise", "end", "continue"])
def test_a_cancellation_ends_the_run_as_the_policy_says(scheduler: Scheduler, policy: Any) -> None:
    """`on_cancelled` decides what a cancellation by the user does to the run."""
    scheduler.on_start(lambda: scheduler.submit(work.double, 1).cancel())
    if policy == "raise":
        with pytest.raises(FutureCancelledError, match="double"):
            scheduler.run()
        return
    code = scheduler.run(on_cancelled=policy).code
    assert code is (ExitState.Code.CANCELLED if policy == "end" else ExitState.Code.EXHAUSTED)


def test_a_cancelled_future_frees_its_place(scheduler: Scheduler) -> None:
    """After the event the future is no longer pending: a task limited to one call at a time can take the next one."""
    task = scheduler.task(work.double, plugins=Limiter(max_concurrent=1))
    results: list[int] = []

    @scheduler.on_start
    def launch() -> None:
        future = task.submit(1)
        assert future is not None
        assert task.submit(2) is None
        future.cancel()

    @task.on_cancelled
    def next_one(future: asyncio.Future[int]) -> None:
        assert task.queue == scheduler.queue == []
        assert task.n_running == 0
        assert not task.running()
        assert task.submit(21) is not None

    task.on_result(lambda _, result: results.append(result))
    assert scheduler.run(on_cancelled="continue").code is ExitState.Code.EXHAUSTED
    assert results == [42]


def test_what_has_ended_cannot_be_cancelled(scheduler: Scheduler) -> None:
    """Cancelling a future that already has its result changes nothing and returns False."""
    answers: list[bool] = []
    scheduler.on_start(lambda: scheduler.submit(work.double, 1))
    scheduler.on_future_done(lambda future: answers.append(future.cancel()))
    assert scheduler.run() == ExitState(ExitState.Code.EXHAUSTED)
    assert answers == [False]


def test_an_awaiting_callback_is_told(scheduler: Scheduler) -> None:
    """An `async def` callback that awaits a future gets asyncio's own error when it is cancelled."""
    seen: list[str] = []

    @scheduler.on_start
    async def launch() -> None:
        future = scheduler.submit(work.double, 1)
        future.cancel()
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")

    assert scheduler.run(on_cancelled="continue").code is ExitState.Code.EXHAUSTED
    assert seen == ["cancelled"]
