"""Calls submitted while a pool is being closed, broken or started: each is refused, or ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import deque
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.exceptions import PoolBrokenError, WorkerLostError
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


class Arrivals(deque[Any]):
    """Does something before or after each call arrives, as another thread or a signal handler might."""

    def __init__(self, before: Callable[[], object] = int, after: Callable[[], object] = int) -> None:
        self.before, self.after = before, after

    def append(self, call: Any) -> None:
        self.before()
        super().append(call)
        self.after()


def in_time(what: Callable[[], Any]) -> Any:
    """Return what `what` returns or raise what it raises; fail if it takes too long."""
    told: Future[Any] = Future()

    def work() -> None:
        try:
            told.set_result(what())
        except BaseException as error:
            told.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return told.result(GUARD)


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("end", ["shutdown", "kill_workers"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_pool_that_is_ended_in_the_middle_of_a_submission(moment: str, end: str, is_used: bool) -> None:
    """The call is refused or has an ending, and the shutdown does not hang."""
    pool = ProcessPool(1)
    if is_used:
        assert pool.submit(abs, -1).result(GUARD) == 1
    exchange: Any = pool._engine._exchange
    exchange.arrivals = Arrivals(**{moment: getattr(pool, end)})
    try:
        call = in_time(lambda: pool.submit(abs, -2))
    except RuntimeError as error:
        assert "was shut down" in str(error)  # noqa: PT017 - it may also be accepted
    else:
        assert wait([call], GUARD).done == {call}
    in_time(pool.shutdown)
    with pytest.raises(RuntimeError, match="was shut down"):
        pool.submit(abs, -3)


def test_a_refused_call_that_is_in_the_queue_already_is_not_computed() -> None:
    """A call refused just after a turn took it from the queue is not computed, and the pool still ends."""
    pool = ProcessPool(1)
    exchange: Any = pool._engine._exchange
    with Gate() as gate:
        first = pool.submit(pass_gate, gate.address, 1)
        gate.wait_begun()

        def take_it_and_close() -> None:
            with exchange.lock:
                exchange.take_arrivals()
            pool.shutdown(wait=False)

        exchange.arrivals = Arrivals(after=take_it_and_close)
        with pytest.raises(RuntimeError, match="was shut down"):
            pool.submit(pass_gate, gate.address, 2)
        gate.open()
        assert first.result(GUARD) == 1
        in_time(pool.shutdown)
        assert len(gate.pids) == 1


def test_no_call_is_sent_to_a_worker_that_was_told_to_end() -> None:
    """A call that arrives when the pool has just told its workers to end is refused, and not lost with one of them."""
    pool = ProcessPool(1)
    for n in range(3):
        assert pool.submit(abs, -n).result(GUARD) == n  # known to be pickled quickly
    exchange, (link,) = pool._engine._exchange, pool._engine._io.links.values()
    worker = psutil.Process(link.pid)
    worker.suspend()  # so that it does not end at once

    def close() -> None:
        pool.shutdown(wait=False)
        wait_for(lambda: link.hung_up_at is not None)

    exchange.arrivals = Arrivals(before=close, after=exchange.turn)
    with pytest.raises(RuntimeError, match="was shut down"):
        pool.submit(abs, -3)
    worker.resume()
    in_time(pool.shutdown)


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("end", [lambda pool: pool.shutdown(wait=False), lambda pool: pool.kill_workers()])
def test_many_threads_submit_until_the_pool_is_closed(end: Callable[[ProcessPool], None], method: str) -> None:
    """Accepted calls end, refused ones raise, and nothing is left."""
    pool = ProcessPool(2, method)
    accepted: list[Future[Any]] = []
    refused: list[str] = []

    def submit() -> None:
        try:
            while True:
                accepted.extend(pool.submit(abs, -1) for _ in range(20))
                wait(accepted[-1:], GUARD)  # so that they do not pile up
        except RuntimeError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    pool.submit(abs, -1).result(GUARD)
    end(pool)
    for thread in threads:
        thread.join(GUARD)
    assert not any(thread.is_alive() for thread in threads)
    assert wait(accepted, GUARD).not_done == set()
    assert refused == ["cannot schedule new futures after shutdown: this ProcessPool was shut down"] * 4
    in_time(pool.shutdown)


def test_a_call_that_arrives_during_a_turn_does_not_wait_for_the_callbacks_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pool's thread sends it while the loop is busy with what the turn has received."""
    pool = ProcessPool(2)
    late: list[Any] = []
    results: list[int] = []
    handle = WorkerIO.handle

    def handle_while_another_submits(io: Any, events: Any) -> None:
        handle(io, events)
        if io.outcomes and not late and threading.current_thread() is threading.main_thread():
            another = threading.Thread(target=lambda: late.append(pool.submit(abs, -2)))
            another.start()
            another.join(GUARD)

    async def run() -> None:
        assert pool.attach(asyncio.get_running_loop(), lambda put: put())
        while not results:
            call = pool.submit(abs, -1)
            call.add_done_callback(lambda _: results.append(late[0].result(GUARD)) if late else None)
            await asyncio.wrap_future(call)
        pool.detach()

    monkeypatch.setattr(WorkerIO, "handle", handle_while_another_submits)
    asyncio.run(run())
    assert results == [2]
    pool.shutdown()


@pytest.mark.parametrize("is_to_end", [False, True])
def test_a_starter_dies_while_several_workers_are_not_ready(is_to_end: bool) -> None:
    """That is one failed start; the third in succession breaks the pool, also one whose run is to end."""
    with Gate() as gate:
        pool = ProcessPool(3, initializer=pass_gate, initargs=(gate.address,))
        calls = [pool.submit(abs, -n) for n in range(3)]
        if is_to_end:
            pool.expect_end()
        for n in range(3):
            assert not any(call.done() for call in calls)
            pids = gate.wait_begun(3 * n + 3)[3 * n :]
            (server,) = {psutil.Process(pid).ppid() for pid in pids}
            os.kill(server, signal.SIGKILL)
        for call in calls:
            assert isinstance(call.exception(GUARD), PoolBrokenError)
        in_time(pool.shutdown)
        assert pool.worker_pids == []


def test_a_run_that_drains_survives_its_starter() -> None:
    """If the process that starts workers dies while a stopped run waits for its calls, only running ones are lost."""
    scheduler = Scheduler.with_processes(2)
    results, lost = [], []
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.on_future_exception(lambda _, error: lost.append(error))
    with Gate() as gate:

        @scheduler.on_start
        def begin() -> None:
            for _ in range(2):
                scheduler.submit(pass_gate, gate.address)
            for n in range(20):
                scheduler.submit(abs, -n)

        @scheduler.on_finishing
        def kill_starter() -> None:
            for pid in {psutil.Process(pid).ppid() for pid in gate.wait_begun(2)}:
                os.kill(pid, signal.SIGKILL)

        gate.when_begun(2, scheduler.stop)
        scheduler.run(display=False, on_exception="continue")
    assert sorted(results) == list(range(20))
    assert [type(error) for error in lost] == [WorkerLostError] * 2


class Interrupted(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("is_started", [False, True])
def test_the_start_of_the_pools_thread_is_interrupted(is_started: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call is computed, and only one such thread exists."""
    start = threading.Thread.start

    def interrupt(thread: threading.Thread) -> None:
        if is_started:
            start(thread)
        raise Interrupted

    with ProcessPool(1) as pool:
        with monkeypatch.context() as patches:
            patches.setattr(threading.Thread, "start", interrupt)
            with pytest.raises(Interrupted):
                pool.submit(abs, -1)
        assert pool.submit(abs, -2).result(GUARD) == 2
        assert sum(thread.name == "amltk-process-pool" for thread in threading.enumerate()) == 1
