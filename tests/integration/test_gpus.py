"""Each call has exclusive GPUs, in real processes: checked with a stand-in for CUDA, and CUDA where available."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from amltk.exceptions import WallTimeLimitError, WorkerLostError
from amltk.scheduling import Future, Limits, Resources, Retry, Scheduler, granted
from tests.helpers import stand_in_gpu
from tests.helpers.gate import GUARD, Gate, pass_gate

METHODS = ["forkserver", "spawn", "fork"]


def use(folder: str) -> tuple[str, ...]:
    """Use the devices; they must be the granted ones."""
    seen = stand_in_gpu.devices(folder)
    assert seen == granted()["gpu"], f"{seen} are used, and {granted()} was granted"
    return seen


def use_and_crash_once(folder: str, number: int) -> tuple[str, ...]:
    seen = use(folder)
    marker = Path(folder) / f"crashed-{number}"
    if number % 5 == 0 and not marker.exists():
        marker.touch()
        os._exit(7)
    return seen


def use_too_long(folder: str) -> None:
    use(folder)
    time.sleep(60)


def use_at_gate(folder: str, address: tuple[str, int]) -> tuple[str, ...]:
    return pass_gate(address, use(folder))  # type: ignore[no-any-return]


def in_child(folder: str) -> tuple[str, str]:
    """Return the devices that a child of the call sees."""
    program = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), end='')"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return ",".join(use(folder)), seen


def variables() -> tuple[str | None, str | None]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")


@pytest.mark.parametrize("method", METHODS)
def test_no_two_processes_share_a_card(tmp_path: Path, method: Any) -> None:
    """Calls that need one or two GPUs, some of which crash their worker, never share a card with another process."""
    scheduler = Scheduler.with_processes(3, mp_context=method, resources={"gpu": ["0", "1"]})
    one = scheduler.task(use_and_crash_once, plugins=[Resources(gpu=1), Retry(lost_workers=5)])
    two = scheduler.task(use, plugins=Resources(gpu=2))
    seen: list[tuple[str, ...]] = []
    one.on_result(lambda _, result: seen.append(result))
    two.on_result(lambda _, result: seen.append(result))

    @scheduler.on_start
    def submit() -> None:
        for number in range(8):
            one.submit(str(tmp_path), number)
            if number % 4 == 3:
                two.submit(str(tmp_path))

    scheduler.run(timeout=GUARD)
    assert sorted(seen).count(("0", "1")) == 2
    assert len(seen) == 10
    assert all(pool.used == 0 for pool in scheduler.pools.named.values()) or not scheduler.pools.collect()


def test_a_cancelled_call_gives_its_card_back_when_its_worker_is_gone(tmp_path: Path) -> None:
    """The next call begins on the same card, in another process, after the first has ended."""
    scheduler = Scheduler.with_processes(2, resources={"gpu": ["0"]})
    task = scheduler.task(use_at_gate, plugins=Resources(gpu=1))
    results: list[tuple[str, ...]] = []
    task.on_result(lambda _, result: results.append(result))
    with Gate() as gate:

        @scheduler.on_start
        def submit() -> None:
            first = task.submit(str(tmp_path), gate.address)
            task.submit(str(tmp_path), gate.address)
            scheduler.call_later(0.0, cancel_when_there, first)

        def cancel_when_there(first: Future[Any]) -> None:
            if not gate.pids:
                scheduler.call_later(0.01, cancel_when_there, first)
                return
            first.cancel()
            gate.open()

        scheduler.run(timeout=GUARD, on_cancelled="continue")
        assert results == [("0",)]
        assert len(set(gate.pids)) == 2


def test_limits_and_replaced_workers_keep_cards_apart(tmp_path: Path) -> None:
    """Neither a call ended by its limit nor a worker replaced after each call leaves a process on the card."""
    scheduler = Scheduler.with_processes(2, max_tasks_per_child=1, resources={"gpu": ["0"]})
    slow = scheduler.task(use_too_long, plugins=[Resources(gpu=1), Limits(wall_time=0.3)])
    task = scheduler.task(use, plugins=Resources(gpu=1))
    errors: list[BaseException] = []
    results: list[Any] = []
    slow.on_exception(lambda _, error: errors.append(error))
    task.on_result(lambda _, result: results.append(result))

    @scheduler.on_start
    def submit() -> None:
        slow.submit(str(tmp_path))
        for _ in range(3):
            task.submit(str(tmp_path))

    scheduler.run(timeout=GUARD, on_exception={WallTimeLimitError: "continue"})
    assert [type(error) for error in errors] == [WallTimeLimitError]
    assert results == [("0",)] * 3


def test_processes_of_a_call_have_its_cards(tmp_path: Path) -> None:
    """Child processes of a call see the same devices."""
    scheduler = Scheduler.with_processes(2, resources={"gpu": ["GPU-3f", "GPU-4a"]})
    task = scheduler.task(in_child, plugins=Resources(gpu=1))
    results: list[tuple[str, str]] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.on_start(lambda: task.submit(str(tmp_path)))
    scheduler.run(timeout=GUARD)
    assert results == [("GPU-3f", "GPU-3f")]


def test_a_task_without_gpus_sees_what_the_program_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is left alone if no GPUs are specified, and empty if zero are requested."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    scheduler = Scheduler.with_processes(1, resources={"gpu": "auto", "cpu": 4})
    plain = scheduler.task(variables)
    cpus = scheduler.task(variables, plugins=Resources(cpu=1))
    none = scheduler.task(variables, plugins=Resources(gpu=0))
    some = scheduler.task(variables, plugins=Resources(gpu=2))
    results: dict[str, Any] = {}
    for name, task in (("plain", plain), ("cpus", cpus), ("none", none), ("some", some)):
        task.on_result(lambda _, result, name=name: results.update({name: result}))

    @scheduler.on_start
    def submit() -> None:
        for task in (some, plain, none, cpus):
            task.submit()

    scheduler.run(timeout=GUARD)
    assert results["plain"] == results["cpus"] == ("4,5", None)
    assert results["none"][0] == ""
    assert results["some"] == ("4,5", "PCI_BUS_ID")


def test_a_lost_worker_is_no_end_of_the_card(tmp_path: Path) -> None:
    """After all workers have been killed, calls continue on the same cards."""
    scheduler = Scheduler.with_processes(2, resources={"gpu": ["0", "1"]})
    task = scheduler.task(use_at_gate, plugins=Resources(gpu=1))
    results: list[tuple[str, ...]] = []
    task.on_result(lambda _, result: results.append(result))
    lost: list[BaseException] = []
    with Gate() as gate:

        @task.on_exception
        def again(_: object, error: BaseException) -> None:
            lost.append(error)
            task.submit(str(tmp_path), gate.address)
            if len(lost) == 2:
                gate.open()

        @scheduler.on_start
        def submit() -> None:
            for _ in range(2):
                task.submit(str(tmp_path), gate.address)
            scheduler.call_later(0.0, kill_when_there)

        def kill_when_there() -> None:
            if len(gate.pids) < 2:
                scheduler.call_later(0.01, kill_when_there)
                return
            for pid in gate.pids[:2]:
                os.kill(pid, 9)

        scheduler.run(timeout=GUARD, on_exception={WorkerLostError: "continue"})
    assert len(lost) == 2
    assert sorted(results) == [("0",), ("1",)]


def compute_on_gpu() -> tuple[int, float]:
    """Return how many GPUs this process has, and a sum computed on one of them."""
    try:
        import torch

        return torch.cuda.device_count(), float(torch.ones(1000, device="cuda").sum())
    except ImportError:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount()), float(cupy.ones(1000).sum())


def test_a_real_gpu() -> None:
    """On a machine with a GPU and torch or cupy, a call sees one device and computes on it."""
    why = "" if shutil.which("nvidia-smi") else "there is no nvidia-smi"
    if not why:
        found = [module for module in ("torch", "cupy") if importlib.util.find_spec(module)]
        why = "" if found else "neither torch nor cupy is installed"
    if why:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn(f"NO REAL GPU WAS TESTED: {why}", stacklevel=1)
        pytest.skip(f"NO REAL GPU WAS TESTED: {why}")
    scheduler = Scheduler.with_processes(2, resources={"gpu": "auto"})
    task = scheduler.task(compute_on_gpu, plugins=Resources(gpu=1))
    results: list[tuple[int, float]] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.on_start(lambda: [task.submit() for _ in range(3)])
    scheduler.run(timeout=GUARD)
    assert results == [(1, 1000.0)] * 3
