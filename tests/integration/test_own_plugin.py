"""examples/own_plugin.py, as its own program and with real processes that are lost, cancelled and abandoned."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling import ExitState, Limiter, Retry, Scheduler, Task
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples/own_plugin.py"


@pytest.fixture(scope="module")
def scratch_class() -> Any:
    """The plugin of the example."""
    spec = importlib.util.spec_from_file_location("own_plugin", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Scratch


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate


def write_and_pass(address: tuple[str, int], *, scratch: Path) -> int:
    """Leave a file of five bytes, and stop at the gate."""
    (scratch / "notes").write_text("12345")
    pass_gate(address)
    return len(list(scratch.iterdir()))


def traced(task: Task[..., Any], parent: Path) -> list[Any]:
    """Record what a call left, its ending, and how many directories remain when the scheduler is empty."""
    trace: list[Any] = []
    task.on("scratch-left")(lambda future, left: trace.append(left))
    task.on_result(lambda future, result: trace.append(result))
    task.on_exception(lambda future, error: trace.append(type(error)))
    task.on_cancelled(lambda future: trace.append("cancelled"))
    task.scheduler.on_empty(lambda: trace.append(len(list(parent.glob("scratch-*/*")))))
    return trace


def test_the_example_tells_four_endings() -> None:
    """What each call leaves is reported before its ending, and nothing remains afterwards."""
    ended = run_script(EXAMPLE.read_text(), "-W", "error")
    assert (ended.code, ended.errors) == (0, "")
    # Calls that have ended at the same time may be reported together, so each is looked at alone.
    assert [line for line in ended.lines if line.startswith("return")] == [
        "return has left {'return.log': 30}",
        "return has returned 'done'",
    ]
    assert [line for line in ended.lines if line.startswith("raise")] == [
        "raise  has left {'raise.log': 25}",
        "raise  has failed, ValueError",
    ]
    assert [line for line in ended.lines if line.startswith("crash")] == [
        "crash  has left {'crash.log': 25}",
        "crash  has failed, WorkerLostError",
    ]
    assert ended.lines[-2:] == ["hang   was cancelled", "EXHAUSTED, and the scratch directories are gone"]


def test_a_worker_that_is_killed(scratch_class: Any, gate: Gate, tmp_path: Path) -> None:
    """The files of the lost call are reported before its failure; its directory is gone before @empty."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(write_and_pass, plugins=scratch_class(tmp_path))
    trace = traced(task, tmp_path)
    scheduler.on_start(lambda: task.submit(gate.address))
    gate.when_begun(1, lambda: os.kill(gate.pids[0], signal.SIGKILL))
    scheduler.run(on_exception="continue")
    assert trace == [{"notes": 5}, WorkerLostError, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_running_call_that_is_cancelled(scratch_class: Any, gate: Gate, tmp_path: Path) -> None:
    """Its files are reported before the cancellation; nothing is left of it."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(write_and_pass, plugins=scratch_class(tmp_path))
    trace = traced(task, tmp_path)
    scheduler.on_start(lambda: gate.when_begun(1, task.submit(gate.address).cancel))
    scheduler.run(on_cancelled="continue")
    assert trace[:2] == [{"notes": 5}, "cancelled"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_does_not_wait(scratch_class: Any, gate: Gate, tmp_path: Path) -> None:
    """The directories of running and waiting calls are gone when the run is over."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(write_and_pass, plugins=scratch_class(tmp_path))
    trace = traced(task, tmp_path)
    gate.when_begun(1, scheduler.stop)
    scheduler.on_start(lambda: [task.submit(gate.address) for _ in range(3)])
    assert scheduler.run(wait=False).code is ExitState.Code.STOPPED
    assert sorted(trace, key=str) == sorted([{"notes": 5}, "cancelled", "cancelled", "cancelled"], key=str)
    assert list(tmp_path.iterdir()) == []


def test_a_submission_that_a_later_plugin_refuses(scratch_class: Any, gate: Gate, tmp_path: Path) -> None:
    """Its directory is removed at once."""
    gate.open()
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(write_and_pass, plugins=[scratch_class(tmp_path), Limiter(max_calls=1)])
    there: list[int] = []

    @scheduler.on_start(repeat=2)
    def launch() -> None:
        task.submit(gate.address)
        there.append(len(list(tmp_path.glob("scratch-*/*"))))

    scheduler.run()
    assert there == [1, 1]
    assert list(tmp_path.iterdir()) == []


def test_attempts_share_the_directory(scratch_class: Any, gate: Gate, tmp_path: Path) -> None:
    """With Retry, a call keeps its directory until its last attempt, and each attempt reports what is there."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(write_and_pass, plugins=[scratch_class(tmp_path), Retry()])
    trace = traced(task, tmp_path)
    gate.when_begun(1, lambda: os.kill(gate.pids[0], signal.SIGKILL))
    gate.when_begun(2, gate.open)
    scheduler.on_start(lambda: task.submit(gate.address))
    scheduler.run()
    assert trace == [{"notes": 5}, {"notes": 5}, 1, 0]
    assert list(tmp_path.iterdir()) == []


def test_it_serves_one_task(scratch_class: Any) -> None:
    """A second task is rejected with an error that says what to do."""
    scheduler = Scheduler.with_sequential()
    plugin = scratch_class()
    scheduler.task(write_and_pass, plugins=plugin)
    with pytest.raises(ValueError, match="create another one for Task"):
        scheduler.task(write_and_pass, plugins=plugin)
