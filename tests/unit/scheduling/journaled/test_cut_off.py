"""A run with a journal that does not wait at its end: a program that continues computes what was cut off."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.journal import Kind, Reader
from amltk.scheduling import ExitState, Scheduler
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Code = ExitState.Code

N_CALLS = 5


class Search:
    """Calls of one second each, two at a time; the run does not wait at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.executor = SimulatedExecutor(2, duration=1.0, outcome=self.compute)
        self.scheduler = Scheduler(self.executor)
        self.task = self.scheduler.task(abs)
        self.computed: list[int] = []
        self.notes: list[tuple[str, int]] = []
        self.attempts: dict[int, int] = {}
        self.scheduler.on_start(lambda: [self.task.submit(-number) for number in range(N_CALLS)])
        self.task.on_cancelled(lambda future: self.notes.append(("cancelled", future.number)))

        @self.task.on_result
        def note(future: Any, _: int) -> None:
            self.notes.append(("result", future.number))
            self.attempts[future.number] = future.attempt

    def compute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.computed.append(-args[0])
        return fn(*args, **kwargs)

    def run(self, **options: Any) -> ExitState:
        options = {"journal": self.folder, "display": False, "wait": False} | options
        return run_in_virtual_time(self.scheduler.async_run(**options))


def kinds(folder: Path) -> list[Kind | int]:
    return [record.kind for record in Reader(folder).records()]


CUT_OFF = [("result", 0), ("result", 1), *(("cancelled", number) for number in (2, 3, 4))]


def test_the_same_again(tmp_path: Path) -> None:
    """A finished journal replays the same, ends in the same state, computes nothing and is not written to."""
    first = Search(tmp_path)
    assert first.run(timeout=1.5) == ExitState(Code.TIMEOUT)
    log = (tmp_path / "journal.log").read_bytes()
    second = Search(tmp_path)
    assert second.run(timeout=1.5) == ExitState(Code.TIMEOUT)
    assert second.notes == first.notes == CUT_OFF
    assert second.computed == []
    assert (tmp_path / "journal.log").read_bytes() == log
    assert kinds(tmp_path)[-1] == Kind.FINISH
    assert Kind.CANCELLED not in kinds(tmp_path)


def test_a_longer_timeout(tmp_path: Path) -> None:
    """The calls that were cut off are computed, under the same numbers, and nothing else is."""
    Search(tmp_path).run(timeout=1.5)
    second = Search(tmp_path)
    assert second.run(timeout=100) == ExitState(Code.EXHAUSTED)
    assert second.notes == [("result", number) for number in range(N_CALLS)]
    assert sorted(second.computed) == [2, 3, 4]
    assert second.attempts == {0: 1, 1: 1, 2: 2, 3: 2, 4: 2}
    history = amltk.journal.open(tmp_path)
    assert [call.state for call in history.calls()] == ["result"] * N_CALLS
    assert history.summary().state == "finished"


def test_it_waits_after_all(tmp_path: Path) -> None:
    """Restarted with wait=True, the program computes what was cut off, since its end waits for that."""
    Search(tmp_path).run(timeout=1.5)
    second = Search(tmp_path)
    assert second.run(timeout=1.5, wait=True) == ExitState(Code.TIMEOUT)
    assert second.notes == [("result", number) for number in range(N_CALLS)]
    assert sorted(second.computed) == [2, 3, 4]


def test_it_waits_no_more(tmp_path: Path) -> None:
    """Outcomes that an earlier session waited for are delivered, although this one would not have waited."""
    Search(tmp_path).run(timeout=1.5, wait=True)
    second = Search(tmp_path)
    assert second.run(timeout=1.5) == ExitState(Code.TIMEOUT)
    assert second.notes == [("result", number) for number in range(N_CALLS)]
    assert second.computed == []


def test_killed_at_the_end(tmp_path: Path) -> None:
    """Killed between the request to end and the end, it computes nothing when restarted."""
    Search(tmp_path).run(timeout=1.5)
    found = [record for record in Reader(tmp_path).records() if record.kind == Kind.STOP]
    with open(tmp_path / "journal.log", "r+b") as log:
        log.truncate(found[-1].end)
    second = Search(tmp_path)
    assert second.run(timeout=1.5) == ExitState(Code.TIMEOUT)
    assert second.notes == CUT_OFF
    assert second.computed == []
    assert kinds(tmp_path)[-1] == Kind.FINISH


def test_stopped_by_a_callback(tmp_path: Path) -> None:
    """Cut-off calls are handled the same way after a stop by a callback, and computed if the search then continues."""

    def search(enough: int) -> Search:
        made = Search(tmp_path)
        made.task.on_result(lambda future, _: made.scheduler.stop() if future.number == enough else None)
        return made

    assert search(1).run().code == Code.STOPPED
    again = search(1)
    assert again.run().code == Code.STOPPED
    assert (again.notes, again.computed) == (CUT_OFF, [])
    further = search(100)
    assert further.run() == ExitState(Code.EXHAUSTED)
    assert sorted(further.computed) == [2, 3, 4]


@pytest.mark.parametrize("outcome", ["result", "exception"])
def test_what_ends_while_it_is_cut_off(outcome: str, tmp_path: Path) -> None:
    """An outcome that comes too late to be recorded is told as a cancellation, at once and at a replay."""
    works: list[Future[Any]] = []

    class Late(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            work = Future[Any]()
            work.set_running_or_notify_cancel()
            works.append(work)
            return work

    def end(_: Executor) -> None:
        if works[0].done():  # the second session computes nothing
            return
        if outcome == "result":
            works[0].set_result(0)
        else:
            works[0].set_exception(ValueError("late"))

    def search() -> list[str]:
        scheduler = Scheduler(Late(), terminate=end)
        task, notes = scheduler.task(abs), list[str]()
        for name in ("result", "exception", "cancelled"):
            task.on(name)(lambda future, *_, name=name: notes.append(f"{name} {future.number}"))
        scheduler.on_start(lambda: [task.submit(-1), task.submit(-2), scheduler.stop()])
        scheduler.run(journal=tmp_path, wait=False, display=False)
        return notes

    assert search() == ["cancelled 0", "cancelled 1"]
    assert search() == ["cancelled 0", "cancelled 1"]
    assert {call.state for call in amltk.journal.open(tmp_path).calls()} == {"pending"}


@pytest.mark.parametrize("wait", [False, True])
def test_crashed_everywhere(wait: bool) -> None:
    """A program that cuts off calls survives a crash after each of its inputs."""

    def program(folder: Path) -> list[tuple[str, int]]:
        search = Search(folder)
        search.task.on_result(lambda future, _: search.scheduler.stop() if future.number == 1 else None)
        search.run(wait=wait)
        return search.notes

    crash_everywhere(program)
