"""The process that starts workers is stopped, as by a debugger or SIGSTOP: nothing waits for it for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._system.processes import has_ended
from amltk.scheduling.executors.process_pool._workers import by_fork_server, kills, server_process
from amltk.scheduling.executors.process_pool._workers.by_fork_server import ForkServer
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind, Message
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="NOT RUN: only Linux tells what a process is doing")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait only briefly for what a stopped process will not do."""
    monkeypatch.setattr(kills, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(server_process, "END_SECONDS", 0.1)
    monkeypatch.setattr(by_fork_server, "SEND_SECONDS", 0.1)


class Stopped:
    """The process that starts the workers of a pool, which is stopped from now on."""

    def __init__(self, pool: Any) -> None:
        self.starter: Any = pool._engine._manager._starts._starter
        self.process = psutil.Process(self.starter._process._process.pid)
        self.process.suspend()
        wait_for(lambda: self.process.status() == psutil.STATUS_STOPPED)

    def has_ended(self) -> bool:
        return has_ended(self.process.pid)


@pytest.fixture
def large_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process has no room for a whole request: workers begin with much."""
    monkeypatch.setattr(sys, "argv", [str(n) * 300 for n in range(1000)])
    for n in range(20):
        monkeypatch.setenv(f"AMLTK_TEST_{n}", "x" * 50_000)


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(2) as pool:
        yield pool


def test_a_kill_ends_all_calls_and_that_process(pool: ProcessPool) -> None:
    """Running calls are lost, waiting ones are cancelled, and no process is left."""
    with Gate() as gate:
        calls = [pool.submit(pass_gate, gate.address) for _ in range(4)]
        workers = gate.wait_begun(2)
        stopped = Stopped(pool)
        pool.kill_workers()
        assert [type(call.exception(GUARD)) for call in calls if not call.cancelled()] == [WorkerLostError] * 2
        assert sum(call.cancelled() for call in calls) == 2
    assert stopped.has_ended()
    assert all(map(has_ended, workers))


def test_a_worker_that_was_not_started_yet_is_given_up(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for once to be given up, however long that takes."""
    assert pool.submit(abs, -1).result(GUARD) == 1
    stopped = Stopped(pool)
    with Gate() as gate:
        calls = [pool.submit(pass_gate, gate.address) for _ in range(3)]
        gate.wait_begun(1)
        manager: Any = pool._engine._manager  # type: ignore[attr-defined]
        wait_for(lambda: sum(not link.pid for link in list(manager._pool.links.values())) == 1)
        asked: list[int] = []
        starter = manager._starts._starter
        abandon = starter.abandon
        monkeypatch.setattr(starter, "abandon", lambda number: (asked.append(number), abandon(number)))
        pool.kill_workers()
        assert sum(call.cancelled() for call in calls) == 2
        assert isinstance(next(call for call in calls if not call.cancelled()).exception(GUARD), WorkerLostError)
    assert len(asked) == 1
    assert stopped.has_ended()


def test_nothing_waits_for_the_end_of_a_worker_that_was_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of the pool does not wait for `exit_timeout`, which is for workers that there are."""

    def stop_and_start(self: Any, *request: Any) -> None:
        self._process._process.send_signal(signal.SIGSTOP)
        start(self, *request)

    start = ForkServer.start
    monkeypatch.setattr(ForkServer, "start", stop_and_start)
    pool: Any = ProcessPool(1, exit_timeout="1 h")
    call = pool.submit(abs, -1)
    wait_for(lambda: pool._engine._manager._pool.links)
    assert call.cancel()
    pool.shutdown(wait=False)
    try:
        wait_for(lambda: not pool._engine._thread._thread.is_alive())
    finally:
        pool.kill_workers()


def test_a_worker_that_was_given_up_is_killed_before_it_has_run(pool: ProcessPool) -> None:
    """It does not have its own process group then."""
    manager: Any = pool._engine._manager  # type: ignore[attr-defined]
    with subprocess.Popen(["sleep", "600"]) as late:
        manager._deaths.note_reports([Message(Kind.STARTED, 999, late.pid)])
        try:
            assert late.wait(GUARD) == -signal.SIGKILL
        finally:
            late.kill()


class HalfSent(NamedTuple):
    """A pool whose request to start a worker was sent only in part, as the process that it is for is stopped."""

    pool: ProcessPool
    stopped: Stopped
    gate: Gate
    calls: list[Future[Any]]


@pytest.fixture(params=["forkserver", "spawn"])
def half_sent(request: pytest.FixtureRequest, large_requests: None) -> Iterator[HalfSent]:
    with ProcessPool(2, request.param) as pool, Gate() as gate:
        assert pool.submit(abs, -1).result(GUARD) == 1
        stopped = Stopped(pool)
        calls = [pool.submit(pass_gate, gate.address) for _ in range(2)]
        wait_for(lambda: stopped.starter._rest)
        yield HalfSent(pool, stopped, gate, calls)


def test_a_large_request_is_not_waited_for(half_sent: HalfSent) -> None:
    """A kill ends all calls."""
    half_sent.pool.kill_workers()
    assert all(call.done() for call in half_sent.calls)
    assert half_sent.stopped.has_ended()


def test_the_rest_of_a_large_request_follows(half_sent: HalfSent) -> None:
    """Once that process goes on."""
    half_sent.stopped.process.resume()
    half_sent.gate.wait_begun(2)
    half_sent.gate.open()
    for call in half_sent.calls:
        call.result(GUARD)


def test_a_worker_that_dies_costs_its_call_and_the_pool_goes_on(pool: ProcessPool) -> None:
    """Its call ends, others do not notice, and once that process goes on, so does the pool."""
    with Gate() as gate:
        calls = [pool.submit(pass_gate, gate.address) for _ in range(2)]
        workers = gate.wait_begun(2)
        stopped = Stopped(pool)
        os.kill(workers[0], signal.SIGKILL)
        wait_for(lambda: any(call.done() for call in calls))
        (lost,) = (call for call in calls if call.done())
        (other,) = (call for call in calls if not call.done())
        assert isinstance(lost.exception(), WorkerLostError)
        stopped.process.resume()
        new = pool.submit(abs, -2)
        assert new.result(GUARD) == 2
        gate.open()
        other.result(GUARD)


def test_a_run_that_does_not_wait_ends() -> None:
    """It says how it has ended, and no process is left."""
    scheduler = Scheduler.with_processes(2)
    with Gate() as gate:
        task = scheduler.task(pass_gate)
        stopped: list[Stopped] = []

        @scheduler.on_start
        def begin() -> None:
            for _ in range(50):
                task.submit(gate.address)
            gate.when_begun(2, lambda: stopped.append(Stopped(scheduler.executor)))
            scheduler.call_later(0.01, end_when_stopped)

        def end_when_stopped() -> None:
            if stopped:
                scheduler.stop("it is stopped")
            else:
                scheduler.call_later(0.01, end_when_stopped)

        ended = scheduler.run(wait=False, on_exception="continue", display=False)
    assert ended.code is ExitState.Code.STOPPED
    assert stopped[0].has_ended()
