"""Which worker gets which call, and when: no call waits behind a long one, and calls can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from amltk.exceptions import (
    WallTimeLimitError,
)
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import CallLimits, ProcessPool
from amltk.scheduling.executors.process_pool._engine import pool_thread
from amltk.scheduling.executors.process_pool._state import dispatcher
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import METHODS, identity, wait_for


def touch(path: str, seconds: float = 0.0) -> int:
    """Record outside the pool that the call has begun."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.parametrize("at_once", [1, 2000])
def test_nothing_waits_behind_a_long_call(tmp_path: Path, at_once: int) -> None:
    """After short calls have made the pool send batches, two long calls among short ones run at the same time.

    This also holds if the short calls needed only one worker, so that the second one has yet to be started.
    """
    with ProcessPool(2) as pool:
        for _ in range(0, 2000, at_once):
            for future in [pool.submit(identity, n) for n in range(at_once)]:
                future.result(GUARD)
        first, second = tmp_path / "1", tmp_path / "2"
        calls = [pool.submit(meet, str(first), str(second))]
        calls += [pool.submit(identity, n) for n in range(20)]
        calls += [pool.submit(meet, str(second), str(first))]
        calls += [pool.submit(identity, n) for n in range(20)]
        for call in calls:
            call.result(GUARD)


def meet(mine: str, other: str) -> None:
    """Return when the other one runs as well."""
    Path(mine).touch()
    while not Path(other).exists():
        time.sleep(0.001)


def test_work_goes_on_while_a_callback_blocks(tmp_path: Path) -> None:
    """While a callback blocks the loop, submitted calls run and a limit is enforced."""
    scheduler = Scheduler.with_processes(1)
    pool_calls: list[Any] = []

    @scheduler.on_start
    def block() -> None:
        for n in range(20):
            scheduler.submit(touch, str(tmp_path / str(n)))
        pool = scheduler.executor
        assert isinstance(pool, ProcessPool)
        pool_calls.append(pool.submit_limited(CallLimits(wall_time=0.05), time.sleep, GUARD))
        wait_for(lambda: pool_calls[0].done())
        assert all((tmp_path / str(n)).exists() for n in range(20))

    scheduler.run()
    assert isinstance(pool_calls[0].exception(), WallTimeLimitError)
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 20


def test_cancelling(tmp_path: Path) -> None:
    """A waiting call never begins; a running one loses only its own worker; an ended one cannot be cancelled."""
    with ProcessPool(1) as pool:
        running = pool.submit(touch, str(tmp_path / "running"), GUARD)
        waiting = [pool.submit(touch, str(tmp_path / f"waiting{n}")) for n in range(5)]
        wait_for(running.running)
        assert not waiting[0].running()
        assert waiting[0].cancel()
        assert waiting[3].cancel()
        pid = pool.worker_pids[0]
        assert running.cancel()
        assert running.cancelled()
        assert [waiting[n].result(GUARD) for n in (1, 2, 4)]
        wait_for(lambda: not psutil.pid_exists(pid))
        assert not (tmp_path / "waiting0").exists()
        assert not (tmp_path / "waiting3").exists()
        assert not waiting[1].cancel()


def test_a_call_behind_one_that_was_cancelled_is_computed() -> None:
    """A cancelled call that waits in front of another does not take its place when a worker becomes available."""
    with Gate() as gate, ProcessPool(1, initializer=pass_gate, initargs=(gate.address,)) as pool:
        waiting = pool.submit(abs, -1)
        gate.wait_begun()
        assert waiting.cancel()
        behind = pool.submit(abs, -2)
        gate.open()
        assert behind.result(GUARD) == 2


def test_states_and_times_are_true() -> None:
    """A call is running from the moment its worker begins it, and knows when and where that was."""
    with Gate() as gate, ProcessPool(1) as pool:
        before = time.time()
        first, second = pool.submit(pass_gate, gate.address), pool.submit(os.getpid)
        gate.wait_begun()
        assert first.running()
        assert not second.running()
        opened = time.time()
        gate.open()
        pid = second.result(GUARD)
        assert not first.running()
        assert first.pid == second.pid == pid
        assert first.began is not None
        assert first.ended is not None
        assert second.began is not None
        assert before <= first.began <= opened <= first.ended
        assert first.ended <= second.began <= time.time()


@pytest.mark.parametrize("method", METHODS)
def test_workers_are_replaced_after_so_many_calls(method: str) -> None:
    """No worker runs more calls than it may, and all calls are computed."""
    with ProcessPool(2, mp_context=method, max_tasks_per_child=5) as pool:
        pids = [future.result(GUARD) for future in [pool.submit(os.getpid) for _ in range(100)]]
    assert max(pids.count(pid) for pid in set(pids)) <= 5


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_was_stopped_computes_nothing_twice(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent to a worker that is stopped, and was taken back and computed by another, is dropped by the first.

    That happens more often than there are generations of tokens.
    """
    monkeypatch.setattr(dispatcher, "GENERATIONS", 8)
    taken_back: list[bool] = []
    take_back = dispatcher.Dispatcher.take_back

    def note(*args: Any) -> bool:
        taken_back.append(take_back(*args))
        return taken_back[-1]

    monkeypatch.setattr(dispatcher.Dispatcher, "take_back", note)
    folder = tmp_path / "begun"
    folder.mkdir()
    with Gate() as gate, contextlib.ExitStack() as stack:
        pool = ProcessPool(2, method)
        stack.callback(pool.kill_workers)  # calls for whose tokens it computes others never end
        both = [pool.submit(pass_gate, gate.address) for _ in range(2)]
        gate.wait_begun(2)
        gate.open()
        for call in both:
            call.result(GUARD)
        for n in range(100):  # short calls, which are sent in advance
            pool.submit(identity, n).result(GUARD)
        stopped = psutil.Process(pool.worker_pids[0])
        stopped.suspend()
        wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED)
        taken_back.clear()
        calls: list[Any] = []
        while not any(taken_back) and len(taken_back) < 30:
            last = [pool.submit(touch, str(folder / str(len(calls) + n))) for n in range(4)]
            calls += last
            wait_for(partial(are_shared, last, taken_back, len(taken_back)))
        monkeypatch.setattr(dispatcher.Dispatcher, "to_share", lambda _: None)  # from now on nothing is taken back
        calls += [pool.submit(touch, str(folder / str(len(calls) + n))) for n in range(100)]
        stopped.resume()
        for call in calls:
            call.result(GUARD)
    assert {len(file.read_text().split()) for file in folder.iterdir()} == {1}
    assert len(list(folder.iterdir())) == len(calls)


def are_shared(calls: list[Any], taken_back: list[bool], before: int) -> bool:
    """Whether calls were taken back meanwhile, or have ended, but for one that the worker that is stopped may keep."""
    return len(taken_back) > before or sum(not call.done() for call in calls) <= 1


def test_map() -> None:
    """Results come in the order of the arguments; an invalid chunk size is rejected."""
    with ProcessPool(2) as pool:
        assert list(pool.map(pow, range(100), range(100), chunksize=7)) == [n**n for n in range(100)]
        with pytest.raises(ValueError, match="chunksize=0"):
            pool.map(pow, [1], [2], chunksize=0)


def test_nothing_waits_behind_a_long_call_while_a_callback_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free worker gets a waiting call, although the loop is still in a callback of the call that just ended there."""
    monkeypatch.setattr(dispatcher, "MIN_WORK_TO_WAKE_SECONDS", 0)  # each worker gets its half
    soon = pool_thread.LOOP_IDLE_SECONDS

    async def run(pool: ProcessPool) -> None:
        assert pool.attach(asyncio.get_running_loop(), lambda put: put())
        results: list[int] = []

        def take_over_after(seconds: float) -> None:
            """Have the pool's thread, which would block in the callback as well, make no turn earlier than this."""
            monkeypatch.setattr(pool_thread, "LOOP_IDLE_SECONDS", seconds)
            pool._engine._thread_wakeup.set()

        take_over_after(GUARD)
        for n in range(10):
            for _ in range(10):
                await asyncio.wrap_future(pool.submit(identity, 0))
            pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
            with Gate() as gate:
                short = [pool.submit(identity, 0) for _ in range(2)]
                long = pool.submit(pass_gate, gate.address)
                behind = pool.submit(identity, n)

                def wait(_: Any, gate: Gate = gate, behind: Any = behind) -> None:
                    take_over_after(soon)
                    try:
                        results.append(behind.result(GUARD))
                    finally:
                        take_over_after(GUARD)
                        gate.open()

                short[1].add_done_callback(wait)
                await asyncio.wrap_future(long)
        assert results == list(range(10))
        pool.detach()

    with Gate() as both, ProcessPool(2) as pool:
        calls = [pool.submit(pass_gate, both.address) for _ in range(2)]
        both.wait_begun(2)
        both.open()
        for call in calls:
            call.result(GUARD)
        asyncio.run(run(pool))


def test_a_call_that_has_ended_unseen_cannot_be_cancelled() -> None:
    """Its worker is running a later call, which is not lost."""
    holding = [threading.Event(), threading.Event()]
    going_on = [threading.Event(), threading.Event()]

    def hold(number: int) -> None:
        holding[number].set()
        assert going_on[number].wait(GUARD)

    with Gate() as open_gate, Gate() as before, Gate() as gate, ProcessPool(1) as pool:
        open_gate.open()
        for n in range(100):
            pool.submit(identity, n).result(GUARD)
            pool.submit(pass_gate, open_gate.address).result(GUARD)  # known to be pickled quickly
        pool.submit(identity, 0).add_done_callback(lambda _: hold(0))  # on the pool's thread
        assert holding[0].wait(GUARD)
        first = pool.submit(identity, 0)
        first.add_done_callback(lambda _: hold(1))
        calls = [pool.submit(pass_gate, before.address, 1), pool.submit(identity, 2)]
        calls.append(pool.submit(pass_gate, gate.address, 3))
        pool._engine._dispatcher.expected = 1e-5  # short calls, also on a busy machine: they are sent at once
        going_on[0].set()
        assert holding[1].wait(GUARD)
        before.open()
        gate.wait_begun()  # the thread has seen nothing of this
        try:
            assert not calls[1].cancel()
        finally:
            going_on[1].set()
        gate.open()
        assert [call.result(GUARD) for call in calls] == [1, 2, 3]
