"""Losing a worker, or what starts it, costs one call and leaves no process behind."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, Future, as_completed
from pathlib import Path
from typing import Any

import psutil
import pytest

from amltk.exceptions import (
    PoolBrokenError,
    WorkerLostError,
)
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD
from tests.helpers.workers import METHODS, identity, kill_me, wait_for


def end_myself_by(number: int) -> None:
    os.kill(os.getpid(), number)


def segfault() -> None:
    ctypes.string_at(0)


def close_everything() -> None:
    os.closerange(3, 100)


def write_garbage_into_sockets() -> None:
    for descriptor in range(3, 100):
        try:
            os.write(descriptor, b"garbage " * 100)
        except OSError:
            continue
    time.sleep(GUARD)


def fail() -> None:
    raise ValueError("of the initializer")


def fork_and_return() -> int:
    if os.fork() == 0:
        return 0
    return os.wait()[1]


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (kill_me, "SIGKILL"),
        (segfault, "SIGSEGV"),
        (lambda: os._exit(3), "exit code 3"),
        (close_everything, "worker"),
        (write_garbage_into_sockets, "worker"),
    ],
    ids=["sigkill", "segfault", "exit", "closed-sockets", "garbage-in-sockets"],
)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])  # a fork has the test runner's own files as well
def test_a_lost_worker_costs_one_call(method: str, fn: Any, says: str) -> None:
    """The running call fails with an error that says how, where and what; all others succeed."""
    with ProcessPool(2, mp_context=method) as pool:
        before = [pool.submit(identity, n) for n in range(50)]
        bad = pool.submit(fn)
        after = [pool.submit(identity, n) for n in range(50)]
        assert [future.result(GUARD) for future in before + after] == [*range(50), *range(50)]
        with pytest.raises(WorkerLostError, match=says) as caught:
            bad.result(GUARD)
        assert str(caught.value.pid) in str(caught.value)
        assert fn.__name__ in str(caught.value)
        assert pool.submit(identity, 7).result(GUARD) == 7


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="there are no signals without a name here")
def test_a_signal_without_a_name_costs_one_call() -> None:
    """A worker that ends by any of the system's signals is reported."""
    with ProcessPool(1) as pool:
        number = signal.SIGRTMIN + 5
        with pytest.raises(WorkerLostError, match=f"ended by signal {number}"):
            pool.submit(end_myself_by, number).result(GUARD)
        assert pool.submit(identity, 1).result(GUARD) == 1


def test_output_of_a_call_does_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is written to the standard streams is only output."""
    with ProcessPool(1) as pool:
        pool.submit(os.write, 1, b"\xa7garbage").result(GUARD)
        assert pool.submit(identity, 1).result(GUARD) == 1


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_keeps_failing_breaks_the_pool(method: str) -> None:
    """It is tried three times; then all calls fail with its traceback, including later ones."""
    with ProcessPool(2, mp_context=method, initializer=fail) as pool:
        future = pool.submit(identity, 1)
        with pytest.raises(PoolBrokenError, match="of the initializer") as caught:
            future.result(GUARD)
        assert "in fail" in str(caught.value.__cause__.__cause__)
        with pytest.raises(BrokenExecutor, match="of the initializer"):
            pool.submit(identity, 1)


def test_a_killed_fork_server_is_replaced() -> None:
    """Its workers end with it, and so do their running calls; a new server's workers compute the rest."""
    with ProcessPool(2) as pool:
        running = pool.submit(time.sleep, GUARD)
        wait_for(running.running)
        server = psutil.Process(pool.worker_pids[0]).ppid()
        assert psutil.Process(server).ppid() == os.getpid()
        waiting = [pool.submit(identity, n) for n in range(20)]
        os.kill(server, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            running.result(GUARD)
        ended = [future.exception(GUARD) for future in waiting]
        assert sum(error is not None for error in ended) <= 1
        assert pool.submit(identity, 7).result(GUARD) == 7


def test_an_initializer_that_hangs_can_be_ended() -> None:
    """A run with a timeout ends in time even though no worker ever became ready."""
    scheduler = Scheduler.with_processes(1, initializer=time.sleep, initargs=(GUARD,))
    scheduler.on_start(lambda: scheduler.submit(identity, 1))
    state = scheduler.run(timeout=0.2, wait=False)
    assert state.code is ExitState.Code.TIMEOUT
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1


def test_a_fork_inside_of_a_call() -> None:
    """The forked child does not send a result in place of its parent."""
    with ProcessPool(1) as pool:
        assert pool.submit(fork_and_return).result(GUARD) == 0
        assert pool.submit(identity, 1).result(GUARD) == 1


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_when_the_parent_is_killed(method: str, tmp_path: Path) -> None:
    """After kill -9 of the process that owns the pool, no worker or fork server survives."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from amltk.scheduling.executors import ProcessPool\n"
        f"pool = ProcessPool(2, mp_context={method!r})\n"
        "def work():\n"
        "    while True: pass\n"
        "calls = [pool.submit(work) for _ in range(2)]\n"
        "while not all(call.running() for call in calls): time.sleep(0.01)\n"
        "print('ready', flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        below = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        assert len(below) == {"forkserver": 3, "spawn": 3, "fork": 4}[method]  # with what they were started by
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below))


def test_exactly_once_while_workers_are_killed(tmp_path: Path) -> None:
    """Each call has one ending; only those that ran on a killed worker fail, and none begins twice."""
    number, between_kills = 10_000, 500
    begun = tmp_path / "begun"
    kills = 0
    endings: list[Future[Any]] = []
    generator = random.Random(1)

    with ProcessPool(2) as pool:

        def kill_now_and_then(future: Future[Any]) -> None:
            """Kill by the number of ended calls, not by the clock, so that a busy machine makes no difference."""
            nonlocal kills
            endings.append(future)
            if len(endings) % between_kills == 0 and (pids := pool.worker_pids):
                try:
                    os.kill(generator.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    return
                kills += 1

        futures = [pool.submit(note, str(begun), n) for n in range(number)]
        for future in futures:
            future.add_done_callback(kill_now_and_then)
        lost = sum(isinstance(future.exception(GUARD), WorkerLostError) for future in as_completed(futures))
    assert len(endings) == len(set(endings)) == number
    assert all(future.exception() is None or isinstance(future.exception(), WorkerLostError) for future in futures)
    assert kills > 10
    assert 0 < lost <= kills
    starts = begun.read_text().split()
    assert len(starts) == len(set(starts)), "begun twice"
    assert len(starts) >= number - lost


def note(path: str, number: int) -> int:
    """Record outside the pool that the call has begun, and take long enough to be killed at times."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)
    time.sleep(0.0003)
    return number
