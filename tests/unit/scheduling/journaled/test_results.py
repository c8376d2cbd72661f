"""Loops over results in runs with a journal: the body gets the same calls again, and does the same."""

from __future__ import annotations

import asyncio
import operator
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.exceptions import JournalMismatchError, JournalUnsupportedError, SchedulerRunningError
from amltk.scheduling import Scheduler
from amltk.testing import crash_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPUTED: list[Any] = []


def square(x: float) -> float:
    COMPUTED.append(x)
    return x * x


class Search:
    """A search in a plain loop: its proposals depend on what the body has seen."""

    def __init__(
        self, folder: Path, *, trials: int = 8, in_flight: int = 3, ordered: bool = False, every: int = 3
    ) -> None:
        self.every = every
        self.scheduler = Scheduler.with_sequential()
        self.task = self.scheduler.task(square)
        self.stage = self.scheduler.task(operator.neg)
        self.told: list[Any] = []
        self.trials = trials
        self.stage.on_result(lambda future, result: self.told.append((future.number, result)))
        self.results = self.task.map(self.proposals(), in_flight=in_flight).results(
            journal=folder, display=False, ordered=ordered
        )

    def proposals(self) -> Iterator[float]:
        for n in range(self.trials):
            yield n + len(self.told) / 100 + self.scheduler.random.random() / 1e6

    def loop(self, *, leave_at: int = -1) -> list[Any]:
        for call in self.results:
            self.told.append((call.number, call.args, call.result()))
            if len(self.told) % self.every == 0:
                self.stage.submit(len(self.told))
            if len(self.told) == leave_at:
                break
        return self.told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    COMPUTED.clear()
    return tmp_path / "journal"


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_loop_survives_crashes(in_flight: int, ordered: bool) -> None:
    """Killed after any record, the loop gets the same calls in the same order, and proposes the same."""
    told = crash_everywhere(lambda folder: Search(folder, in_flight=in_flight, ordered=ordered).loop(), every=5)
    assert len([what for what in told if len(what) == 3]) == 8
    assert len(told) > 8


def test_a_finished_loop_computes_nothing(folder: Path) -> None:
    """When restarted, a loop yields what was recorded; with more items it continues."""
    told = Search(folder, every=100).loop()
    COMPUTED.clear()
    again = Search(folder, every=100)
    assert again.loop() == told
    assert again.results.state is not None
    assert COMPUTED == []
    more = Search(folder, trials=10, every=100).loop()
    assert more[:8] == told[:8]
    assert len(COMPUTED) == 2


def test_a_loop_that_is_left(folder: Path) -> None:
    """A `break` suspends the run: the next session leaves the loop at the same place, or continues after it."""
    told = Search(folder).loop(leave_at=4)
    COMPUTED.clear()
    assert Search(folder).loop(leave_at=4) == told
    assert COMPUTED == []
    more = Search(folder).loop()
    assert more[:4] == told
    assert len([what for what in more if len(what) == 3]) == 8


def test_a_body_that_does_something_else(folder: Path) -> None:
    """The body is checked against the record, as callbacks are."""
    Search(folder).loop()
    with pytest.raises(JournalMismatchError, match="neg"):
        Search(folder, every=4).loop()


def test_threads_and_processes() -> None:
    """Outcomes that arrive in bursts are handled one by one, so that the body is at the same place each time."""

    def program(folder: Path) -> list[Any]:
        scheduler = Scheduler.with_threads(3)
        task = scheduler.task(operator.neg)
        told: list[Any] = []
        items = (n * 1000 + len(told) for n in range(30))
        for call in task.map(items, in_flight=6).results(journal=folder, display=False):
            told.append((call.number, call.args))  # noqa: PERF401 - later items depend on it
        assert len(amltk.journal.open(folder).calls()) == 30
        return told

    def whole(folder: Path) -> list[Any]:
        first = program(folder)
        assert program(folder) == first
        return sorted(number for number, _ in first)

    assert crash_everywhere(whole, every=41) == list(range(30))


def test_a_loop_within_a_loop(folder: Path) -> None:
    """An inner loop joins the run, and is at the same place each time."""

    def program(folder: Path) -> list[Any]:
        scheduler = Scheduler.with_sequential()
        task = scheduler.task(operator.neg)
        told: list[Any] = []
        for call in task.map(range(3), in_flight=2).results(journal=folder, display=False):
            told.append(call.args)
            inner = scheduler.task(operator.pos).map([10 * call.args[0], 5], in_flight=2)
            told.extend(one.args for one in inner.results())
        return told

    assert len(crash_everywhere(program, every=5)) == 9


def test_what_is_refused(folder: Path) -> None:
    """Loops whose body has no place among the inputs are rejected, and so is a journal for an existing run."""
    scheduler = Scheduler.with_threads(2)
    task = scheduler.task(operator.neg)

    async def loop() -> None:
        async for _ in task.map([1]).results(journal=folder):
            pass

    with pytest.raises(JournalUnsupportedError, match="plain `for`"):
        asyncio.run(loop())
    errors: list[BaseException] = []

    def join() -> None:
        with pytest.raises(JournalUnsupportedError, match="another thread") as caught:
            list(results)
        errors.append(caught.value)
        with pytest.raises(JournalUnsupportedError, match="map neg from another thread"):
            task.map([1])

    for _ in task.map([1]).results(journal=folder, display=False):
        with pytest.raises(SchedulerRunningError, match="already running"):
            list(task.map([1]).results(journal=folder))
    scheduler = Scheduler.with_threads(2)
    task = scheduler.task(operator.neg)
    results = task.map([1]).results()

    @scheduler.on_start
    def begin() -> None:
        thread = threading.Thread(target=join)
        thread.start()
        thread.join()

    scheduler.run(journal=folder.with_name("other"), display=False)
    assert len(errors) == 1
