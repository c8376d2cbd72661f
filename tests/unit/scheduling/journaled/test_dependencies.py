"""Futures as arguments in a run with a journal: they are recorded by their call numbers."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import amltk.journal
from amltk.exceptions import DependencyError, JournalMismatchError
from amltk.journal import Kind, Reader
from amltk.journal.reference import CallReference
from amltk.scheduling import Journal, Scheduler
from amltk.scheduling.plugins import Retry
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path


def inc(number: int) -> int:
    return number + 1


def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


def fail(*_: Any) -> int:
    raise ValueError("no")


class Pipeline:
    """Chains, a fan, a failure and its consequences, a cancellation, a retry."""

    def __init__(self, folder: Path, *, width: int = 3) -> None:
        self.folder, self.width = folder, width
        self.computed: list[Any] = []
        self.notes: list[Any] = []
        self.executor = SimulatedExecutor(2, duration=1, outcome=self.compute)
        self.scheduler = Scheduler(self.executor)
        self.first = self.scheduler.task(inc)
        self.sums = self.scheduler.task(total, plugins=Retry(attempts=2, wait=1, jitter=0))
        self.failing = self.scheduler.task(fail)
        for task in (self.first, self.sums, self.failing):
            task.on_result(lambda future, result: self.notes.append((future.number, result)))
            task.on_exception(lambda future, error: self.notes.append((future.number, type(error).__name__)))
            task.on_cancelled(lambda future: self.notes.append((future.number, "cancelled")))
        self.scheduler.on_start(self.submit)

    def compute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        self.computed.append((fn.__name__, args, kwargs))
        return fn(*args, **kwargs)

    def submit(self) -> None:
        ends = []
        for n in range(self.width):
            one = self.first.submit(n)
            ends.append(self.first.submit(one.as_argument()))
        all_of_them: Any = self.sums.submit(ends, more=ends[0].as_argument())  # type: ignore[arg-type]
        failed = self.failing.submit(ends[1])
        self.first.submit(self.first.submit(failed.as_argument()).as_argument())
        dropped = self.first.submit(all_of_them)
        self.first.submit(dropped.as_argument())
        self.first.on_result(lambda future, _: dropped.cancel() if future is ends[-1] else None)
        self.sums.on_result(lambda future, _: self.first.submit(future), repeat=1)

    def run(self, **options: Any) -> list[Any]:
        given = {"journal": self.folder, "display": False, "on_exception": "continue", "on_cancelled": "continue"}
        run_in_virtual_time(self.scheduler.async_run(**given | options))
        return self.notes


def test_it_survives_a_crash_at_any_moment(tmp_path: Path) -> None:
    """Restarted after any record, it sees the same events and computes calls without a recorded outcome."""
    notes = crash_everywhere(lambda folder: Pipeline(folder).run())
    assert (6, 11) in notes
    others = sorted(what for _, what in notes if isinstance(what, str))
    assert others == ["DependencyError", "DependencyError", "DependencyError", "ValueError", "cancelled"]


def test_the_replay_computes_nothing(tmp_path: Path) -> None:
    """A replay delivers the same events and computes nothing."""
    first = Pipeline(tmp_path / "journal")
    notes = first.run()
    again = Pipeline(tmp_path / "journal")
    assert again.run() == notes
    assert again.computed == []


def test_what_is_recorded(tmp_path: Path) -> None:
    """Each future is recorded as a reference, and a call that was not computed as an exception."""
    Pipeline(tmp_path / "journal").run()
    reader = Reader(tmp_path / "journal")
    records = list(reader.records())
    submitted = {
        record.call: (record.head, pickle.loads(reader.value(record) or b""))
        for record in records
        if record.kind == Kind.SUBMISSION
    }
    assert submitted[1][1] == ((CallReference(0),), {})
    assert submitted[6][1] == (([CallReference(n) for n in (1, 3, 5)],), {"more": CallReference(1)})
    assert submitted[6][0]["arguments"] == "([<call 1>, <call 3>, <call 5>], more=<call 1>)"
    ended = [record for record in records if record.kind == Kind.EXCEPTION and record.call == 8]
    assert ended[0].head["type"] == "DependencyError"
    assert isinstance(pickle.loads(reader.value(ended[0]) or b""), DependencyError)
    told = [call for call in amltk.journal.open(tmp_path / "journal").calls() if call.number == 8]
    assert [call.state for call in told] == ["exception"]


def test_another_future_is_something_else(tmp_path: Path) -> None:
    """A replay compares which call an argument refers to."""

    class Other(Pipeline):
        def submit(self) -> None:
            one, two = self.first.submit(1), self.first.submit(2)
            self.first.submit((two if self.width else one).as_argument())

    Other(tmp_path / "journal").run()
    with pytest.raises(
        JournalMismatchError, match=r"Recorded: call 2 is inc\(<call 1>\).* Now: call 2 is inc\(<call 0>\)"
    ):
        Other(tmp_path / "journal", width=0).run()


def test_a_branch_does_not_take_results_of_calls_with_futures(tmp_path: Path) -> None:
    """A branch takes no results of calls with futures, whose numbers need not refer to the same calls there."""

    class Branching(Pipeline):
        def submit(self) -> None:
            for n in range(self.width):
                self.first.submit(self.first.submit(10 * self.width + n).as_argument())

    Branching(tmp_path / "journal", width=2).run()
    notes = Branching(tmp_path / "journal", width=3).run(journal=Journal(tmp_path / "journal", on_mismatch="branch"))
    assert sorted(result for _, result in notes) == [31, 32, 32, 33, 33, 34]


def test_results_are_loaded_for_what_is_computed_after_a_restart(tmp_path: Path) -> None:
    """The run is cut off when a call has its arguments; the restart computes it from the recorded results."""
    first = Pipeline(tmp_path / "journal")
    first.scheduler.on_start(lambda: first.scheduler.call_later(2.5, _interrupt))
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = Pipeline(tmp_path / "journal")
    again.scheduler.on_start(lambda: again.scheduler.call_later(2.5, int))
    notes = again.run()
    assert (6, 11) in notes
    assert ("inc", (0,), {}) not in again.computed


def _interrupt() -> None:
    raise KeyboardInterrupt


class Graph:
    """Random calls that depend on earlier ones; some fail, some are cancelled when the first one ends."""

    def __init__(self, folder: Path, calls: list[tuple[list[int], int, bool]], cancelled: list[int]) -> None:
        self.folder, self.calls, self.cancelled = folder, calls, cancelled
        self.executor = SimulatedExecutor(
            2, duration=lambda _, n, *__: calls[n][1], outcome=lambda fn, *args: fn(*args)
        )
        self.scheduler = Scheduler(self.executor)
        self.task = self.scheduler.task(self.compute)
        self.futures: list[Any] = []
        self.notes: list[str] = []
        self.scheduler.on_start(self.submit)
        self.scheduler.on_future_result(lambda future, result: self.note(f"{future.number} is {result}"))
        self.scheduler.on_future_exception(lambda future, error: self.note(f"{future.number} raised {error!r}"))
        self.scheduler.on_future_cancelled(lambda future: self.note(f"{future.number} was cancelled"))

    def compute(self, number: int, needed: list[int]) -> int:
        if self.calls[number][2]:
            raise ValueError(number)
        return number + sum(needed)

    def submit(self) -> None:
        for number in range(len(self.futures), min(len(self.futures) + 4, len(self.calls))):
            needed = [self.futures[number - 1 - back] for back in self.calls[number][0] if back < number]
            self.futures.append(self.task.submit(number, needed))

    def note(self, what: str) -> None:
        self.notes.append(what)
        if len(self.notes) == 1:
            for number in self.cancelled:
                if number < len(self.futures):
                    self.futures[number].cancel()
        if self.scheduler.running():
            self.submit()

    def run(self) -> list[str]:
        run_in_virtual_time(
            self.scheduler.async_run(
                journal=self.folder, display=False, on_exception="continue", on_cancelled="continue"
            )
        )
        return self.notes


call = st.tuples(st.lists(st.integers(0, 9), max_size=3), st.integers(0, 2), st.integers(0, 5).map(lambda n: n == 0))


@settings(deadline=None, max_examples=10)
@given(st.lists(call, min_size=1, max_size=10), st.lists(st.integers(0, 4), max_size=3))
def test_random_graphs_survive_a_crash_at_any_moment(calls: Any, cancelled: list[int]) -> None:
    """Random graphs with failures, cancellations and their consequences survive a crash at any point."""
    crash_everywhere(lambda folder: Graph(folder, calls, cancelled).run())
