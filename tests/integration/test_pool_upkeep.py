"""Workers that are idle for long end, and those that have grown are replaced, at no cost to any call."""

from __future__ import annotations

import os
import threading
from typing import Any

import psutil
import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import IS_FREE_THREADED, METHODS, wait_for

MIB = 1 << 20

kept: list[Any] = []


def leak(n_mebibytes: int) -> int:
    kept.append(bytearray(os.urandom(MIB)) * n_mebibytes)
    return os.getpid()


def make_garbage(n_mebibytes: int) -> int:
    cycle: list[Any] = [bytearray(os.urandom(MIB)) * n_mebibytes]
    cycle.append(cycle)
    return os.getpid()


@pytest.mark.parametrize("method", METHODS)
def test_idle_workers_end_and_come_back(method: str) -> None:
    """Idle workers end; busy ones do not, however long their calls take."""
    with Gate() as gate, ProcessPool(2, method, idle_timeout=0.05) as pool:
        running = pool.submit(pass_gate, gate.address)
        gate.wait_begun()
        idle = pool.submit(os.getpid).result(GUARD)
        wait_for(lambda: not psutil.pid_exists(idle))
        assert pool.submit(os.getpid).result(GUARD) != idle
        gate.open()
        running.result(GUARD)
        wait_for(lambda: not pool._engine._dispatcher.slots)
        assert pool.submit(os.getpid).result(GUARD) != idle


def test_a_pool_whose_workers_come_and_go_loses_no_call() -> None:
    """Workers end while several threads submit calls."""
    pauses = threading.Event()

    def use() -> None:
        for n in range(40):
            assert pool.submit(abs, -n).result(GUARD) == n
            pauses.wait(0.002 * (n % 4))

    with ProcessPool(3, idle_timeout=0.001) as pool:
        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(GUARD)
        assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_has_grown_is_replaced(method: str) -> None:
    """It is replaced after its call; prefetched calls are still computed."""
    inherited = psutil.Process().memory_info().rss if method == "fork" else 0
    limit = inherited + 200 * MIB
    with ProcessPool(1, method, max_worker_memory=limit) as pool:
        futures = [pool.submit(leak, limit // MIB + 100), *(pool.submit(os.getpid) for _ in range(20))]
        first, *others = [future.result(GUARD) for future in futures]
        wait_for(lambda: not psutil.pid_exists(first))
        assert pool.submit(os.getpid).result(GUARD) != first
        assert set(others) - {first} or pool.submit(os.getpid).result(GUARD) != first


@pytest.mark.skipif(IS_FREE_THREADED, reason="its allocator gives freed memory back to the system some time later")
def test_garbage_does_not_count() -> None:
    """Garbage is collected before a worker would be replaced because of it."""
    with ProcessPool(1, max_worker_memory="300 MB") as pool:
        first = pool.submit(make_garbage, 600).result(GUARD)
        assert {pool.submit(os.getpid).result(GUARD) for _ in range(10)} == {first}


def test_schedulers_take_both(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = Scheduler.with_processes(1, idle_timeout="0.05 s", max_worker_memory="10 GB")
    task = scheduler.task(os.getpid)
    pids: list[int] = []
    scheduler.on_start(task.submit)
    task.on_result(lambda future, pid: pids.append(pid) or (len(pids) == 2 and scheduler.stop()))

    @task.on_result(max_calls=1)
    def go_on(future: Any, pid: int) -> None:
        if psutil.pid_exists(pid):
            scheduler.call_later(0.01, go_on, future, pid)
        else:
            task.submit()

    assert scheduler.run(display=False, end_on_empty=False).code.name == "STOPPED"
    assert len(set(pids)) == 2
    assert not caplog.records


@pytest.mark.parametrize(
    "options", [{"idle_timeout": 0}, {"idle_timeout": "soon"}, {"max_worker_memory": 0}, {"max_worker_memory": "much"}]
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises((TypeError, ValueError), match=f"{name}="):
        Scheduler.with_processes(1, **options)
