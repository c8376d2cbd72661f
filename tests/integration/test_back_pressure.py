"""Many calls with few of them pending, on real processes: Task.map, wait_for_capacity, producers in threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING

import pytest

from amltk.exceptions import SchedulerNotRunningError
from amltk.scheduling import ExitState, Scheduler, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

Code = ExitState.Code

IN_FLIGHT = 5
CALLS = 150


class Watched:
    """A scheduler with two processes that records results and the peak number of pending submissions."""

    def __init__(self) -> None:
        self.scheduler = Scheduler.with_processes(2)
        self.task: Task[[int], int] = self.scheduler.task(abs)
        self.results: list[int] = []
        self.most_pending = 0
        self.scheduler.on_future_submitted(self._look)
        self.task.on_result(lambda _, result: self.results.append(result))

    def _look(self, _: object) -> None:
        self.most_pending = max(self.most_pending, self.scheduler.n_running)

    def stop_at(self, n: int) -> None:
        """Stop the run once it has this many results."""
        self.task.on_result(when=lambda: len(self.results) == n)(self.scheduler.stop)

    def assert_every_submission_has_ended(self) -> None:
        counts = self.scheduler.event_counts
        ends = (Scheduler.FUTURE_RESULT, Scheduler.FUTURE_EXCEPTION, Scheduler.FUTURE_CANCELLED)
        assert counts[Scheduler.FUTURE_SUBMITTED] == sum(counts[event] for event in ends)
        assert self.scheduler.n_running == 0


def test_map_with_callbacks_that_wait() -> None:
    """A map continues while `async def` callbacks await something, and the run waits for the last of them."""
    watched = Watched()
    handled: list[int] = []
    more = watched.scheduler.task(divmod)

    @watched.task.on_result
    async def handle(_: object, result: int) -> None:
        quotient, _rest = await more.submit(result, 10)
        handled.append(quotient)

    watched.task.map(range(CALLS), in_flight=IN_FLIGHT)
    assert watched.scheduler.run().code is Code.EXHAUSTED
    assert sorted(watched.results) == list(range(CALLS))
    assert sorted(handled) == sorted(n // 10 for n in range(CALLS))


def test_map_keeps_its_bound() -> None:
    """At most `in_flight` calls are pending while mapping an endless iterable, until the run is stopped."""
    watched = Watched()
    watched.stop_at(CALLS)
    task_map = watched.task.map(count(), in_flight=IN_FLIGHT)
    assert watched.scheduler.run().code is Code.STOPPED
    assert watched.most_pending == IN_FLIGHT
    assert CALLS <= len(watched.results) == task_map.n_taken < CALLS + IN_FLIGHT
    watched.assert_every_submission_has_ended()


def test_room_bounds_producers() -> None:
    """Two `async def` callbacks that wait for capacity never exceed their bound, and every call is computed."""
    watched = Watched()

    async def produce(items: Iterable[int]) -> None:
        for n in items:
            assert await watched.scheduler.wait_for_capacity(IN_FLIGHT)
            watched.task.submit(n)

    watched.scheduler.on_start(lambda: produce(range(0, CALLS, 2)))
    watched.scheduler.on_start(lambda: produce(range(1, CALLS, 2)))
    assert watched.scheduler.run().code is Code.EXHAUSTED
    assert sorted(watched.results) == list(range(CALLS))
    assert watched.most_pending == IN_FLIGHT


@pytest.mark.parametrize("wait", [True, False])
def test_room_when_the_run_is_stopped(wait: bool) -> None:
    """When the run stops, an endless producer is refused capacity or cancelled; every submission has an ending."""
    watched = Watched()
    watched.stop_at(CALLS)
    ended: list[str] = []

    @watched.scheduler.on_start
    async def produce() -> None:
        try:
            for n in count():
                if not await watched.scheduler.wait_for_capacity(IN_FLIGHT):
                    ended.append("told")
                    return
                watched.task.submit(n)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    assert watched.scheduler.run(wait=wait).code is Code.STOPPED
    assert ended == ["told"] if wait else ended in (["told"], ["cancelled"])
    assert watched.most_pending == IN_FLIGHT
    watched.assert_every_submission_has_ended()


@pytest.mark.parametrize("stopped", [False, True])
def test_producers_in_threads(stopped: bool) -> None:
    """A semaphore released at each ending bounds what threads submit; when the run ends, so do the threads."""
    watched = Watched()
    slots = threading.BoundedSemaphore(IN_FLIGHT)
    ended: list[str] = []

    @watched.scheduler.on_future_done
    @watched.scheduler.on_future_cancelled
    def release(_: object) -> None:
        slots.release()

    def produce(items: Iterable[int]) -> None:
        for n in items:
            slots.acquire()
            try:
                watched.task.submit(n)
            except SchedulerNotRunningError:
                slots.release()
                ended.append("refused")
                return
        ended.append("done")

    with ThreadPoolExecutor(2) as threads:

        @watched.scheduler.on_start
        async def run_producers() -> None:
            loop = asyncio.get_running_loop()
            parts = (count(0, 2), count(1, 2)) if stopped else (range(0, CALLS, 2), range(1, CALLS, 2))
            await asyncio.gather(*(loop.run_in_executor(threads, produce, part) for part in parts))

        if stopped:
            watched.stop_at(CALLS)
        state = watched.scheduler.run()
    assert watched.most_pending <= IN_FLIGHT
    watched.assert_every_submission_has_ended()
    if stopped:
        assert (state.code, ended) == (Code.STOPPED, ["refused"] * 2)
        assert sorted(watched.results) == sorted(set(watched.results))
    else:
        assert (state.code, ended) == (Code.EXHAUSTED, ["done"] * 2)
        assert sorted(watched.results) == list(range(CALLS))
