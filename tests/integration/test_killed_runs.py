"""A real program with a journal is killed at random moments, again and again, until it completes."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

import amltk.journal
from tests.helpers.gate import GUARD
from tests.helpers.script import Ended, Script, run_script

KILLS = 20

HEADROOM = 10
"""How many bytes a program may note beyond those after which it is killed: on a busy machine it would end."""

PROGRAM = """
    import math, os, sys, time
    from amltk.scheduling import Retry, Scheduler

    folder, computed = sys.argv[1:] if len(sys.argv) > 1 else (FOLDER, COMPUTED)

    limit = float(os.environ.get("LIMIT", math.inf))

    def note(text):
        while os.path.getsize(computed) >= limit:
            time.sleep(0.001)  # until it is killed
        with open(computed, "ab", buffering=0) as file:
            file.write(text.encode() + b"\\n")

    def train(number, x):
        if number % 7 == 3:
            raise ValueError(number)
        note(f"train {number}")
        return x * x

    def stage(number):
        note(f"stage {number}")
        return -number

    scheduler = Scheduler.with_processes(2)
    search = scheduler.task(train, plugins=Retry(ValueError, attempts=2, wait=0.01, jitter=0))
    stages = scheduler.task(stage)
    told, trials, later = [], {}, []

    def proposals():
        for number in range(100):
            best = min(trials.values(), default=1.0)
            yield {"number": number, "x": best * scheduler.random.uniform(0.5, 1.5)}

    @search.on_result
    def on_result(future, score):
        trials[future.number] = score
        told.append(("result", future.kwargs["number"], score))
        if len(trials) % 4 == 0:
            later.append(stages.submit(len(trials)))
        if len(trials) % 10 == 0 and not later[-1].done():
            later[-1].cancel()

    @search.on_exception
    def on_exception(future, error):
        told.append(("exception", future.kwargs["number"], str(error)))
        scheduler.call_later(0.02, told.append, "later")

    @stages.on_result
    def on_stage(future, value):
        told.append(("stage", value))

    @stages.on_cancelled
    def on_cancelled(future):
        told.append(("cancelled", future.args))

    @scheduler.on_finished(replay=False)
    def on_finished():
        print("live")

    search.map(proposals(), in_flight=4, unpack="kwargs")
    state = scheduler.run(journal=folder, on_exception="continue", on_cancelled="continue")
    print(state.code, state.exceptions, told)
"""


@pytest.fixture
def program(tmp_path: Path) -> tuple[str, Path, Path]:
    folder, computed = tmp_path / "search", tmp_path / "computed"
    computed.touch()
    names = f"FOLDER, COMPUTED = {str(folder)!r}, {str(computed)!r}\n"
    return names + "\n".join(line[4:] for line in PROGRAM.splitlines()), folder, computed


def returned(folder: Path) -> set[str]:
    """Return the search calls that have a result in the journal."""
    calls = amltk.journal.open(folder).calls() if (folder / "journal.log").exists() else []
    return {call.arguments for call in calls if call.state == "result" and call.task == "train"}


def kill(source: str, computed: Path, after: int) -> Ended | None:
    """Start the program, and kill it once it has computed some more; return None if it was killed."""
    before = computed.stat().st_size
    with Script(source, env={"LIMIT": str(before + after + HEADROOM)}) as script:
        deadline = time.monotonic() + GUARD
        while script.process.poll() is None and computed.stat().st_size < before + after:
            assert time.monotonic() < deadline, script.report()
            time.sleep(0.001)
        if script.process.poll() is not None:
            return script.end()
        script.process.kill()
        script.process.wait()
        while script.session():
            assert time.monotonic() < deadline, "it left processes behind"
            time.sleep(0.01)
    return None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_suspends(program: tuple[str, Path, Path], signum: signal.Signals) -> None:
    """Ctrl-C, which the workers get as well, and SIGTERM suspend: in the next session no call has ended by them."""
    source, folder, computed = program
    with Script(source) as script:
        deadline = time.monotonic() + GUARD
        while computed.stat().st_size < 60:
            assert time.monotonic() < deadline, script.report()
            time.sleep(0.001)
        script.send_to_all(signum)
        script.end()
    ended = run_script(source)
    assert ended.code == 0, ended.errors
    calls = amltk.journal.open(folder).calls()
    assert {call.error for call in calls if call.state != "cancelled"} == {None, "ValueError"}
    assert run_script(source).lines == ended.lines[1:]


def test_killed_again_and_again(program: tuple[str, Path, Path]) -> None:
    """Wherever it is killed, it resumes; what has returned is not computed again; its journal agrees."""
    source, folder, computed = program
    choose = random.Random(7)
    kills, known = 0, []  # what had returned, and how much had been computed by then
    while kills < KILLS:
        ended = kill(source, computed, choose.randrange(1, 25))
        if ended is not None:
            break
        kills += 1
        known.append((returned(folder), computed.stat().st_size))
    first = ended if ended is not None else run_script(source)
    assert first.code == 0, first.errors
    assert kills == KILLS
    log = computed.read_bytes()
    for arguments, size in known:
        again = {line for line in log[size:].decode().splitlines() if line.startswith("train")}
        assert not {f"(number={line.split()[1]}," for line in again} & {text.split(" ")[0] for text in arguments}
    second = run_script(source)
    assert second.code == 0, second.errors
    assert computed.read_bytes() == log
    assert first.lines[0] == "live"
    assert second.lines == first.lines[1:]
