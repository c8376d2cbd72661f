"""How a pool ends: at the end of Python, from unusual places, in the middle of transfers, and for latecomers."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

from amltk.exceptions import WallTimeLimitError, WorkerLostError
from amltk.scheduling.executors import CallLimits, ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import run_script
from tests.helpers.workers import METHODS, identity, kill_me, wait_for


@pytest.mark.parametrize(
    ("end", "code", "method"),
    [
        *(("pass", 0, method) for method in METHODS),
        ("sys.exit(3)", 3, "forkserver"),
        ("raise ValueError('of the program')", 1, "fork"),
        ("del pool; gc.collect()", 0, "forkserver"),
    ],
)
def test_accepted_calls_are_computed_at_the_end_of_python(end: str, code: int, method: str) -> None:
    """However the program ends: by itself, with an exit code, by an exception, without a reference to the pool.

    The workers are there: since 3.12, CPython forks no process any more while it ends.
    """
    ended = run_script(f"""
        import gc, sys, time
        from amltk.scheduling.executors import ProcessPool

        pool = ProcessPool(2, {method!r})
        calls = [pool.submit(time.sleep, 0.01) for _ in range(2)]
        while len(pool._engine.pids()) < 2:
            time.sleep(0.01)
        def say(future):
            print(future.result())
        for n in range(10):
            pool.submit(pow, n, 2).add_done_callback(say)
        {end}
        """)
    assert (ended.code, sorted(map(int, ended.lines))) == (code, [n * n for n in range(10)]), ended.errors
    assert ("of the program" in ended.errors) == (code == 1)


def test_a_program_need_not_wait_for_its_calls() -> None:
    """After `kill_workers` it ends at once: its running call is lost, those that wait are cancelled."""
    ended = run_script("""
        import time
        from amltk.scheduling.executors import ProcessPool

        pool = ProcessPool(1)
        calls = [pool.submit(time.sleep, 600) for _ in range(100)]
        while not calls[0].running():
            time.sleep(0.01)
        pool.kill_workers()
        print(sum(call.cancelled() for call in calls), type(calls[0].exception()).__name__)
        """)
    assert (ended.code, ended.lines) == (0, ["99 WorkerLostError"]), ended.errors


def test_the_last_worker_dies_after_the_pool_was_forgotten() -> None:
    """The call that ran there has its error, the calls that waited are computed by another worker."""
    with Gate() as gate:
        pool = ProcessPool(1)
        running = pool.submit(pass_gate, gate.address)
        (pid,) = gate.wait_begun()
        waiting = [pool.submit(identity, n) for n in range(5)]
        del pool
        gc.collect()
        os.kill(pid, signal.SIGKILL)
        assert isinstance(running.exception(GUARD), WorkerLostError)
        assert [future.result(GUARD) for future in waiting] == list(range(5))


def test_a_pool_can_be_shut_down_again_and_again() -> None:
    """In any order of its ways, also by several threads; calls that come later are refused with one clear error."""
    pool = ProcessPool(2)
    futures = [pool.submit(time.sleep, 0.01) for _ in range(20)]
    pool.shutdown(wait=False)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(future.result(GUARD) is None for future in futures)
    pool.kill_workers()
    pool.shutdown(cancel_futures=True)
    for submit in (lambda: pool.submit(abs, -1), lambda: pool.map(abs, [1]), lambda: limited(pool)):
        with pytest.raises(RuntimeError, match="shut down"):
            submit()


def limited(pool: ProcessPool) -> Any:
    return pool.submit_limited(CallLimits(wall_time=1), abs, -1)


def test_a_pool_that_was_never_used() -> None:
    """It has started no process, and its end waits for nothing."""
    pool = ProcessPool(2)
    assert pool.worker_pids == []
    pool.kill_workers()
    pool.shutdown()
    with ProcessPool(2) as pool:
        assert pool.worker_pids == []


@pytest.mark.parametrize("end", ["kill", "cancel"])
def test_an_end_in_the_middle_of_large_transfers(end: str) -> None:
    """Arguments and results of many megabytes on their way in both directions: each call ends, and nothing hangs."""
    pool = ProcessPool(2, shared_memory=0)
    data = b"x" * 20_000_000
    futures = [pool.submit(identity, data) for _ in range(8)]
    wait_for(lambda: any(future.running() or future.done() for future in futures))
    if end == "kill":
        pool.kill_workers()
    pool.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    ends = {type(outcome(future)) for future in futures}
    assert ends <= {bytes, CancelledError, WorkerLostError}


def outcome(future: Any) -> Any:
    try:
        return future.result()
    except (CancelledError, WorkerLostError) as error:
        return error


def test_calls_that_die_while_the_pool_ends() -> None:
    """Waiting calls that kill their workers, one after the other: the end waits for them all."""
    with ProcessPool(2) as pool:
        futures = [pool.submit(kill_me) for _ in range(6)] + [pool.submit(identity, n) for n in range(6)]
    assert [type(future.exception()) for future in futures[:6]] == [WorkerLostError] * 6
    assert [future.result() for future in futures[6:]] == list(range(6))


def ignore_sigterm(address: tuple[str, int]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pass_gate(address)


@pytest.mark.parametrize("how", ["cancel", "limit", "kill_workers"])
def test_a_call_that_ignores_signals_is_ended(how: str) -> None:
    """Its worker is killed, not asked."""
    with Gate() as gate, ProcessPool(1) as pool:
        limits = CallLimits(wall_time=2) if how == "limit" else CallLimits()
        future = pool.submit_limited(limits, ignore_sigterm, gate.address)
        if how == "limit":
            assert isinstance(
                future.exception(GUARD), WallTimeLimitError
            )  # a busy machine may not even get to the gate
        else:
            gate.wait_begun()
        if how == "cancel":
            assert future.cancel()
        elif how == "kill_workers":
            pool.kill_workers()
        gate.wait_gone()
        assert future.cancelled() == (how == "cancel")


def test_the_end_in_a_thread_while_the_program_ends() -> None:
    """A daemon thread that uses a pool when Python ends does no harm."""
    ended = run_script("""
        import threading
        from amltk.scheduling.executors import ProcessPool

        pool = ProcessPool(1)
        ready = threading.Event()

        def work():
            try:
                while True:
                    pool.submit(abs, -1).result()
                    ready.set()
            except RuntimeError as error:
                assert "shut down" in str(error), error

        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        print("end")
        """)
    assert (ended.code, ended.lines, ended.errors) == (0, ["end"], "")
