"""A call's own folder: training resumes from its checkpoint however it was ended, and output is captured there."""
# ruff: noqa: T201 - calls print

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CallFolderError, JournalError
from amltk.scheduling import CallFolder, Limiter, Limits, Memo, Plugin, Retry, Scheduler, call_folder
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.script import Script, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

METHODS = ["forkserver", "spawn", "fork"]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate


def count(upto: int, gate: Any = None, stop_at: int | None = None) -> list[int]:
    """Run the steps of a training, each with a checkpoint; return the steps that this attempt made."""
    checkpoint = call_folder() / "step"
    begin = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(begin, upto):
        new = checkpoint.with_suffix(".new")
        new.write_text(str(step + 1))
        new.rename(checkpoint)
        if begin == 0 and step == stop_at:
            pass_gate(gate)
    return list(range(begin, upto))


@pytest.mark.parametrize("method", METHODS)
def test_after_a_killed_worker(tmp_path: Path, gate: Gate, method: str) -> None:
    """A call whose worker is killed resumes from its checkpoint on the next attempt."""
    scheduler = Scheduler.with_processes(1, mp_context=method)
    task = scheduler.task(count, plugins=[Retry(), CallFolder(tmp_path)])
    results: list[Any] = []
    task.on_result(lambda _, steps: results.append(steps))
    scheduler.on_start(lambda: task.submit(5, gate.address, 2))
    gate.when_begun(1, lambda: os.kill(gate.pids[0], signal.SIGKILL))
    scheduler.run()
    assert results == [[3, 4]]
    assert [path.name for path in (tmp_path / "calls").iterdir()] == ["0"]


def test_after_a_limit(tmp_path: Path, gate: Gate) -> None:
    """A call that hit a limit resumes from its checkpoint when it is retried."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(count, plugins=[Retry(wait=0), Limits(wall_time=2), CallFolder(tmp_path)])
    results: list[Any] = []
    task.on_result(lambda _, steps: results.append(steps))
    scheduler.on_start(lambda: task.submit(5, gate.address, 1))
    scheduler.run()
    (steps,) = results
    assert steps == list(range(steps[0], 5))
    assert steps[0] > 0  # 2, unless a busy machine did not even get that far within the limit


PROGRAM = """
from amltk.scheduling import CallFolder, Scheduler
from tests.integration.test_call_folder import count

if __name__ == "__main__":
    scheduler = Scheduler.with_processes(3)
    task = scheduler.task(count, plugins=CallFolder({folder!r}, ignore=("gate",)))
    task.map({upto!r}, {gates!r}, [1, 1, 1])
    task.on_result(lambda future, steps: print(future.args[0], steps, flush=True))
    scheduler.run()
"""


def test_after_the_program_was_killed(tmp_path: Path, gate: Gate) -> None:
    """Calls of a program that is killed and restarted resume from their checkpoints, even in another order."""
    gates = [gate.address] * 3
    with Script(PROGRAM.format(folder=str(tmp_path), upto=[4, 6, 4], gates=gates)) as script:
        gate.wait_begun(3)
        script.send_to_all(signal.SIGKILL)
        gate.wait_gone()
    ended = run_script(PROGRAM.format(folder=str(tmp_path), upto=[6, 4, 4], gates=gates))
    assert sorted(ended.lines) == ["4 [2, 3]", "4 [2, 3]", "6 [2, 3, 4, 5]"]
    assert sorted(path.name for path in (tmp_path / "calls").iterdir()) == ["0", "1", "2"]
    assert (tmp_path / "calls").stat().st_mode & 0o077 == 0


def where(x: int) -> str:
    return call_folder().name


MAKERS: list[Callable[[], Scheduler]] = [
    lambda: Scheduler.with_processes(2),
    lambda: Scheduler.with_threads(2),
    Scheduler.with_sequential,
]


def queue() -> Limiter:
    return Limiter(max_concurrent=1, on_limit="queue")


@pytest.mark.parametrize("make", MAKERS)
def test_each_call_has_its_own(tmp_path: Path, make: Callable[[], Scheduler]) -> None:
    """Equal calls of a session have different folders; with a memo, each computed call has one."""
    chains: list[tuple[Callable[[], list[Plugin]], list[str]]] = [
        (lambda: [CallFolder(tmp_path)], ["0", "1", "2"]),
        (lambda: [queue(), CallFolder(tmp_path)], ["0", "1", "2"]),
        (lambda: [CallFolder(tmp_path), queue()], ["0", "1", "2"]),
        (lambda: [Memo(tmp_path / "memo"), CallFolder(tmp_path)], ["0", "0", "2"]),
        (lambda: [Memo(tmp_path / "memo"), CallFolder(tmp_path)], ["0", "0", "2"]),
    ]
    for plugins, expected in chains:
        assert folders_of(make(), plugins(), [1, 1, 2]) == expected
    assert sorted(path.name for path in (tmp_path / "calls").iterdir()) == ["0", "1", "2"]


def test_two_tasks(tmp_path: Path) -> None:
    """Calls of two tasks whose plugins share a folder get different folders of their own."""
    scheduler = Scheduler.with_sequential()
    tasks = [scheduler.task(function, plugins=CallFolder(tmp_path)) for function in (where, other)]
    futures: list[Any] = []
    scheduler.on_start(lambda: futures.extend(task.submit(x) for x in (1, 2) for task in tasks))
    scheduler.run()
    assert [future.result() for future in futures] == ["0", "1", "2", "3"]


def folders_of(scheduler: Scheduler, plugins: list[Plugin], xs: list[int]) -> list[str]:
    task = scheduler.task(where, plugins=plugins)
    futures: list[Any] = []
    task.on_submitted(lambda future, *_: futures.append(future))
    scheduler.on_start(lambda: [task.submit(x) for x in xs])
    scheduler.run()
    return [future.result() for future in sorted(futures, key=lambda future: future.args)]


def other(x: int) -> str:
    return where(x)


def test_without_a_folder() -> None:
    """Without a call folder, the error explains how to get one."""
    with pytest.raises(CallFolderError, match=r"plugins=CallFolder\("):
        call_folder()


def test_what_is_refused(tmp_path: Path) -> None:
    """Unsupported arguments, options of wrong types and folders that cannot be created raise clear errors."""
    with pytest.raises(TypeError, match="capture=1"):
        CallFolder(tmp_path, capture=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key=3"):
        CallFolder(tmp_path, key=3)  # type: ignore[arg-type]
    (tmp_path / "calls").touch()
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(where, plugins=CallFolder(tmp_path))
    raised: list[BaseException] = []

    @scheduler.on_start
    def submit() -> None:
        for argument, expected in ((object(), TypeError), (1, JournalError)):
            with pytest.raises(expected, match=r"CallFolder") as error:
                task.submit(argument)
            raised.append(error.value)

    scheduler.run()
    assert len(raised) == 2


# ------------------------------------------------------------------ what a call prints


def speak(word: str) -> None:
    """Print from Python, from C, from a child, and to stderr."""
    print("python", word)
    print("error", word, file=sys.stderr)
    subprocess.run([sys.executable, "-c", f"print('child', {word!r})"], check=True)
    ctypes.CDLL(None).printf(b"c %s\n", word.encode())


@pytest.mark.parametrize("method", METHODS)
def test_what_a_process_prints(tmp_path: Path, method: str, capfd: pytest.CaptureFixture[str]) -> None:
    """All that a call prints goes to its folder, not the terminal; output after the call goes to the terminal again."""
    scheduler = Scheduler.with_processes(1, mp_context=method)
    loud = scheduler.task(speak, plugins=CallFolder(tmp_path, capture=True))
    after = scheduler.task(speak)
    loud.on_done(lambda _: after.submit("after"))
    scheduler.on_start(lambda: loud.submit("within"))
    scheduler.run()
    scheduler.close()
    said = (tmp_path / "calls/0/output.log").read_text().splitlines()
    assert sorted(said) == ["c within", "child within", "error within", "python within"]
    out = "".join(capfd.readouterr())
    assert "within" not in out
    assert "child after" in out


@pytest.mark.parametrize("make", MAKERS[1:])
def test_what_a_thread_prints(
    tmp_path: Path, make: Callable[[], Scheduler], capsys: pytest.CaptureFixture[str]
) -> None:
    """What Python code prints in a thread goes to the folder of that thread's call."""
    scheduler = make()
    loud = scheduler.task(print, plugins=CallFolder(tmp_path, capture=True))
    scheduler.on_start(lambda: [loud.submit(word) for word in ("one", "two")])
    scheduler.run()
    assert [(tmp_path / f"calls/{n}/output.log").read_text() for n in (0, 1)] == ["one\n", "two\n"]
    print("after")
    assert capsys.readouterr().out == "after\n"


def fail_after(word: str) -> None:
    print(word)
    raise ValueError(word)


def test_attempts_are_appended(tmp_path: Path) -> None:
    """The output of a failed attempt is kept, and that of the next attempt is appended."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(fail_after, plugins=[Retry(attempts=2, wait=0), CallFolder(tmp_path, capture=True)])
    scheduler.on_start(lambda: task.submit("here"))
    scheduler.run(on_exception="continue")
    assert (tmp_path / "calls/0/output.log").read_text() == "here\nhere\n"


def note(number: int) -> str:
    """Say which folder this is, and leave a mark in it."""
    (call_folder() / "seen").write_text(str(number))
    return call_folder().name


def test_calls_that_wait_for_others(tmp_path: Path) -> None:
    """A call with futures as arguments has the folder of a call with the results as arguments, in every session."""
    for last in (False, True):
        scheduler = Scheduler.with_processes(2)
        task = scheduler.task(note, plugins=CallFolder(tmp_path))
        names: dict[int, str] = {}

        @scheduler.on_start
        def launch(task: Any = task, scheduler: Scheduler = scheduler, last: bool = last) -> None:
            for number in (2, 1):
                task.submit(number if last else scheduler.submit(abs, -number))

        task.on_result(lambda future, name, names=names: names.update({future.number: name}))
        scheduler.run()
        assert len(names) == 2
    assert sorted((path / "seen").read_text() for path in (tmp_path / "calls").iterdir()) == ["1", "2"]
