"""What the next session does with failures that `amltk retry` has reset."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.cli.main import main
from amltk.exceptions import JournalLockedError, JournalMismatchError, WorkerLostError
from amltk.journal import Kind, Reader, Writer, retry
from amltk.scheduling import ExitState, Retry, Scheduler
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

Code = ExitState.Code


class Search:
    """A program that doubles numbers, two at a time, and records its events."""

    def __init__(self, folder: Path, *, broken: dict[int, type[Exception]] | None = None, plugins: Any = ()) -> None:
        self.folder = folder
        self.broken = broken or {}
        self.computed: list[int] = []
        self.told: list[Any] = []
        self.scheduler = Scheduler(SimulatedExecutor(2, outcome=self.compute))
        self.task = self.scheduler.task(double, plugins=plugins)
        self.task.on_result(lambda future, result: self.told.append((future.args[0], result, future.attempt)))
        self.task.on_exception(lambda future, error: self.told.append((future.args[0], type(error), future.attempt)))

    def compute(self, fn: Any, number: int) -> int:
        self.computed.append(number)
        if number in self.broken:
            raise self.broken[number]("broken")
        return number * 2

    def run(self, **options: Any) -> ExitState:
        options = {"journal": self.folder, "display": False, "on_exception": "continue"} | options
        return run_in_virtual_time(self.scheduler.async_run(**options))

    def all(self, *numbers: int, **options: Any) -> Search:
        """Submit all of them at once."""
        self.scheduler.on_start(lambda: [self.task.submit(number) for number in numbers])
        self.run(**options)
        return self

    def each(self, n: int) -> Search:
        """Keep two in flight until none are left."""
        self.task.map(range(n), in_flight=2)
        self.run()
        return self


def double(number: int) -> int:
    return number * 2


def test_failures_are_computed_again(tmp_path: Path) -> None:
    """Only failed calls are computed, as the next attempt; the other outcomes come in order."""
    first = Search(tmp_path, broken={1: OSError, 3: WorkerLostError}).all(0, 1, 2, 3, 4)
    log = (tmp_path / "journal.log").read_bytes()
    assert retry(tmp_path).calls == [1, 3]
    assert (tmp_path / "journal.log").read_bytes().startswith(log), "nothing is rewritten"
    second = Search(tmp_path).all(0, 1, 2, 3, 4)
    assert second.computed == [1, 3]
    kept = [item for item in first.told if item[0] % 2 == 0]
    assert second.told == [*kept, (1, 2, 2), (3, 6, 2)]
    third = Search(tmp_path).all(0, 1, 2, 3, 4)
    assert (third.told, third.computed) == (second.told, [])
    assert retry(tmp_path).calls == []


def test_the_end_that_a_failure_was(tmp_path: Path) -> None:
    """A run that a failure ended continues when the failure is reset."""
    first = Search(tmp_path, broken={1: OSError})
    with pytest.raises(OSError, match="broken"):
        first.all(0, 1, 2, on_exception="raise")
    retry(tmp_path)
    second = Search(tmp_path)
    second.scheduler.on_start(lambda: [second.task.submit(number) for number in (0, 1, 2)])
    assert second.run(on_exception="raise") == ExitState(Code.EXHAUSTED)
    assert second.computed == [1]
    assert Search(tmp_path).all(0, 1, 2).computed == []


def test_a_failure_again(tmp_path: Path) -> None:
    """A call that fails again can be reset again."""
    for attempt in (1, 2, 3):
        search = Search(tmp_path, broken={1: OSError}).all(0, 1)
        assert search.told[-1] == (1, OSError, attempt)
        assert retry(tmp_path).calls == [1]
    assert Search(tmp_path).all(0, 1).told[-1] == (1, 2, 4)


def test_answered_failures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If callbacks had reacted to a failure, they act differently, with a warning; equal calls have their results."""
    Search(tmp_path, broken={1: OSError, 4: OSError}).each(9)
    done = retry(tmp_path)
    assert (done.calls, done.answered) == ([1, 4], [1, 4])
    with caplog.at_level(logging.WARNING):
        second = Search(tmp_path).each(9)
    assert sorted(second.computed) == [1, 4]
    assert sorted(number for number, *_ in second.told) == list(range(9))
    assert "without the failures that were forgotten" in caplog.text
    third = Search(tmp_path).each(9)
    assert (third.told, third.computed) == (second.told, [])


def test_something_else_before_a_forgotten_failure(tmp_path: Path) -> None:
    """A program that deviates before the failure is rejected as usual, and also later, when all was computed."""
    Search(tmp_path, broken={1: OSError}).all(0, 1)
    retry(tmp_path)
    with pytest.raises(JournalMismatchError):
        Search(tmp_path).all(5, 1)
    Search(tmp_path).all(0, 1)
    with pytest.raises(JournalMismatchError):
        Search(tmp_path).all(0, 5)


def test_retries_of_a_plugin(tmp_path: Path) -> None:
    """If a plugin retried a call, its last failure is reset; a failure fixed by a later attempt stays."""
    plugins = [Retry(attempts=2, wait=1, jitter=0)]
    first = Search(tmp_path, broken={1: OSError}, plugins=plugins).all(0, 1)
    assert first.told == [(0, 0, 1), (1, OSError, 2)]
    assert retry(tmp_path).calls == [1]
    second = Search(tmp_path, plugins=[Retry(attempts=2, wait=1, jitter=0)]).all(0, 1)
    assert (second.told, second.computed) == ([(0, 0, 1), (1, 2, 3)], [1])


def test_timers_that_answered(tmp_path: Path) -> None:
    """A timer set in reaction to a failure is not mistaken for another one, which fires when due."""

    def program(*, broken: bool) -> list[Any]:
        search = Search(tmp_path, broken={1: OSError} if broken else {})
        told, scheduler = search.told, search.scheduler
        search.task.on_exception(lambda *_: scheduler.call_later(0.5, told.append, "soon"))
        search.task.on_result(lambda *_: scheduler.call_later(100, lambda: told.append(scheduler.now())))
        search.all(1, 2, end_on_empty=False, timeout=1000)
        return told

    assert "soon" in program(broken=True)
    timer = next(record for record in Reader(tmp_path).records() if record.kind == Kind.TIMER)
    os.truncate(tmp_path / "journal.log", timer.end)
    retry(tmp_path)
    told = program(broken=False)
    assert "soon" not in told
    began = [record.time for record in Reader(tmp_path).records() if record.kind == Kind.SESSION][-1]
    times = [time - began for time in told if isinstance(time, float)]
    assert times == [pytest.approx(99.5), pytest.approx(101)]


def test_every_crash_of_a_session_that_retries(tmp_path: Path) -> None:
    """The session that computes reset failures can be continued after a crash at any point."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    Search(whole, broken={1: OSError, 4: OSError}).each(7)
    retry(whole)
    n_before = len(list(Reader(whole).records()))
    expected = sorted(Search(whole).each(7).told)
    for record in list(Reader(whole).records())[n_before:]:
        shutil.copytree(whole, folder)
        os.truncate(folder / "journal.log", record.end)
        told = Search(folder).each(7).told
        assert sorted(item[:2] for item in told) == [item[:2] for item in expected]
        again = Search(folder).each(7)
        assert (again.told, again.computed) == (told, [])
        shutil.rmtree(folder)


def test_some_calls(tmp_path: Path) -> None:
    """Calls can be named; naming one that has not failed is an error, and nothing is reset then."""
    Search(tmp_path, broken={1: OSError, 3: OSError}).all(0, 1, 2, 3)
    with pytest.raises(ValueError, match=r"call 2 of the journal .* has not failed"):
        retry(tmp_path, [1, 2])
    assert retry(tmp_path, [3]).calls == [3]
    assert Search(tmp_path).all(0, 1, 2, 3).computed == [3]
    with Writer(tmp_path), pytest.raises(JournalLockedError):
        retry(tmp_path)


def test_what_the_command_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`retry` reports what it did; `show` and `calls` show such calls as pending."""
    folder = str(tmp_path)
    Search(tmp_path, broken={1: OSError, 4: OSError}).each(7)
    assert main(["retry", folder, "--failed"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{folder}: start the program again to compute 2 failed calls once more\n")
    assert "Callbacks had submitted calls when call 1 failed" in told
    assert main(["show", folder]) == 0
    told = capsys.readouterr().out
    assert "failed calls are forgotten. Start the program again" in told
    assert "sessions 1," in told
    assert "7: 5 result, 2 pending" in told
    assert "pending  call 1, double(1)" in told
    assert main(["calls", folder, "--failed"]) == 0
    assert "OSError" not in capsys.readouterr().out
    assert [call.state for call in amltk.journal.open(folder).calls()].count("pending") == 2
    assert main(["retry", folder, "--failed"]) == 0
    assert "nothing to do: no call has failed" in capsys.readouterr().out
    assert main(["retry", folder, "--call", "2"]) == 1
    with pytest.raises(SystemExit):
        main(["retry", folder])


def test_a_recorded_failure_says_so(tmp_path: Path) -> None:
    """Where a run raises a recorded failure, the function may be mended by now: notes say how to have it computed."""
    with pytest.raises(OSError, match="broken") as caught:
        Search(tmp_path, broken={1: OSError}).all(0, 1, 2, on_exception="raise")
    assert not any("amltk retry" in note for note in caught.value.__notes__)
    with pytest.raises(OSError, match="broken") as caught:
        Search(tmp_path).all(0, 1, 2, on_exception="raise")
    assert any(f"not computed again; `amltk retry {tmp_path} --failed`" in note for note in caught.value.__notes__)
    retry(tmp_path)
    assert Search(tmp_path).all(0, 1, 2, on_exception="raise").computed == [1]
