"""A timeout that counts from the first worker on, in one run and over the sessions of a journal."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.display.progress import Observer
from amltk.journal import Kind, Reader
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors import registry
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Code = ExitState.Code

QUEUE_SECONDS = 100.0
"""How long the first worker waits in the queue."""


class LateExecutor(SimulatedExecutor):
    """Its first worker comes after some time in a queue; a call takes a second from then on."""

    def __init__(self, queue_seconds: float) -> None:
        super().__init__(1, duration=self._seconds_of, outcome=lambda fn, *args: fn(*args))
        self._queue_seconds = queue_seconds
        self._is_up = False

    def _seconds_of(self, *_: Any) -> float:
        waits, self._is_up = (0.0 if self._is_up else self._queue_seconds), True
        return waits + 1.0

    def when_up(self, fn: Callable[[], object] | None) -> None:
        if fn is not None:
            asyncio.get_running_loop().call_later(self._queue_seconds, fn)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of executors that the registry does not know, the workers come later."""
    monkeypatch.setattr(registry, "OTHER", late())


def late(*, later: bool = True) -> registry.ExecutorSpec:
    capabilities = replace(registry.OTHER.capabilities, workers_come_later=later)
    return replace(registry.OTHER, capabilities=capabilities)


def work(number: int) -> int:
    return number


class Search:
    """Calls one after the other, without end."""

    def __init__(self, folder: Path | None = None, queue_seconds: float = QUEUE_SECONDS) -> None:
        self.folder = folder
        self.scheduler = Scheduler(LateExecutor(queue_seconds))
        self.task = self.scheduler.task(work)
        self.results: list[int] = []
        self.left: list[float] = []  # until the timeout
        self.ended_after = 0.0
        self.scheduler.on_start(self.begin)
        self.task.on_result(self.go_on)
        self.scheduler.on_finishing(self.end)

    def begin(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self.left.append(self.scheduler.current_run.time_left())
        self.task.submit(0)

    def go_on(self, _: Any, result: int) -> None:
        self.results.append(result)
        self.left.append(self.scheduler.current_run.time_left())
        if self.scheduler.running():
            self.task.submit(result + 1)

    def end(self) -> None:
        self.ended_after = asyncio.get_running_loop().time() - self._began

    def run(self, timeout: float, timeout_from: Any = "first-worker", **options: Any) -> ExitState:
        run = self.scheduler.async_run(
            timeout=timeout, timeout_from=timeout_from, wait=False, journal=self.folder, display=False, **options
        )
        return run_in_virtual_time(run)


def cut_behind(folder: Path, kind: Kind, n: int = 1) -> None:
    """Truncate a journal as if its process had been killed after the n-th record of this kind."""
    found = [record for record in Reader(folder).records() if record.kind == kind]
    with open(folder / "journal.log", "r+b") as log:
        log.truncate(found[n - 1].end)


# ---------------------------------------------------------------------------------------------------------- one run


def test_the_time_in_the_queue_does_not_count() -> None:
    """The run ends that long after its first worker was up, and until then all of its time is left."""
    search = Search()
    assert search.run(3.5).code is Code.TIMEOUT
    assert search.results == [0, 1, 2]
    assert search.left == pytest.approx([3.5, 2.5, 1.5, 0.5])
    assert search.ended_after == pytest.approx(QUEUE_SECONDS + 3.5)


def test_by_default_it_counts() -> None:
    """A timeout counts from @start, whether there are workers or not."""
    search = Search()
    assert search.run(3.5, "start").code is Code.TIMEOUT
    assert search.results == []
    assert search.ended_after == pytest.approx(3.5)


def test_it_is_the_same_where_workers_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where workers do not come later, it counts from @start."""
    monkeypatch.setattr(registry, "OTHER", late(later=False))
    search = Search(queue_seconds=0.0)
    assert search.run(3.5).code is Code.TIMEOUT
    assert search.results == [0, 1, 2]
    assert search.ended_after == pytest.approx(3.5)


def test_the_display_shows_all_of_the_time_until_it_counts() -> None:
    """What has passed before the first worker is left out of the time until the timeout."""
    search, now = Search(), [0.0]
    observer = Observer(search.scheduler, 3.5, lambda: now[0])
    seen: list[float] = []

    def look() -> None:
        now[0] = asyncio.get_running_loop().time()
        told = observer.observe()
        seen.append(told.elapsed - told.uncounted)

    for at in (50.0, 100.0 - 1 / 1024, 102.0):
        search.scheduler.on_start(partial(search.scheduler.call_later, at, look))
    search.run(3.5)
    assert seen == pytest.approx([0.0, 0.0, 2.0], abs=0.01)


def test_without_a_timeout_nothing_counts() -> None:
    """The option alone changes nothing."""
    scheduler = Scheduler(LateExecutor(QUEUE_SECONDS))
    scheduler.on_start(lambda: scheduler.submit(work, 1))
    assert run_in_virtual_time(scheduler.async_run(timeout_from="first-worker")).code is Code.EXHAUSTED


@pytest.mark.parametrize("given", ["first_worker", "worker", "", None, 1, ["start"]])
def test_anything_else_is_refused(given: Any) -> None:
    """The error shows the value, and what is allowed, wherever a timeout can be given."""
    scheduler = Scheduler.with_sequential()
    words = r"timeout_from=.*: must be one of 'start', 'first-worker'"
    with pytest.raises(ValueError, match=words):
        scheduler.run(timeout_from=given)
    with pytest.raises(ValueError, match=words):
        run_in_virtual_time(scheduler.async_run(timeout_from=given))
    with pytest.raises(ValueError, match=words):
        scheduler.task(work).map([1]).results(timeout_from=given)


def test_a_loop_over_results_takes_it_too() -> None:
    """`results` passes it on to its run."""
    scheduler = Scheduler.with_sequential()
    calls = scheduler.task(work).map([1, 2]).results(timeout=60, timeout_from="first-worker")
    assert [call.result() for call in calls] == [1, 2]


# ------------------------------------------------------------------------------------------------------ several runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "search"


def test_each_session_has_its_own_queue(folder: Path) -> None:
    """Time that has counted stays counted; what sessions wait for their first workers counts in none of them."""
    first = Search(folder)
    assert first.run(3.5).code is Code.TIMEOUT
    cut_behind(folder, Kind.RESULT, 2)
    second = Search(folder)
    assert second.run(3.5).code is Code.TIMEOUT
    assert second.results == first.results
    assert second.left == pytest.approx([math.inf, math.inf, math.inf, 0.5])  # no time passes in a replay
    third = Search(folder)
    assert third.run(3.5).code is Code.TIMEOUT  # a finished journal tells the same again
    assert third.results == first.results
    fourth = Search(folder)
    fourth.run(5.75)
    assert fourth.results == [0, 1, 2, 3, 4]


def test_a_session_that_never_had_a_worker_has_used_nothing(folder: Path) -> None:
    """A program that is killed while its jobs wait has all of its time left."""
    Search(folder, queue_seconds=1000.0).run(3.5)
    kinds = [record.kind for record in Reader(folder).records()]
    assert kinds.index(Kind.ALIVE) < kinds.index(Kind.WORKER)
    cut_behind(folder, Kind.ALIVE, 5)
    second = Search(folder)
    assert second.run(3.5).code is Code.TIMEOUT
    assert second.results == [0, 1, 2]


def test_sessions_may_count_in_different_ways(folder: Path) -> None:
    """The time of each session has counted as that session was told."""
    Search(folder, queue_seconds=0.0).run(100, "start")
    cut_behind(folder, Kind.RESULT, 2)
    second = Search(folder)
    assert second.run(3.5).code is Code.TIMEOUT
    assert second.results == [0, 1, 2]
    cut_behind(folder, Kind.RESULT, 3)
    third = Search(folder)
    assert third.run(50, "start").code is Code.TIMEOUT  # within the queue
    assert third.results == [0, 1, 2]


def test_no_worker_is_awaited_when_the_time_is_used_up(folder: Path) -> None:
    """A program that has no time left does not wait in the queue to find that out."""
    Search(folder).run(100)
    cut_behind(folder, Kind.RESULT, 5)
    second = Search(folder)
    assert second.run(3).code is Code.TIMEOUT
    times = [record.time for record in Reader(folder).records()]
    sessions = [record.time for record in Reader(folder).records() if record.kind == Kind.SESSION]
    assert times[-1] - sessions[-1] < 1


def test_a_callback_that_notices_the_timeout_notices_it_again(folder: Path) -> None:
    """What a callback has found at a check of `running()` is found at the same check in a replay."""

    def search() -> tuple[Search, list[int]]:
        made, asked = Search(folder), []

        @made.task.on_result
        def busy(*_: Any) -> None:
            n = 0
            while made.scheduler.running():
                n += 1
                if not made.scheduler.replaying and n == 4:
                    made.scheduler.executor._loop._virtual.now += 10  # type: ignore[attr-defined]  # takes long
            asked.append(n)

        return made, asked

    first, asked = search()
    assert first.run(5).code is Code.TIMEOUT
    second, asked_again = search()
    assert second.run(5).code is Code.TIMEOUT
    assert asked == asked_again == [4]
