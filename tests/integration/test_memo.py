"""Memo with real workers: sessions in sequence, in parallel, and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Limits, Memo, Retry, Scheduler
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.script import Script, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

PROGRAM = """
import os, sys
from pathlib import Path
from amltk.scheduling import Memo, Scheduler
from tests.helpers.gate import pass_gate

class Result:
    def __init__(self, x):
        self.x = x

def train(x, gate=None):
    with open({log!r}, "a") as log:
        log.write(f"{{x}}\\n")
    if gate is not None:
        pass_gate(gate)
    return Result(x)

if __name__ == "__main__":
    scheduler = Scheduler.with_processes(2)
    memo = Memo({folder!r}, ignore=("gate",))
    task = scheduler.task(train, plugins=memo)
    task.map({xs!r}, {gates!r})
    task.on_result(lambda future, result: print("result", result.x, type(result) is Result, flush=True))
    scheduler.run(on_exception="continue")
    print(memo.status())
"""


def program(folder: Path, xs: list[int], gate: Any = None) -> str:
    return PROGRAM.format(log=str(folder / "log"), folder=str(folder / "memo"), xs=xs, gates=[gate] * len(xs))


def computed(folder: Path) -> list[str]:
    return sorted((folder / "log").read_text().split())


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate


def test_the_next_session(tmp_path: Path) -> None:
    """A restarted program computes nothing again, and its results are of its own classes."""
    first = run_script(program(tmp_path, [1, 2, 1]))
    assert sorted(first.lines[:-1]) == ["result 1 True", "result 1 True", "result 2 True"]
    assert first.lines[-1] == "hits 0 · misses 2 · shared 1"
    second = run_script(program(tmp_path, [2, 1, 3]))
    assert sorted(second.lines[:-1]) == ["result 1 True", "result 2 True", "result 3 True"]
    assert second.lines[-1] == "hits 2 · misses 1 · shared 0"
    assert computed(tmp_path) == ["1", "2", "3"]
    assert not first.errors + second.errors


def test_a_killed_program(tmp_path: Path, gate: Gate) -> None:
    """Results delivered to a callback before kill -9 are kept; the next session computes the rest."""
    with Script(program(tmp_path, [1, 2])) as script:
        script.wait_for("result 1", "result 2")
    with Script(program(tmp_path, [1, 2, 3], gate.address)) as script:
        script.wait_for("result 1", "result 2")
        gate.wait_begun(1)
        script.send_to_all(signal.SIGKILL)
        gate.wait_gone()
    gate.open()
    ended = run_script(program(tmp_path, [1, 2, 3], gate.address))
    assert ended.lines[-1] == "hits 2 · misses 1 · shared 0"
    assert computed(tmp_path) == ["1", "2", "3", "3"]


def test_two_programs_at_once(tmp_path: Path, gate: Gate) -> None:
    """Each of two programs that run at the same time finds what the other one has stored since both began."""
    with Script(program(tmp_path, [1], gate.address)) as one:
        gate.wait_begun(1)
        other = run_script(program(tmp_path, [2]))
        assert other.lines == ["result 2 True", "hits 0 · misses 1 · shared 0"]
        gate.open()
        assert one.end().lines == ["result 1 True", "hits 0 · misses 1 · shared 0"]
    assert run_script(program(tmp_path, [1, 2])).lines[-1] == "hits 2 · misses 0 · shared 0"
    assert len(list((tmp_path / "memo").glob("*/journal.log"))) == 2


def test_what_another_program_has_kept_meanwhile(tmp_path: Path) -> None:
    """A session finds what another process stores after it has begun."""
    scheduler = Scheduler.with_threads(1)
    memo = Memo(tmp_path / "memo", key=lambda x: x)
    task = scheduler.task(double, plugins=memo)
    source = f"""
        from amltk.scheduling import Memo, Scheduler
        from tests.integration.test_memo import double
        scheduler = Scheduler.with_sequential()
        task = scheduler.task(double, plugins=Memo({str(tmp_path / "memo")!r}, key=lambda x: x))
        scheduler.on_start(lambda: task.submit(4))
        scheduler.run()
        """

    @scheduler.on_start
    def launch() -> None:
        assert run_script(source).code == 0
        task.submit(4)

    scheduler.run()
    assert memo.n_hits == 1


def double(x: int) -> int:
    return 2 * x


def pass_or_die(address: Any, folder: Path) -> str:
    """Wait at the gate; on the first attempt, kill this process."""
    first = not (folder / "begun").exists()
    (folder / "begun").touch()
    pass_gate(address)
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return "computed"


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("retry", [True, False])
def test_a_lost_worker(tmp_path: Path, gate: Gate, method: Any, retry: bool) -> None:
    """If the worker of a shared computation is lost, the other calls get the result of the next attempt."""
    memo = Memo(tmp_path / "memo")
    scheduler = Scheduler.with_processes(2, mp_context=method)
    task = scheduler.task(pass_or_die, plugins=[*([Retry()] if retry else []), memo])
    gate.when_begun(1, gate.open)
    futures: list[Any] = []
    scheduler.on_start(lambda: futures.extend(task.submit(gate.address, tmp_path) for _ in range(3)))
    assert scheduler.run(on_exception="continue").code is ExitState.Code.EXHAUSTED
    ends = [future.exception() or future.result() for future in futures]
    assert ends.count("computed") == (3 if retry else 2)
    assert task.event_counts[task.SUBMITTED] == task.event_counts[task.DONE] == 3
    assert len(gate.pids) == 2


def test_a_running_call_that_is_cancelled(tmp_path: Path, gate: Gate) -> None:
    """Cancelling the call that is being computed ends its worker, and the next call is computed."""
    scheduler = Scheduler.with_processes(2)
    task = scheduler.task(pass_gate, plugins=Memo(tmp_path / "memo"))
    futures: list[Any] = []
    scheduler.on_start(lambda: futures.extend(task.submit(gate.address, 7) for _ in range(3)))

    def cancel() -> None:
        futures[0].cancel()
        gate.open()

    gate.when_begun(1, lambda: scheduler.call_later(0, cancel))
    scheduler.run(on_cancelled="continue")
    assert [future.cancelled() for future in futures] == [True, False, False]
    assert [future.result() for future in futures[1:]] == [7, 7]
    assert len(gate.pids) == 2


def test_limits(tmp_path: Path, gate: Gate) -> None:
    """A call that waits for another has its own limit, which starts when it is computed itself."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(pass_gate, plugins=[Limits(wall_time=2), Memo(tmp_path / "memo", errors=True)])
    scheduler.on_start(lambda: [task.submit(gate.address) for _ in range(2)])
    scheduler.run(on_exception="continue")
    assert task.event_counts[Limits.WALL_TIME_LIMIT_REACHED] == task.event_counts[task.EXCEPTION] == 2
    assert len(gate.pids) == 2


@pytest.mark.parametrize("end", ["stop", "timeout"])
def test_the_end_of_a_run(tmp_path: Path, gate: Gate, end: str) -> None:
    """Calls that share a computation each end once with a run that does not wait for it."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(pass_gate, plugins=Memo(tmp_path / "memo"))
    scheduler.on_start(lambda: [task.submit(gate.address) for _ in range(3)])
    if end == "stop":
        gate.when_begun(1, lambda: scheduler.stop())
    scheduler.run(wait=False, timeout=None if end == "stop" else 0.5)
    assert task.event_counts[task.CANCELLED] == 3
    assert task.n_pending == 0


@pytest.mark.parametrize("make", [lambda: Scheduler.with_threads(4), lambda: Scheduler.with_processes(2)])
def test_many_threads(tmp_path: Path, make: Callable[[], Scheduler]) -> None:
    """Equal calls that several threads submit at once are computed once, and all of them end."""
    scheduler = make()
    memo = Memo(tmp_path / "memo")
    task = scheduler.task(double, plugins=memo)
    results: list[int] = []
    task.on_result(lambda _, result: results.append(result))

    def submit() -> None:
        for x in range(50):
            task.submit(x % 10)

    @scheduler.on_start
    async def launch() -> None:
        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))

    scheduler.run()
    assert sorted(results) == sorted(2 * (x % 10) for x in range(50) for _ in range(4))
    assert memo.n_misses == 10
    assert memo.n_hits + memo.n_shared == 190
