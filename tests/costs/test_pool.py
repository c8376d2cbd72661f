"""What a task costs on its way through a worker process: system calls, wake-ups and calls on both sides."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import selectors
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.costs.counting import Cost, calls, count_calls, most_bytes
from tests.helpers.gate import GUARD, Gate, pass_gate

ROUNDS = 11
SENDING = ("socket.send", "socket.sendall", "socket.sendmsg")
RECEIVING = ("socket.recv", "socket.recv_into", "socket.recvmsg")

SIZE = 32 << 20
"""Size in bytes of a large value."""

_counter: Counter[str] = Counter()


def set_the_clock() -> None:
    """Initialise a worker: on its clock calls take no time, so it is always sent the maximum number at once."""
    time.monotonic = lambda: 0.0


def begin_to_count() -> None:
    """Initialise a worker that also counts its calls."""
    set_the_clock()
    count_calls(_counter)


def counted() -> Counter[str]:
    """What this worker has called so far."""
    return Counter(_counter)


def no_op(number: int) -> int:
    return number


class Array:
    """A value with a large buffer, like a NumPy array."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.data),)


class Noted:
    """A number that records when it is pickled."""

    def __init__(self, number: int, pickled: list[int]) -> None:
        self.number = number
        self.pickled = pickled

    def __reduce__(self) -> Any:
        self.pickled.append(self.number)
        return int, (self.number,)


def echo(array: Array) -> Array:
    return array


def trace() -> None:
    """Make this worker trace its memory use."""
    tracemalloc.start()


def most_traced() -> int:
    """The worker's peak memory in bytes since then."""
    return tracemalloc.get_traced_memory()[1]


@pytest.fixture
def only_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only values pickled for the first time go to the threads for slow pickling.

    The pool's thread, which would take over from a blocked loop, is made to leave it alone; otherwise the division of
    labour would depend on how long workers take.
    """
    monkeypatch.setattr("amltk.scheduling.executors.process_pool._engine.pool_thread.LOOP_IDLE_SECONDS", GUARD)
    monkeypatch.setattr("amltk.scheduling.executors.process_pool._engine.exchange.QUICK_SECONDS", GUARD)
    monkeypatch.setattr("amltk.scheduling.executors.process_pool._io.pace.QUICK_SECONDS", GUARD)


@pytest.fixture
def in_rounds(only_the_loop: None) -> Callable[[int], Counter[str]]:
    """Counts the calls of the loop's thread while this many tasks at a time are computed, in rounds.

    During a round the loop is blocked, so that it finds all outcomes at once.
    """

    def run(in_flight: int) -> Counter[str]:
        with Gate() as gate:
            gate.open()
            with calls() as counter:
                _run_rounds(in_flight, gate)
        return counter

    return run


def _run_rounds(in_flight: int, gate: Gate) -> None:
    scheduler = Scheduler.with_processes(1, initializer=set_the_clock)
    task, last = scheduler.task(no_op), scheduler.task(pass_gate)
    works: list[Any] = []
    visitors = itertools.count(2)  # those that have come in each round, with the one before the first
    task.on_submitted(lambda future, _: works.append(future.work), max_calls=1)

    @scheduler.on_start
    def begin() -> None:  # teaches the pool how long calls take, and how long pickling them takes
        task.submit(0)
        last.submit(gate.address)

    @scheduler.on_empty(max_calls=ROUNDS)
    def submit() -> None:
        for number in range(in_flight - 1):
            task.submit(number)
        last.submit(gate.address)
        # Once everything was sent; on a busy machine the round may even have ended by then.
        asyncio.get_running_loop().call_soon(gate.wait_begun, next(visitors))

    scheduler.run(display=False)
    assert works[0].begun_at == works[0].ended_at, "the worker's clock does not stand still"


def test_a_batch_is_sent_and_received_at_once(in_rounds: Any, at_most: Callable[..., None]) -> None:
    """64 tasks at a time cost the loop three messages to the worker, two from it and five wake-ups: not one per task.

    Each time a worker has to wait for a CPU adds one wake-up, and may divide a message: the least of some runs counts.
    """
    counter = min((in_rounds(64) for _ in range(5)), key=lambda counter: sum(counter[name] for name in RECEIVING))
    for what, names, bound in [
        ("sent", SENDING, 3.5),
        ("received", RECEIVING, 3.5),
        ("wake-ups", ["EpollSelector.select", "KqueueSelector.select"], 16),
    ]:
        at_most(f"{what} a round of 64", sum(counter[name] for name in names) / ROUNDS, bound, counter)


def test_calls_of_a_task_in_a_pool(in_rounds: Any, at_most: Callable[..., None]) -> None:
    """From submission to its events a task costs the loop's thread 77 calls, including pickling and the future."""
    in_rounds(1)  # one-time work of the process, such as imports
    cost = Cost(in_rounds(120), in_rounds(24), 96 * ROUNDS)
    at_most("calls per task in a pool", cost.total, 80, cost)


def counted_in_a_worker() -> Cost:
    """What a worker calls for each of a hundred tasks that are submitted together."""
    scheduler = Scheduler.with_processes(1, initializer=begin_to_count)
    task, tell = scheduler.task(no_op), scheduler.task(counted)
    counters: list[Counter[str]] = []
    tell.on_result(lambda _, counter: counters.append(counter))

    @scheduler.on_start
    def begin() -> None:  # values pickled for the first time take a different path
        task.submit(0)
        tell.submit()

    @scheduler.on_empty(max_calls=1)
    def submit() -> None:
        tell.submit()
        for number in range(100):
            task.submit(number)
        tell.submit()

    scheduler.run(display=False)
    return Cost(counters[2], counters[1], 101)


@pytest.mark.usefixtures("only_the_loop")
def test_calls_of_a_task_in_a_worker(at_most: Callable[..., None]) -> None:
    """A worker receives a token and sends an outcome for each task; in total that is 21 calls.

    Where the machine keeps the driver from sending, the worker waits and wakes up once more. So the least of some
    rounds is what a task costs.
    """
    cost = min((counted_in_a_worker() for _ in range(5)), key=lambda cost: cost.total)
    system_calls = sum(cost.get(name, 0) for name in (*SENDING, *RECEIVING))
    at_most("system calls per task in a worker", system_calls, 2.1, cost)
    at_most("calls per task in a worker", cost.total, 22.5, cost)


def test_submitting_to_a_busy_pool_sends_nothing(at_most: Callable[..., None]) -> None:
    """While no worker has capacity, a thousand submissions wake no thread, and only the first one is pickled.

    The modules it needs are imported before the workers start.
    """
    counters: list[Counter[str]] = []
    pickled: list[int] = []
    early: list[int] = []
    with Gate() as gate:
        scheduler = Scheduler.with_processes(1, initializer=pass_gate, initargs=(gate.address,))

        @scheduler.on_start
        async def submit() -> None:
            with calls() as counter:
                for number in range(1000):
                    scheduler.submit(no_op, Noted(number, pickled))
            counters.append(counter)
            await asyncio.sleep(0)  # the iteration in which calls are sent, as far as there is capacity
            await asyncio.sleep(0)
            early.extend(pickled)
            gate.open()

        scheduler.run(display=False)
    assert early in ([], [0]), f"{len(early)} were pickled before a worker had room"
    assert len(pickled) == 1000
    (counter,) = counters
    at_most("sent by 1,000 submissions", sum(counter[name] for name in SENDING), 2, counter)
    at_most("calls per submission to a pool", sum(counter.values()) / 1000, 28, counter)


def test_a_large_buffer_is_not_copied(at_most: Callable[..., None]) -> None:
    """A large buffer is sent both ways from where it lies: each side holds what it received and no copy of it."""
    array = Array(bytearray(SIZE))
    with ProcessPool(1) as pool:
        pool.submit(trace).result()
        with most_bytes() as here:
            back = pool.submit(echo, array).result()
        there = pool.submit(most_traced).result()
    assert back.data.nbytes == SIZE
    at_most("copies in the parent", here["bytes"] / SIZE, 1.05)
    at_most("copies in the worker", there / SIZE, 1.05)


def test_an_idle_run_waits_for_something_to_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all calls have ended, the loop and the pool's thread wait without a timeout: nothing wakes them."""
    names = ("MainThread", "amltk-process-pool")
    waits: dict[str, float | None] = {}
    changed = threading.Condition()
    select = selectors.DefaultSelector.select

    def noted(self: Any, timeout: float | None = None) -> Any:
        name = threading.current_thread().name
        if name in names:  # there may be threads of libraries that other tests of this process use
            with changed:
                waits[name] = timeout
                changed.notify_all()
        return select(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", noted)
    scheduler = Scheduler.with_processes(2)
    ended = threading.Event()
    idle: list[bool] = []

    def watch() -> None:
        ended.wait()
        with changed:
            idle.append(changed.wait_for(lambda: waits == dict.fromkeys(names), GUARD / 4))
        scheduler.stop()

    watcher = threading.Thread(target=watch)
    watcher.start()
    scheduler.on_start(lambda: [scheduler.submit(no_op, number) for number in range(100)])
    scheduler.on_empty(ended.set)
    scheduler.run(display=False, end_on_empty=False)
    watcher.join()
    assert idle == [True], f"they wait for at most so many seconds: {waits}"
