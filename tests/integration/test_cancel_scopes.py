"""Runs inside anyio cancel scopes, which cancel a task on every turn of the loop until it has left them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from amltk.scheduling import ExitState, Scheduler
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD, Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Within = Callable[[Callable[[], Awaitable[Any]], anyio.Event], Coroutine[Any, Any, None]]

MAKERS = {"processes": Scheduler.with_processes, "threads": Scheduler.with_threads}


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts its turns: a loop that never waits makes a hundred thousand of them in a second."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]


def run_counting(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run `main` as anyio does, and return how many turns the loop made."""
    loops: list[CountingLoop] = []

    def make_loop() -> CountingLoop:
        loops.append(CountingLoop())
        return loops[0]

    anyio.run(main, backend_options={"loop_factory": make_loop})
    return loops[0].turns


async def in_a_scope(run: Callable[[], Awaitable[Any]], begun: anyio.Event) -> None:
    """Cancel a scope around the run."""
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await begun.wait()
            scope.cancel()

        watcher = asyncio.ensure_future(cancel())
        await run()
    assert scope.cancelled_caught
    await watcher


async def in_a_task_group(run: Callable[[], Awaitable[Any]], begun: anyio.Event) -> None:
    """Cancel the task group that the run belongs to."""
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await begun.wait()
        group.cancel_scope.cancel()


async def in_nested_scopes(run: Callable[[], Awaitable[Any]], begun: anyio.Event) -> None:
    """Cancel the outer of two scopes, and then the inner one as well."""
    with anyio.CancelScope() as outer, anyio.CancelScope() as inner:

        async def cancel() -> None:
            await begun.wait()
            outer.cancel()
            inner.cancel()

        watcher = asyncio.ensure_future(cancel())
        await run()
    await watcher


SCOPES = [in_a_scope, in_a_task_group, in_nested_scopes]


@pytest.mark.parametrize("within", SCOPES, ids=lambda within: within.__name__)
@pytest.mark.parametrize("how", MAKERS)
def test_a_cancelled_scope_ends_the_run_in_order(how: str, within: Within, gate: Gate) -> None:
    """However often anyio cancels, it is one interruption: every call gets its ending, every event its callbacks."""
    scheduler = MAKERS[how](2)
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(5)])

    async def main() -> None:
        begun = anyio.Event()
        loop = asyncio.get_running_loop()
        gate.when_begun(2, lambda: loop.call_soon_threadsafe(begun.set))
        with anyio.fail_after(GUARD):
            await within(scheduler.async_run, begun)

    anyio.run(main)
    assert recorder.names[:6] == ["start", *["future-submitted"] * 5]
    assert recorder.names[6:8] == ["stop", "finishing"]
    assert recorder.names[8:] == [*["future-cancelled"] * 5, "finished"]


@pytest.mark.parametrize("within", SCOPES, ids=lambda within: within.__name__)
def test_the_loop_is_idle_while_the_run_ends(within: Within) -> None:
    """While an executor takes its time to terminate, the loop stays idle."""
    ended: list[float] = []

    def take_time(_: Any) -> None:
        time.sleep(0.3)  # this is what takes long; nothing waits for a state
        ended.append(1)

    scheduler = Scheduler.with_threads(1, terminate=take_time)
    scheduler.on_finished(lambda: ended.append(2))

    async def main() -> None:
        begun = anyio.Event()
        scheduler.on_start(begun.set)
        await within(lambda: scheduler.async_run(end_on_empty=False), begun)

    assert run_counting(main) < 500
    assert ended == [1, 2]
    scheduler.executor.shutdown()


def test_a_scope_that_is_cancelled_before(gate: Gate) -> None:
    """A run that begins within a cancelled scope ends in order; what its `@start` submits is cancelled."""
    scheduler = Scheduler.with_processes(1)
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: scheduler.running() and scheduler.submit(pass_gate, gate.address))

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await scheduler.async_run()

    anyio.run(main)
    assert recorder.names[0] == "start"
    assert recorder.names[-1] == "finished"
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 0


def test_a_cancellation_of_asyncio_still_insists() -> None:
    """A second `task.cancel()` still gets through: the run stops waiting for a termination that hangs."""
    hangs = threading.Event()
    scheduler = Scheduler.with_threads(1, terminate=lambda _: hangs.wait(GUARD))

    async def main() -> None:
        begun, finishing = asyncio.Event(), asyncio.Event()
        scheduler.on_start(begun.set)
        scheduler.on_finishing(finishing.set)
        run = asyncio.create_task(in_own_scope(scheduler))
        await begun.wait()
        run.cancel()
        await finishing.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    try:
        asyncio.run(main())
    finally:
        hangs.set()
    scheduler.executor.shutdown()


async def in_own_scope(scheduler: Scheduler) -> ExitState:
    with anyio.CancelScope():
        return await scheduler.async_run(end_on_empty=False)


def test_level_cancellation_without_anyio() -> None:
    """The run ends even if the awaiting task is cancelled on every turn of the loop."""
    scheduler = Scheduler.with_threads(1)
    recorder = EventRecorder(scheduler)

    async def main() -> None:
        begun = asyncio.Event()
        scheduler.on_start(begun.set)
        run = asyncio.create_task(scheduler.async_run(end_on_empty=False))
        await begun.wait()
        async with asyncio.timeout(GUARD):
            while not run.done():
                run.cancel()
                await asyncio.sleep(0)
        assert run.cancelled()

    asyncio.run(main())
    assert recorder.names[0] == "start"
    assert not scheduler.running()
    assert scheduler.empty()


@pytest.fixture
def gate() -> Any:
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate
