"""If an executor rejects a submission in a run with a journal, callbacks see the same after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalMismatchError
from amltk.journal import Kind, Reader
from amltk.scheduling import ExitState, Retry, Scheduler
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Code = ExitState.Code


class Busy(SimulatedExecutor):
    """Rejects its n-th submissions, like an overloaded server."""

    def __init__(self, refused: Iterable[int] = (), outcome: Callable[..., Any] = abs) -> None:
        super().__init__(2, outcome=outcome)
        self.refused = set(refused)
        self.asked = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if self.asked in self.refused:
            raise OSError(f"submission {self.asked} is one too many")
        return super().submit(fn, *args, **kwargs)


def search(folder: Path, executor: Busy, n: int = 6, plugins: Any = ()) -> list[Any]:
    """A program that submits one call after the other, and another one after a rejection."""
    scheduler = Scheduler(executor)
    task = scheduler.task(abs, plugins=plugins)
    notes: list[Any] = []
    numbers = iter(range(n))

    @scheduler.on_start
    @task.on_done
    def propose(*_: object) -> None:
        for number in numbers:
            try:
                task.submit(-number)
            except OSError as error:
                notes.append((number, str(error)))
            else:
                break

    task.on_result(lambda future, result: notes.append((future.number, result)))
    task.on_exception(lambda future, error: notes.append((future.number, future.attempt, str(error))))
    run_in_virtual_time(scheduler.async_run(journal=folder, display=False, on_exception="continue"))
    return notes


def compute(fn: Callable[..., Any], number: int) -> Any:
    return fn(number)


def test_the_same_is_refused_again(tmp_path: Path) -> None:
    """A callback gets the same exception at the same point, without the executor."""
    executor = Busy({2, 4, 5}, compute)
    told = search(tmp_path, executor)
    assert told[:2] == [(1, "submission 2 is one too many"), (0, 0)]
    again = Busy(outcome=compute)
    assert search(tmp_path, again) == told
    assert again.asked == 0
    assert [record.kind for record in Reader(tmp_path).records()].count(Kind.REFUSAL) == 3


def test_it_survives_crashes() -> None:
    """A program with rejections survives a crash after each of its inputs, even if nothing is rejected then."""

    def program(folder: Path) -> list[Any]:
        is_new = not folder.exists()
        told = search(folder, Busy({2, 3} if is_new else (), compute))
        return [note for note in told if type(note[1]) is int][:1]

    crash_everywhere(program)


def test_what_was_accepted_before(tmp_path: Path) -> None:
    """A retry that the executor rejects ends the call with this exception, which is replayed."""

    def fail(fn: Callable[..., Any], number: int) -> Any:
        if number == 0:
            raise ValueError(number)
        return fn(number)

    def run(executor: Busy) -> list[Any]:
        return search(tmp_path, executor, n=2, plugins=Retry(ValueError, attempts=2))

    told = run(Busy({2}, fail))
    assert (0, 2, "submission 2 is one too many") in told
    again = Busy(outcome=fail)
    assert run(again) == told
    assert again.asked == 0


def test_something_else_is_submitted(tmp_path: Path) -> None:
    """The error says that the recorded submission was rejected."""
    search(tmp_path, Busy({1}, compute))
    scheduler = Scheduler(Busy(outcome=compute))
    task = scheduler.task(abs)
    scheduler.on_start(lambda: task.submit(-17))
    with pytest.raises(JournalMismatchError, match=r"abs\(0\) is refused by the executor \(OSError\)"):
        run_in_virtual_time(scheduler.async_run(journal=tmp_path, display=False))
