"""How a pool ends: when it is garbage-collected, when the program exits, and in the middle of everything."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import psutil
import pytest

from amltk.exceptions import (
    PoolBrokenError,
)
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD
from tests.helpers.script import run_script
from tests.helpers.workers import identity, kill_me, wait_for


def test_a_pool_that_is_forgotten_does_its_work_and_ends() -> None:
    """Without `shutdown`, submitted calls are computed, and no process is left."""
    pool = ProcessPool(1)
    future = pool.submit(identity, 1)
    del pool
    assert future.result(GUARD) == 1
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "amltk-process-pool"])


def test_python_ends_after_the_work_is_done() -> None:
    """A script that never shuts its pool down still gets its results."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool
        pool = ProcessPool(1)
        def work():
            return 42
        pool.submit(work).add_done_callback(lambda future: print(future.result()))
        """)
    assert (ended.code, ended.lines) == (0, ["42"])


def test_stopping_in_the_middle_of_everything() -> None:
    """A run stopped with short, long and crashing calls in flight leaves nothing, and its counts add up."""
    scheduler = Scheduler.with_processes(2)

    @scheduler.on_start
    def begin() -> None:
        for n in range(200):
            scheduler.submit(identity, n)
            if n % 50 == 0:
                scheduler.submit(kill_me)
                scheduler.submit(time.sleep, GUARD)
        scheduler.call_later(0.1, scheduler.stop)

    scheduler.run(wait=False, on_exception="continue")
    counts = scheduler.event_counts
    ended = counts[scheduler.FUTURE_RESULT] + counts[scheduler.FUTURE_EXCEPTION] + counts[scheduler.FUTURE_CANCELLED]
    assert counts[scheduler.FUTURE_SUBMITTED] == ended == 208


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_ends_the_pools_thread_leaves_no_call_and_no_process() -> None:
    """`SystemExit` breaks the pool, yet every call ends, including those that ended together."""
    holding, going_on = threading.Event(), threading.Event()
    pool = ProcessPool(1)
    for n in range(100):
        pool.submit(identity, n).result(GUARD)
    pids = pool.worker_pids

    def end(_: Future[Any]) -> None:
        raise SystemExit

    pool.submit(identity, 0).add_done_callback(lambda _: (holding.set(), going_on.wait(GUARD)))
    assert holding.wait(GUARD)
    calls = [pool.submit(identity, n) for n in range(300)]
    for call in calls:
        call.add_done_callback(end)
    going_on.set()
    for call in calls:
        assert isinstance(call.exception(GUARD), PoolBrokenError | None)
    pool.shutdown()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert not pool.worker_pids
