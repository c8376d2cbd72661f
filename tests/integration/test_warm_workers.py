"""Schedulers in `with` blocks: several runs use the same workers, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.resource_tracker import ensure_running
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling import ExitState, Scheduler
from tests import leaks
from tests.helpers.gate import Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Iterator


def worker(_: object = None) -> int:
    return os.getpid()


def fail() -> None:
    raise RuntimeError("a worker cannot be initialised")


def pids_of_a_run(scheduler: Scheduler, task: Any) -> set[int]:
    """Return the workers that take part when each of two calls has to wait for the other."""
    with Gate() as gate:
        gate.when_begun(2, gate.open)
        waiting = scheduler.task(pass_gate)
        assert len(list(waiting.map([gate.address] * 2).results())) == 2
        return set(gate.pids)


@pytest.fixture(autouse=True, scope="module")
def resource_tracker_runs() -> None:
    """Start the resource tracker, which starts with the first pool and stays until the program ends."""
    ensure_running()


@pytest.fixture(autouse=True)
def leaves_no_process() -> Iterator[None]:
    """Check at once, without other tests' patience; processes that tests share may start and end meanwhile."""
    before = leaks.Holdings.now().children
    yield
    assert leaks.Holdings.now().children <= before


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_runs_in_a_block_use_the_same_workers(method: Any) -> None:
    """However runs are started, the workers are those of the first one; they end with the block."""
    with Scheduler.with_processes(2, method) as scheduler:
        task = scheduler.task(worker)
        first = pids_of_a_run(scheduler, task)
        seen: set[int] = set()
        task.on_result(lambda _, pid: seen.add(pid))
        scheduler.on_start(lambda: task.submit(), max_calls=2)
        scheduler.run()
        assert asyncio.run(scheduler.async_run()) == ExitState(ExitState.Code.EXHAUSTED)
        assert seen <= first
        assert pids_of_a_run(scheduler, task) == first
    assert not any(map(psutil.pid_exists, first))


def test_a_run_that_does_not_wait_costs_the_workers_that_were_at_work() -> None:
    """The others are reused by the next run."""
    with Gate() as gate, Scheduler.with_processes(2) as scheduler:
        task = scheduler.task(worker)
        first = pids_of_a_run(scheduler, task)
        waiting = scheduler.task(pass_gate)
        scheduler.on_start(lambda: waiting.submit(gate.address), max_calls=1)
        for _ in task.map(range(1)).results():
            (lost,) = gate.wait_begun()
            break
        gate.wait_gone()
        second = pids_of_a_run(scheduler, task)
        assert lost in first
        assert first - {lost} <= second
        assert lost not in second


def test_executors_that_cannot_end_single_calls_are_renewed() -> None:
    """After a run that did not wait, the next one has a fresh executor; otherwise it has the same one."""
    gate = threading.Event()
    with Scheduler.with_threads(2) as scheduler:
        task = scheduler.task(gate.wait)
        executor = scheduler.executor
        scheduler.run()
        assert scheduler.executor is executor
        scheduler.on_start(lambda: task.submit(60), max_calls=1)
        scheduler.on_start(scheduler.stop, max_calls=1)
        scheduler.run(wait=False)
        gate.set()
        assert len(list(task.map([0]).results())) == 1
        assert scheduler.executor is not executor


def test_a_broken_executor_is_renewed() -> None:
    """An executor that broke in one run does not break the next."""
    with Scheduler.with_processes(1, initializer=fail) as scheduler:
        task = scheduler.task(worker)
        for _ in range(2):
            with pytest.raises(ExecutorBrokenError):
                list(task.map([0]).results())


def test_an_executor_of_ones_own() -> None:
    """It is shut down at the end of the block, and not by the runs in it."""
    executor = ThreadPoolExecutor(1)
    with Scheduler(executor) as scheduler:
        task = scheduler.task(worker)
        assert [len(list(task.map([0]).results())) for _ in range(2)] == [1, 1]
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(worker)
    with ThreadPoolExecutor(1) as executor:
        with Scheduler(executor, terminate=False) as scheduler:
            scheduler.run()
        assert executor.submit(worker).result() == os.getpid()


@pytest.mark.parametrize("how", ["error", "loop", "unused"])
def test_the_end_of_a_block(how: str) -> None:
    """After an error, an unfinished loop, or no run at all, nothing is left behind."""
    scheduler = Scheduler.with_processes(1)
    task = scheduler.task(worker)
    with Gate() as gate:
        if how == "error":
            with pytest.raises(ZeroDivisionError), scheduler:  # noqa: PT012 - a block
                list(task.map([0]).results())
                _ = 1 / 0
        elif how == "loop":
            with scheduler:
                calls = iter(scheduler.task(pass_gate).map([gate.address] * 9, in_flight=9).results())
                gate.when_begun(1, gate.open)
                next(calls)
        else:
            with scheduler:
                pass
    assert not scheduler.has_run()
    assert len(list(task.map([0]).results())) == 1  # outside a block, as always


def test_once_at_a_time() -> None:
    """A block within a block of the same scheduler is an error."""
    with (
        Scheduler.with_sequential() as scheduler,
        pytest.raises(RuntimeError, match="already in a `with` block"),
        scheduler,
    ):
        pass


def test_an_async_block() -> None:
    """The end of the block ends a run in the background, and waits for it."""

    async def program() -> None:
        async with Scheduler.with_processes(1) as scheduler:
            task = scheduler.task(worker)
            pids = {call.result() for _ in range(3) for call in await task.map([0]).results()}
            assert len(pids) == 1
            background = asyncio.create_task(scheduler.async_run(end_on_empty=False))
            await asyncio.sleep(0)
        assert background.done()
        assert background.result().code is ExitState.Code.STOPPED

    asyncio.run(program())


def test_a_block_with_a_run_in_another_thread() -> None:
    """The end of the block ends it as well."""
    with Scheduler.with_processes(1) as scheduler:
        began = threading.Event()
        scheduler.on_start(began.set)
        thread = threading.Thread(target=scheduler.run, kwargs={"end_on_empty": False})
        thread.start()
        began.wait()
    thread.join()
