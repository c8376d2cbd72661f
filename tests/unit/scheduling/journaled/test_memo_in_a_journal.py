"""Memo in a run with a journal: a memo lookup is decided once, and a replay is the same whatever is stored by then."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from amltk.journal import Kind, Reader
from amltk.scheduling import ExitState, Memo, Retry, Scheduler
from amltk.scheduling.plugins.memo import store
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_stores", {})


class Search:
    """A program whose task doubles numbers, a second each; it records its events."""

    def __init__(self, memo: Path, *, broken: Any = (), plugins: Any = (), **options: Any) -> None:
        store._stores.clear()  # each one is a separate session
        self.broken = broken
        self.memo = Memo(memo, **options)
        self.computed: list[int] = []
        self.told: list[Any] = []
        self.scheduler = Scheduler(SimulatedExecutor(2, lambda fn, number: number, outcome=self.compute))
        self.task = self.scheduler.task(double, plugins=[self.memo, *plugins])
        self.task.on_result(lambda future, result: self.told.append((future.number, result)))
        self.task.on_exception(lambda future, error: self.told.append((future.number, repr(error))))
        self.task.on_cancelled(lambda future: self.told.append((future.number, "cancelled")))

    def compute(self, fn: Callable[..., Any], number: int) -> Any:
        self.computed.append(number)
        if number in self.broken:
            raise ValueError(number)
        return fn(number)

    def run(self, journal: Path | None, *numbers: int, cancel: int | None = None) -> Search:
        @self.scheduler.on_start
        def launch() -> None:
            futures = [self.task.submit(number) for number in numbers]
            if cancel is not None:
                self.scheduler.call_later(0.5, futures[cancel].cancel)

        state = run_in_virtual_time(
            self.scheduler.async_run(journal=journal, display=False, on_exception="continue", on_cancelled="continue")
        )
        assert state.code is ExitState.Code.EXHAUSTED
        return self


def double(number: int) -> list[int]:
    return [number * 2]


def test_kept_shared_and_computed(tmp_path: Path) -> None:
    """Stored, shared and computed calls are replayed in order, with the same counts, and nothing is computed."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"
    Search(memo).run(None, 1, 2)
    first = Search(memo).run(journal, 1, 3, 2, 3, 4, 1)
    assert (first.computed, first.memo.status()) == ([3, 4], "hits 3 · misses 2 · shared 1")
    for is_gone in (False, True):
        if is_gone:
            shutil.rmtree(memo)
        again = Search(memo).run(journal, 1, 3, 2, 3, 4, 1)
        assert (again.told, again.computed) == (first.told, [])
        assert again.memo.status() == first.memo.status()
        results = [result for _, result in again.told if result == [6]]
        assert results[0] is not results[1]


def test_what_is_kept_by_now_changes_no_replay(tmp_path: Path) -> None:
    """Calls that were computed are replayed as such, although another program has stored their results meanwhile."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"
    first = Search(tmp_path / "empty").run(journal, 3, 1, 1)
    Search(memo).run(None, 1, 3)
    again = Search(memo).run(journal, 3, 1, 1)
    assert (again.told, again.computed) == (first.told, [])


def test_a_replay_keeps_what_is_missing(tmp_path: Path) -> None:
    """A result that was recorded but not stored when the process was killed is stored during the replay."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"
    Search(memo).run(journal, 1, 2)
    shutil.rmtree(memo)
    Search(memo).run(journal, 1, 2)
    assert Search(memo).run(None, 1, 2).computed == []


@pytest.mark.parametrize("is_gone", [False, True])
def test_killed_before_a_kept_result_was_told(tmp_path: Path, is_gone: bool) -> None:
    """A call about to be answered is answered by the next session, or computed if the result is gone."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"
    Search(memo).run(None, 1, 2)
    Search(memo).run(journal, 1, 2, 1)
    first = next(record for record in Reader(journal).records() if record.kind == Kind.RESULT)
    os.truncate(journal / "journal.log", first.offset)
    if is_gone:
        shutil.rmtree(memo)
    again = Search(memo).run(journal, 1, 2, 1)
    assert again.computed == ([1, 2] if is_gone else [])
    assert sorted(again.told) == [(0, [2]), (1, [4]), (2, [2])]
    assert (len(Search(memo).run(journal, 1, 2, 1).computed), Search(memo).run(None, 1, 2).computed) == (0, [])


@pytest.mark.parametrize("errors", [False, True])
def test_errors_with_retries(tmp_path: Path, errors: bool) -> None:
    """Stored errors are not retried, computed ones are, in a replay too."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"

    def search() -> Search:
        return Search(memo, broken={2}, errors=errors, plugins=[Retry(attempts=2, wait=1, seed=1)])

    search().run(None, 2)
    first = search().run(journal, 2, 1, 2, 3)
    assert first.computed.count(2) == (0 if errors else 4)
    again = search().run(journal, 2, 1, 2, 3)
    assert (again.told, again.computed) == (first.told, [])


def test_the_next_one_is_computed(tmp_path: Path) -> None:
    """If the computation was cancelled, that of a call sharing it is in the journal."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"
    first = Search(memo).run(journal, 3, 3, 1, cancel=0)
    assert first.told == [(0, "cancelled"), (2, [2]), (1, [6])]
    again = Search(memo).run(journal, 3, 3, 1, cancel=0)
    assert (again.told, again.computed) == (first.told, [])
    for record in list(Reader(journal).records())[2:]:
        shutil.copytree(journal, tmp_path / "killed")
        os.truncate(tmp_path / "killed" / "journal.log", record.end)
        assert sorted(Search(memo).run(tmp_path / "killed", 3, 3, 1, cancel=0).told) == sorted(first.told)
        assert Search(memo).run(tmp_path / "killed", 3, 3, 1, cancel=0).computed == []
        shutil.rmtree(tmp_path / "killed")


@pytest.mark.parametrize("seed", range(3))
def test_every_crash(tmp_path: Path, seed: int) -> None:
    """A program with equal calls, failing ones and cancellations survives a crash at any point."""
    draw = random.Random(seed)
    numbers = [draw.randrange(1, 5) for _ in range(6)]
    Search(tmp_path / "memo").run(None, 1)

    def program(folder: Path) -> list[Any]:
        search = Search(tmp_path / "memo", broken={4}, errors=seed == 1, plugins=[Retry(attempts=2, wait=1, seed=1)])
        return sorted(search.run(folder, *numbers, cancel=seed).told)

    crash_everywhere(program)


class Pipeline:
    """A program in which calls with a memo wait for others; two of them get equal results."""

    def __init__(self, memo: Path) -> None:
        store._stores.clear()
        self.memo = Memo(memo)
        self.computed: list[Any] = []
        self.told: list[Any] = []
        self.scheduler = scheduler = Scheduler(SimulatedExecutor(2, lambda fn, value: 1.0, outcome=self.compute))
        self.halve = scheduler.task(halve)
        self.task = scheduler.task(double, plugins=self.memo)
        self.task.on_result(lambda future, result: self.told.append((future.number, result)))
        self.task.on_exception(lambda future, error: self.told.append((future.number, repr(error))))

        @scheduler.on_start
        def launch() -> None:
            for number in (2, 3, 8):
                self.task.submit(self.halve.submit(number))
            self.task.submit(4)

    def compute(self, fn: Callable[..., Any], value: Any) -> Any:
        self.computed.append((fn.__name__, value))
        return fn(value)

    def run(self, journal: Path | None = None) -> Pipeline:
        run_in_virtual_time(self.scheduler.async_run(journal=journal, display=False))
        return self


def halve(number: int) -> int:
    return number // 2


def test_calls_that_wait_for_others_are_compared_by_results(tmp_path: Path) -> None:
    """A call with futures as arguments shares or finds a result as soon as the results that it needs are known."""
    first = Pipeline(tmp_path).run()
    assert sorted(result for _, result in first.told) == [[2], [2], [8], [8]]
    assert sorted(value for name, value in first.computed if name == "double") == [1, 4]
    assert first.memo.status() == "hits 0 · misses 2 · shared 2"
    second = Pipeline(tmp_path).run()
    assert (sorted(second.told), second.memo.status()) == (sorted(first.told), "hits 4 · misses 0 · shared 0")
    assert {name for name, _ in second.computed} == {"halve"}


@pytest.mark.parametrize("is_gone", [False, True])
def test_calls_that_wait_for_others_in_a_replay(tmp_path: Path, is_gone: bool) -> None:
    """What a memo has found for a call that waited is found again in a replay, whatever is kept by then."""
    memo, journal = tmp_path / "memo", tmp_path / "journal"
    Pipeline(memo).run()
    first = Pipeline(memo).run(journal)
    if is_gone:
        shutil.rmtree(memo)
    again = Pipeline(memo).run(journal)
    assert (again.told, again.computed, again.memo.status()) == (first.told, [], first.memo.status())


def test_crashes_of_a_program_whose_calls_wait(tmp_path: Path) -> None:
    """A program that is killed after any record computes each of these calls once."""
    sessions = iter(range(1_000_000))

    def program(journal: Path) -> Any:
        pipeline = Pipeline(tmp_path / "memo" / str(next(sessions)))
        pipeline.run(journal)
        return sorted(pipeline.told)

    crash_everywhere(program)


def test_a_result_that_cannot_be_compared(tmp_path: Path) -> None:
    """A call whose arguments cannot be compared once they are known ends with the error that says so."""
    scheduler = Scheduler.with_sequential()
    make, use = scheduler.task(object), scheduler.task(repr, plugins=Memo(tmp_path))
    errors: list[BaseException] = []
    use.on_exception(lambda _, error: errors.append(error))
    scheduler.on_start(lambda: use.submit(make.submit()))
    scheduler.run(on_exception="continue", display=False)
    assert [type(error) for error in errors] == [TypeError]
    assert "Memo cannot tell whether two calls of repr are equal" in str(errors[0])
