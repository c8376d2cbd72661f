"""A pool driven by the loop of one or more runs, and callbacks that use the pool."""

from __future__ import annotations

import asyncio
import itertools
import select
import signal
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._engine import exchange, pool_thread
from amltk.scheduling.executors.process_pool._io import pace
from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import identity, wait_for


def test_a_loop_that_was_detached_makes_no_turn_that_was_on_its_way() -> None:
    """A turn that a submission has requested does not happen once the loop is detached."""
    told: list[Any] = []

    async def run() -> None:
        pool = ProcessPool(1)
        assert pool.attach(asyncio.get_running_loop(), told.append)
        await asyncio.sleep(0)  # the turn that `attach` requests
        pool.submit(identity, 1)
        pool.detach()
        pool.kill_workers()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert told == []


@pytest.fixture
def only_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pool's thread leave the I/O to an attached loop, however long it takes."""
    monkeypatch.setattr("amltk.scheduling.executors.process_pool._engine.pool_thread.LOOP_IDLE_SECONDS", GUARD)


@pytest.mark.usefixtures("only_the_loop")
def test_a_callback_may_detach_the_loop() -> None:
    """Nothing more happens on the loop, although the pool has ended or has outcomes to report."""
    errors: list[BaseException] = []
    told: list[str] = []

    def gather(put: Any) -> None:
        told.append("gathered")
        try:
            put()
        except BaseException as error:
            errors.append(error)

    async def detach_while(end: Any, pool: ProcessPool) -> None:
        assert pool.attach(asyncio.get_running_loop(), gather)
        is_attached = True

        def detach(_: Any) -> None:
            nonlocal is_attached
            if threading.current_thread() is threading.main_thread():  # the pool's thread may have got to it already
                end()
                pool.detach()
                told.append("detached")
                is_attached = False

        while is_attached:
            call = pool.submit(identity, 1)
            call.add_done_callback(detach)
            await asyncio.wrap_future(call)

    pool = ProcessPool(1)
    pool.submit(identity, 1).result(GUARD)
    left: list[Any] = []
    asyncio.run(detach_while(lambda: left.append(pool.submit(identity, threading.Lock())), pool))
    assert isinstance(left[0].exception(GUARD), TypeError)
    assert told[-1] == "detached"
    asyncio.run(detach_while(lambda: pool.shutdown(wait=True), pool))
    assert (errors, pool._broken, told[-1]) == ([], False, "detached")


@pytest.mark.usefixtures("only_the_loop")
def test_outcomes_are_told_while_others_submit_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls submitted by another thread during a turn that has received something do not prolong this turn."""
    handle = WorkerIO.handle
    pool = ProcessPool(1)
    submitted: list[Any] = []
    log: list[str] = []

    def submit() -> None:
        submitted.append(pool.submit(identity, 1))
        submitted[-1].add_done_callback(lambda _: log.append("told"))

    def handle_while_another_submits(worker_io: Any, events: Any) -> None:
        handle(worker_io, events)
        if worker_io.outcomes and len(submitted) < 50:
            log.append("received")
            another = threading.Thread(target=submit)
            another.start()
            another.join(GUARD)

    monkeypatch.setattr(exchange, "QUICK_SECONDS", GUARD)
    monkeypatch.setattr(pace, "QUICK_SECONDS", GUARD)

    async def run() -> None:
        assert pool.attach(asyncio.get_running_loop(), lambda put: put())
        await asyncio.wrap_future(pool.submit(identity, 1))  # known to be pickled quickly, from now on
        monkeypatch.setattr(WorkerIO, "handle", handle_while_another_submits)
        submit()
        while len(submitted) < 50:
            await asyncio.wrap_future(submitted[-1])
        pool.detach()

    asyncio.run(run())
    assert [call.result(GUARD) for call in submitted] == [1] * 50
    pool.shutdown()
    # The pool's thread may make a turn beside the loop; a prolonged turn would receive all of them.
    in_a_row = [len(list(group)) for what, group in itertools.groupby(log) if what == "received"]
    assert max(in_a_row) < 10


def test_outcomes_that_the_pools_thread_has_received_wake_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the loop goes on as the pool's thread receives an outcome in its place, the loop delivers it at once."""
    monkeypatch.setattr(exchange, "QUICK_SECONDS", GUARD)
    monkeypatch.setattr(pace, "QUICK_SECONDS", GUARD)
    told, turned = threading.Event(), threading.Event()

    async def run(pool: ProcessPool, first: Gate, second: Gate) -> None:
        assert pool.attach(asyncio.get_running_loop(), lambda put: put())
        engine: Any = pool._engine
        await asyncio.wrap_future(pool.submit(identity, 0))  # known to be pickled quickly, from now on
        await asyncio.wrap_future(pool.submit(pass_gate, opened.address))
        calls = [pool.submit(pass_gate, gate.address) for gate in (first, second)]

        def receive_later(_: object) -> None:  # on the pool's thread
            monkeypatch.setattr(pool_thread, "LOOP_IDLE_SECONDS", GUARD)
            told.set()
            assert turned.wait(GUARD)
            second.open()
            assert select.select([link.frames for link in engine._io.links.values()], [], [], GUARD)[0]

        calls[0].add_done_callback(receive_later)
        await asyncio.to_thread(wait_for, lambda: first.present and second.present)
        first.open()
        assert told.wait(GUARD)  # the loop is blocked, so the pool's thread takes over
        driver = engine._thread.driver
        turns = driver.turns
        engine._wakeup.set()
        await asyncio.to_thread(wait_for, lambda: driver.turns != turns)
        turned.set()
        wait_for(engine._exchange.has_outcomes)
        await asyncio.wait_for(asyncio.wrap_future(calls[1]), GUARD / 2)
        pool.detach()

    with Gate() as opened, Gate() as first, Gate() as second, ProcessPool(2) as pool:
        opened.open()
        asyncio.run(run(pool, first, second))


def test_callbacks_may_use_the_pool() -> None:
    """A callback of a future, on the pool's own thread, can submit, cancel and shut down."""
    pool = ProcessPool(1)
    futures: list[Future[Any]] = []
    over = threading.Event()

    def use(_: Future[Any]) -> None:
        futures.append(pool.submit(identity, 2))
        futures.append(pool.submit(identity, 3))
        futures[1].cancel()
        pool.shutdown()
        over.set()

    pool.submit(identity, 1).add_done_callback(use)
    assert over.wait(GUARD)
    assert futures[0].result(GUARD) == 2
    assert futures[1].cancelled()
    pool.shutdown()


def test_a_loop_has_time_for_others_while_outcomes_come_in() -> None:
    """However many outcomes arrive, a run that is always busy does not starve the loop's other tasks."""
    most = 0

    async def main() -> None:
        nonlocal most
        scheduler = Scheduler.with_processes(2)
        task = scheduler.task(identity)

        @scheduler.on_start(repeat=64)
        def fill() -> None:
            task.submit(1)

        @task.on_result
        def submit_another(*_: Any) -> None:
            if task.event_counts[task.SUBMITTED] < 20_000:
                task.submit(1)

        async def look() -> None:
            nonlocal most
            told = 0
            while True:
                await asyncio.sleep(0)
                told, before = task.event_counts[task.RESULT], told
                most = max(most, told - before)

        looking = asyncio.create_task(look())
        await scheduler.async_run(timeout=GUARD)
        looking.cancel()
        assert task.event_counts[task.RESULT] == 20_000

    asyncio.run(main())
    assert most < 1_000


def test_two_runs_share_a_pool() -> None:
    """One loop does the I/O for both, and the pool continues when the first run has ended."""

    def count_to(scheduler: Scheduler, number: int) -> list[int]:
        results: list[int] = []
        task = scheduler.task(identity)
        scheduler.on_start(lambda: [task.submit(n) for n in range(8)])

        @task.on_result
        def on_result(_future: Any, result: int) -> None:
            results.append(result)
            if len(results) < number:
                task.submit(result)

        return results

    with ProcessPool(2) as pool:
        first, second = (Scheduler(pool, terminate=False) for _ in range(2))
        few, many = count_to(first, 100), count_to(second, 1000)

        async def both() -> None:
            await asyncio.gather(first.async_run(), second.async_run())

        asyncio.run(both())
        assert (len(few), len(many)) == (107, 1007)
        assert pool.submit(identity, 1).result(GUARD) == 1
        assert second.run() == ExitState(ExitState.Code.EXHAUSTED)


def test_submitted_by_other_threads_while_the_loop_sleeps() -> None:
    """A call from another thread reaches a worker although nothing else happens in the run."""
    scheduler = Scheduler.with_processes(1)
    results: list[int] = []

    def submit_from_outside() -> None:
        for n in range(20):
            answered = threading.Event()
            future = scheduler.executor.submit(identity, n)
            future.add_done_callback(lambda _, answered=answered: answered.set())  # type: ignore[misc]
            assert answered.wait(GUARD)
            results.append(future.result())
        scheduler.stop()

    thread = threading.Thread(target=submit_from_outside)
    scheduler.on_start(thread.start)
    scheduler.run(end_on_empty=False)
    thread.join()
    assert results == list(range(20))


def test_a_program_with_signal_handlers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception raised by a handler would corrupt the pool's I/O, so the loop leaves it to the pool's thread."""
    attached: list[bool] = []
    attach = ProcessPool.attach
    monkeypatch.setattr(ProcessPool, "attach", lambda *args: attached.append(True) or attach(*args))
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: scheduler.submit(identity, 1))
    scheduler.run()
    assert attached == [True]
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        scheduler.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert attached == [True]
    assert scheduler.event_counts[Scheduler.FUTURE_RESULT] == 2
