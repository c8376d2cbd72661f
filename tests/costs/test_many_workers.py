"""What the driver does for a call, a loss or a newcomer does not grow with the number of workers."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.cluster import Cluster, WorkerKind
from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher
from tests.costs.counting import instructions
from tests.unit.scheduling.process_pool.making import make_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._state.dispatcher import WorkerSlot

FEW, MANY = 10, 1000


class DaskScheduler:
    """As much of Dask's scheduler as the tracker uses."""

    def __init__(self, resources: list[dict[str, float]]) -> None:
        self.handlers: dict[str, Any] = {}
        self.stream_handlers: dict[str, Any] = {}
        self.tasks: dict[str, Any] = {}
        self.workers = {f"tcp://{n}": SimpleNamespace(resources=one) for n, one in enumerate(resources)}
        self.events: list[tuple[Any, ...]] = []

    def log_event(self, topic: str, event: tuple[Any, ...]) -> None:
        self.events.append(event)


class DaskClient:
    """As much of Dask's client as the executor uses; workers come in the middle of each question."""

    status = "running"

    def __init__(self) -> None:
        self.n_workers = self.asked = self.to_come = 0
        self.hear: Callable[[Any], object] = print
        self.scheduler = SimpleNamespace(amltk_declared=self._declared)

    def register_plugin(self, plugin: object) -> None:
        """Have what the test itself does."""

    def subscribe_topic(self, topic: str, hear: Callable[[Any], object]) -> None:
        self.hear = hear

    def _send_to_scheduler(self, message: object) -> None:
        """Tell nobody."""

    async def _declared(self, topic: str) -> list[tuple[dict[str, float], int]]:
        self.asked += 1
        told = self.n_workers
        self.bring(self.to_come)
        self.to_come = 0
        await asyncio.sleep(0)
        return [({"GPU": 1}, told)]

    def bring(self, number: int) -> None:
        """Have workers come."""
        for _ in range(number):
            self.n_workers += 1
            self.hear((0.0, ("workers", "", f"tcp://{self.n_workers}")))


def tracker_of(n_workers: int) -> tuple[Any, DaskScheduler]:
    """A tracker where each worker has begun one call."""
    pytest.importorskip("distributed")
    from amltk.scheduling.executors.remote.dask.tracker import OWNER_CHARS, Tracker

    scheduler = DaskScheduler([{"GPU": 1.0} if n % 2 else {} for n in range(n_workers)])
    tracker = Tracker()
    asyncio.run(tracker.start(scheduler))
    for n, worker in enumerate(scheduler.workers):
        key = f"call-{'a' * OWNER_CHARS}{n:0{OWNER_CHARS}x}"
        scheduler.tasks[key] = None
        assert tracker._note_begun(key, worker, n, "host")
    return tracker, scheduler


def cost_of(program: Callable[[], object]) -> int:
    """How many instructions of the byte code a program takes."""
    with instructions() as counter:
        program()
    return sum(counter.values())


def costs_the_same(make: Callable[[int], Callable[[], object]]) -> bool:
    """Whether a program takes as many instructions with few and with many workers.

    Args:
        make: Makes the program for a number of workers.
    """
    cost_of(make(FEW))  # from CPython 3.12 on, the instructions of a function are counted from its second call on
    few, many = cost_of(make(FEW)), cost_of(make(MANY))
    assert few > 0
    return few == many


def test_a_lost_dask_worker_costs_what_it_had_and_no_search() -> None:
    """Only the calls that it had begun are looked at, and reported once; forgotten calls leave nothing behind."""

    def lose(n_workers: int) -> Callable[[], object]:
        tracker, scheduler = tracker_of(n_workers)
        return partial(tracker.remove_worker, scheduler, "tcp://7")

    assert costs_the_same(lose)
    for n_workers in (FEW, MANY):
        tracker, scheduler = tracker_of(n_workers)
        scheduler.events.clear()
        tracker.remove_worker(scheduler, "tcp://7")
        ((kind, key, worker),) = scheduler.events
        assert (kind, worker) == ("lost", "tcp://7")
        tracker.remove_worker(scheduler, "tcp://7")
        assert len(scheduler.events) == 1
        assert not tracker._note_begun(key, "tcp://1", 1, "host"), "it would begin twice"
        for task in scheduler.tasks:
            tracker.transition(task, "memory", "forgotten")
        assert not tracker._begun_by
        assert not tracker._begun


def test_dask_workers_are_told_by_kind() -> None:
    """However many workers there are, what they declare is as long as there are kinds of them."""
    tracker, _ = tracker_of(MANY)
    assert tracker.declared("topic") == [({}, MANY // 2), ({"GPU": 1.0}, MANY // 2)]


def test_a_thousand_dask_workers_that_come_at_once_are_two_questions() -> None:
    """What comes while a question is on its way is looked at by the next one, all together; nothing is missed."""
    pytest.importorskip("distributed")
    from amltk.scheduling.executors.remote.dask.executor import DaskExecutor

    client: Any = DaskClient()

    async def come() -> tuple[DaskExecutor, list[Any]]:
        executor = DaskExecutor(client, lambda: None)
        seen: list[Any] = []
        executor.on_change = lambda: seen.append(executor.declared())
        client.to_come = MANY // 2
        client.bring(MANY // 2)
        looker = executor._declarations._looker
        assert looker is not None
        await looker
        return executor, seen

    executor, seen = asyncio.run(come())
    assert [kinds[0].n_workers for kinds in seen] == [MANY // 2, MANY]
    assert client.asked == 2
    executor.shutdown()


def test_whether_a_worker_can_grant_a_call_is_asked_of_each_kind() -> None:
    """A call that needs what only the last workers have costs the same however many others there are."""

    def ask(n_workers: int) -> Callable[[], object]:
        kinds = (WorkerKind({"cpu": UNIT}, n_workers), WorkerKind({"gpu": UNIT}, 1))
        executor: Any = SimpleNamespace(place="", remedy="", is_open=False, declared=lambda: kinds)
        cluster = Cluster(executor, counts=True)
        cluster.refresh()
        assert cluster.pools["cpu"].total == n_workers * UNIT
        return lambda: cluster.find("gpu") and cluster.why_never({"gpu": UNIT})

    assert costs_the_same(ask)


def test_the_place_of_a_worker_is_not_searched() -> None:
    """Dask's cluster is asked by the worker's name: a number, a text, or one with the number of the worker in a job."""
    pytest.importorskip("distributed")
    from amltk.scheduling.executors.remote.dask.replacer import place_of

    def search(n_workers: int) -> Callable[[], object]:
        places: list[Any] = [*range(n_workers), *(f"SLURMCluster-{n}" for n in range(n_workers))]
        cluster = SimpleNamespace(worker_spec=dict.fromkeys(places))
        last = n_workers - 1
        job = f"SLURMCluster-{last}"
        for name, place in {last: last, f"{last}-0": last, job: job, f"{job}-3": job, "elsewhere": None}.items():
            assert place_of(cluster, SimpleNamespace(name=name)) == place
        return lambda: place_of(cluster, SimpleNamespace(name="elsewhere"))

    assert costs_the_same(search)


def turns(n_workers: int, dispatcher: Dispatcher, slots: list[WorkerSlot], rounds: int) -> None:
    """In each round a long call ends, and the pool does what it does in a turn, with a new call that is waiting."""
    for number in range(rounds):
        slot = slots[-1 - number % n_workers]
        assert dispatcher.finish(slot, slot.sent[0].key, 1.0) is not None
        dispatcher.queue.append(make_call(n_workers + number))
        assert dispatcher.urgent()
        assert dispatcher.capacity() == 1
        assert [taker for taker, _ in dispatcher.assign()] == [slot]
        assert not dispatcher.urgent()
        assert not dispatcher.hungry()
        assert dispatcher.to_share() is None
        assert not dispatcher.wants_slot()


def test_a_long_call_costs_the_pool_the_same_however_many_workers_it_has() -> None:
    """No worker is looked at but the one whose call has ended: 1,000 cost as many instructions as 10."""
    costs = []
    for n_workers in (FEW, MANY):
        dispatcher = Dispatcher(n_workers, None)
        dispatcher.queue.extend(make_call(number) for number in range(n_workers))
        slots = [dispatcher.add_slot() for _ in range(n_workers)]
        for slot in slots:
            dispatcher.worker_ready(slot)
        assert [taker for taker, _ in dispatcher.assign()] == slots
        turns(n_workers, dispatcher, slots, 1)
        costs.append(cost_of(partial(turns, n_workers, dispatcher, slots, 20)))
    assert 0 < costs[0] == costs[1]


def test_the_first_idle_worker_gets_the_next_long_call() -> None:
    """So those that are not needed stay idle, and end after `idle_timeout`."""
    dispatcher = Dispatcher(4, None)
    slots = [dispatcher.add_slot() for _ in range(4)]
    for slot in reversed(slots):
        dispatcher.worker_ready(slot)
    dispatcher.queue.extend(make_call(number) for number in range(3))
    assert [taker.number for taker, _ in dispatcher.assign()] == [1, 2, 3]
    for slot in (slots[2], slots[0]):
        dispatcher.finish(slot, slot.sent[0].key, 1.0)
    dispatcher.queue.append(make_call(3))
    assert [taker.number for taker, _ in dispatcher.assign()] == [1]
