"""The process pool's dispatcher, without processes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amltk.scheduling.executors.process_pool._state import dispatcher as dispatcher_module
from amltk.scheduling.executors.process_pool._state.dispatcher import (
    BEING_PACKED,
    LONG_CALL_SECONDS,
    MAX_PREFETCH,
    MIN_WORK_TO_WAKE_SECONDS,
    PREFETCH_SECONDS,
    Dispatcher,
    WorkerSlot,
)
from amltk.scheduling.executors.process_pool._system.tokens import GENERATIONS
from amltk.scheduling.executors.process_pool.binding import Binding
from amltk.scheduling.executors.process_pool.future import PoolFuture
from tests.unit.scheduling.process_pool.making import make_call

if TYPE_CHECKING:
    from collections.abc import Sequence


class Worker:
    """A worker that takes a token when told to, and the pool's connection to it."""

    def __init__(self, dispatcher: Dispatcher, slot: WorkerSlot) -> None:
        self.dispatcher = dispatcher
        self.slot = slot
        self.received: deque[tuple[int, PoolFuture | None]] = deque()
        self.tokens: deque[int] = deque()
        self.at: PoolFuture | None = None

    def send(self, calls: Sequence[PoolFuture | None]) -> None:
        """Send it calls, each with its token; None for an empty one."""
        generation = self.slot.generation
        self.received.extend((generation, call) for call in calls)
        self.tokens.extend([generation] * len(calls))

    def take(self) -> PoolFuture | None:
        """Take a token, skip calls that it is not for, and start; an empty call ends at once."""
        if self.at is not None or not self.tokens:
            return None
        generation = self.tokens.popleft()
        while self.received[0][0] != generation:
            self.received.popleft()
        self.at = self.received.popleft()[1]
        if self.at is None:
            self.dispatcher.note_answer(self.slot)
        return self.at

    def take_back(self) -> None:
        """Take back what it has not taken."""
        if self.tokens and not self.slot.pinged:
            tokens = len(self.tokens)
            self.tokens.clear()
            if self.dispatcher.take_back(self.slot, tokens):
                self.send([None])


class Bookkeeping(RuleBasedStateMachine):
    """Workers that start, finish and die at any time, and calls that are added, cancelled and shared."""

    @initialize(workers=st.integers(1, 4), most=st.sampled_from([None, 1, 3]))
    def open(self, workers: int, most: int | None) -> None:
        self.dispatcher = Dispatcher(workers, most)
        self.most = most
        self.max = workers
        self.workers: dict[int, Worker] = {}
        self.began: list[int] = []
        self.ended: list[int] = []
        self.dropped: list[int] = []
        self.lost: list[int] = []
        self.accepted: list[PoolFuture] = []

    @rule(number=st.integers(1, 200))
    def submit(self, number: int) -> None:
        for _ in range(number):
            call = make_call(len(self.accepted) + 1)
            self.accepted.append(call)
            self.dispatcher.queue.append(call)

    @rule()
    def start(self) -> None:
        while self.dispatcher.wants_slot():
            slot = self.dispatcher.add_slot()
            self.workers[slot.number] = Worker(self.dispatcher, slot)
        assert len(self.dispatcher.slots) <= self.max

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def get_ready(self, which: int) -> None:
        worker = self.pick(which)
        if not worker.slot.ready:
            self.dispatcher.worker_ready(worker.slot)

    @rule()
    def assign(self) -> None:
        for slot, calls in self.dispatcher.assign():
            assert slot.ready
            assert not slot.closed
            self.workers[slot.number].send(calls)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def begin(self, which: int) -> None:
        worker = self.pick(which)
        call = worker.take()
        if call is not None:
            assert call is worker.slot.sent[0], "it was taken back"
            self.began.append(call.key)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), seconds=st.sampled_from([1e-5, 1e-3, 1.0]))
    def end(self, which: int, seconds: float) -> None:
        worker = self.pick(which)
        if worker.at is None:
            return
        call, worker.at = worker.at, None
        finished = self.dispatcher.finish(worker.slot, call.key, seconds)
        if call.key in self.dropped:
            assert finished is None
        else:
            assert finished is call
            call.dropped = True
            self.ended.append(call.key)

    @rule()
    def share(self) -> None:
        slot = self.dispatcher.to_share()
        if slot is not None:
            self.workers[slot.number].take_back()

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), times=st.integers(1, 8))
    def send_in_vain(self, which: int, times: int) -> None:
        """A worker that is stopped is sent calls, which are taken back and cancelled, several times."""
        worker = self.pick(which)
        self.get_ready(which)
        for _ in range(times):
            self.submit(2)
            self.assign()
            worker.take_back()
            self.dropped += [call.key for call in drop_waiting(self.dispatcher)]
        self.submit(2)
        self.assign()
        self.begin(which)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        """A worker that dies loses only the call it was running."""
        worker = self.pick(which)
        worker.take_back()
        lost = self.dispatcher.remove_slot(worker.slot)
        assert lost == ([worker.at] if worker.at is not None and worker.at.key not in self.dropped else [])
        for call in lost:
            call.dropped = True
            self.lost.append(call.key)
        del self.workers[worker.slot.number]

    @precondition(lambda self: self.accepted)
    @rule(which=st.integers(0, 10_000))
    def cancel(self, which: int) -> None:
        call = self.accepted[which % len(self.accepted)]
        if call.dropped:
            return
        if call.slot is not None:
            self.workers[call.slot.number].take_back()
        slot = self.dispatcher.drop(call)
        self.dropped.append(call.key)
        assert (slot is not None) == (call.key in self.began)

    def pick(self, which: int) -> Worker:
        return list(self.workers.values())[which % len(self.workers)]

    @invariant()
    def every_call_is_in_one_place(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        queued = [call.key for call in self.dispatcher.queue if not call.dropped]
        sent = [call.key for slot in self.dispatcher.slots.values() for call in slot.sent]
        everywhere = queued + sent + self.ended + self.dropped + self.lost
        assert sorted(everywhere) == [call.key for call in self.accepted]
        assert len(self.began) == len(set(self.began)), "begun twice"
        assert not set(queued) & set(self.began), "begun, and yet to be begun"
        for slot in self.dispatcher.slots.values():
            assert len(slot.sent) <= MAX_PREFETCH
            assert self.most is None or slot.begun <= self.most
        self.what_is_kept_is_true()

    def what_is_kept_is_true(self) -> None:
        dispatcher = self.dispatcher
        slots = dispatcher.slots
        assert dispatcher._n_ahead == sum(max(0, len(slot.sent) - 1) for slot in slots.values())
        if dispatcher._idle is not None:
            free = {slot.number for slot in slots.values() if slot.open and not slot.sent}
            assert len(dispatcher._idle) == len(set(dispatcher._idle))
            assert free <= set(dispatcher._idle)
            assert not any(slots[number].sent for number in dispatcher._idle)


TestBookkeeping = Bookkeeping.TestCase


class TestBookkeepingWithFewGenerations(Bookkeeping.TestCase):  # type: ignore[misc] # Hypothesis makes its type
    """The same where a worker that takes no tokens soon has calls of every generation that there is."""

    @pytest.fixture(autouse=True)
    def few_generations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dispatcher_module, "GENERATIONS", 3)


def test_a_worker_that_is_stopped_does_not_begin_what_another_one_computes() -> None:
    """However often calls are sent to a worker that is stopped, and taken back: when it goes on, it drops them all.

    There are fewer generations of tokens than times, so that the oldest calls that it has would match a new token.
    """
    dispatcher = Dispatcher(2, None)
    dispatcher.expected = 1e-6
    crew: dict[int, Worker] = {}
    stopped = start(dispatcher, crew)
    for key in range(0, 4 * GENERATIONS, 2):
        dispatcher.queue.extend(make_call(key + n) for n in range(2))
        hand_out(dispatcher, crew)
        stopped.take_back()
        drop_waiting(dispatcher)  # another worker has computed them
    current = [make_call(4 * GENERATIONS + n) for n in range(2)]
    dispatcher.queue.extend(current)
    hand_out(dispatcher, crew)
    begun = [work_off(dispatcher, stopped)]
    hand_out(dispatcher, crew)
    begun.append(work_off(dispatcher, stopped))
    assert begun == [[], current]
    assert dispatcher.idle()


def work_off(dispatcher: Dispatcher, worker: Worker) -> list[PoolFuture]:
    """Let a worker compute all that it has tokens for; return what that was."""
    begun: list[PoolFuture] = []
    while worker.tokens:
        call = worker.take()
        worker.at = None
        if call is not None:
            assert dispatcher.finish(worker.slot, call.key, 1e-6) is call
            begun.append(call)
    return begun


def test_a_worker_that_takes_calls_now_and_then_is_not_pinged() -> None:
    """Calls that a worker has dropped meanwhile do not count."""
    dispatcher = Dispatcher(1, None)
    dispatcher.expected = 1e-6
    crew: dict[int, Worker] = {}
    worker = start(dispatcher, crew)
    for key in range(0, 4 * GENERATIONS, 2):
        dispatcher.queue.extend(make_call(key + n) for n in range(2))
        hand_out(dispatcher, crew)
        if key % 8 == 0:
            work_off(dispatcher, worker)
        worker.take_back()
        drop_waiting(dispatcher)
        assert not worker.slot.pinged


def test_what_a_worker_does_not_begin_goes_to_another_one_that_is_idle() -> None:
    """Few short calls are sent to one worker; if it does not begin them, to another one next, and not to it again."""
    dispatcher = Dispatcher(3, None)
    dispatcher.expected = 1e-6
    crew: dict[int, Worker] = {}
    for _ in range(3):
        start(dispatcher, crew)
    dispatcher.queue.extend(make_call(n) for n in range(4))
    got: list[int] = []
    for _ in crew:
        hand_out(dispatcher, crew)
        slot = dispatcher.to_share()
        assert slot is not None
        got.append(slot.number)
        crew[slot.number].take_back()
    assert got == [*crew]


def test_no_worker_counts_as_idle_that_has_to_answer() -> None:
    """While a worker is stopped and pinged, another one is started for a waiting call."""
    dispatcher = Dispatcher(2, None)
    dispatcher.expected = 1e-6
    crew: dict[int, Worker] = {}
    stopped = start(dispatcher, crew)
    dispatcher.queue.append(make_call(1))
    for _ in range(GENERATIONS - 1):
        hand_out(dispatcher, crew)
        assert not dispatcher.wants_slot()
        stopped.take_back()
    assert stopped.slot.pinged
    assert dispatcher.wants_slot()


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 4), st.booleans())
def test_long_calls_occupy_all_workers(mix: list[bool], workers: int, one_is_up: bool) -> None:
    """Whatever the mix of long and short calls: if N long ones can run, N workers end up running long ones.

    This also holds if a single worker was enough until then and got them all at first.
    """
    dispatcher = Dispatcher(workers, None)
    dispatcher.expected = 1e-6  # as after many short calls: they are sent in batches
    calls = [make_call(n) for n in range(len(mix))]
    is_long = {call.key: long for call, long in zip(calls, mix, strict=True)}
    dispatcher.queue.extend(calls)
    crew: dict[int, Worker] = {}
    if one_is_up:
        start(dispatcher, crew)
        hand_out(dispatcher, crew)
    for _ in range(10 * len(mix) + 10):
        while dispatcher.wants_slot():
            start(dispatcher, crew)
        hand_out(dispatcher, crew)
        moved = [work(dispatcher, worker, is_long) for worker in crew.values()]
        slot = dispatcher.to_share()
        if slot is not None:
            crew[slot.number].take_back()
        elif not any(moved):
            break
    occupied = sum(worker.at is not None for worker in crew.values())
    assert occupied == min(workers, sum(mix))


def start(dispatcher: Dispatcher, crew: dict[int, Worker]) -> Worker:
    """Add a worker."""
    slot = dispatcher.add_slot()
    dispatcher.worker_ready(slot)
    worker = crew[slot.number] = Worker(dispatcher, slot)
    return worker


def drop_waiting(dispatcher: Dispatcher) -> list[PoolFuture]:
    """Forget the calls that no worker has; returns them."""
    waiting = dispatcher.waiting()
    for call in waiting:
        dispatcher.drop(call)
    return waiting


def hand_out(dispatcher: Dispatcher, crew: dict[int, Worker]) -> None:
    """Send the assigned calls."""
    for slot, sent in dispatcher.assign():
        crew[slot.number].send(sent)


def work(dispatcher: Dispatcher, worker: Worker, is_long: dict[int, bool]) -> bool:
    """Let the worker continue until it runs a long call; return whether it started anything."""
    moved = False
    while worker.at is None and worker.take() is not None:
        moved = True
        assert worker.at is not None
        if not is_long[worker.at.key]:
            dispatcher.finish(worker.slot, worker.at.key, 1e-6)
            worker.at = None
    return moved


@pytest.mark.parametrize(
    ("seconds", "shares"),
    [
        (MIN_WORK_TO_WAKE_SECONDS / 100, [6]),
        (MIN_WORK_TO_WAKE_SECONDS / 4, [4, 2]),
        (MIN_WORK_TO_WAKE_SECONDS, [3, 3]),
        (PREFETCH_SECONDS / 2, [2, 2]),
    ],
)
def test_a_second_worker_is_woken_for_what_is_worth_it(seconds: float, shares: list[int]) -> None:
    """Calls that finish before another worker would be awake go to one worker; others are spread at once."""
    dispatcher = Dispatcher(2, None)
    dispatcher.expected = seconds
    dispatcher.queue.extend(make_call(n) for n in range(6))
    for _ in range(2):
        dispatcher.add_slot().ready = True
    assert [len(sent) for _, sent in dispatcher.assign()] == shares


@pytest.mark.parametrize(
    ("seconds", "ended", "urgent"),
    [
        (LONG_CALL_SECONDS, 1, True),
        (PREFETCH_SECONDS, 1, False),
        (PREFETCH_SECONDS / 4, 2, False),
        (PREFETCH_SECONDS / 4, 3, True),
    ],
)
def test_it_is_urgent_to_send_when_a_worker_has_little_left(seconds: float, ended: int, urgent: bool) -> None:
    """Outcomes can be delivered before calls are sent, as long as workers have half of their prefetched calls."""
    dispatcher = Dispatcher(1, None)
    dispatcher.expected = seconds
    dispatcher.queue.extend(make_call(n) for n in range(9))
    slot = dispatcher.add_slot()
    slot.ready = True
    assert dispatcher.urgent()
    assert [len(sent) for _, sent in dispatcher.assign()] == [dispatcher.depth()]
    assert not dispatcher.urgent()
    for key in range(ended):
        dispatcher.finish(slot, key, seconds)
    assert dispatcher.urgent() is urgent


def test_a_stream_of_short_calls_does_not_hide_a_long_one() -> None:
    """Calls queued behind the oldest call are shared first, however many newer ones another worker has."""
    dispatcher = Dispatcher(3, None)
    dispatcher.expected = 1e-6
    slots = [dispatcher.add_slot() for _ in range(3)]
    calls = [make_call(n) for n in range(6)]
    for slot, number in zip(slots, (2, 4), strict=False):
        slot.ready = True
        dispatcher.queue.extend(calls[:number])
        del calls[:number]
        assert [to for to, _ in dispatcher.assign()] == [slot]
    assert dispatcher.to_share() is None
    slots[2].ready = True
    assert dispatcher.to_share() is slots[0]


def test_a_limited_call_is_alone_with_its_worker() -> None:
    """No call is sent behind one that may be killed."""
    dispatcher = Dispatcher(1, None)
    calls: list[Any] = [make_call(n) for n in range(3)]
    calls[1].limits = object()
    dispatcher.expected = 1e-6
    dispatcher.queue.extend(calls)
    slot = dispatcher.add_slot()
    slot.ready = True
    assert [sent for _, sent in dispatcher.assign()] == [[calls[0]]]
    dispatcher.finish(slot, 0, 1e-6)
    assert [sent for _, sent in dispatcher.assign()] == [[calls[1]]]
    assert list(dispatcher.assign()) == []
    dispatcher.finish(slot, 1, 1e-6)
    assert [sent for _, sent in dispatcher.assign()] == [[calls[2]]]


def test_the_first_worker_with_devices_is_started_when_it_is_known_what_its_call_needs() -> None:
    """The first worker with devices starts once the call is packed, which shows the modules to import first."""
    dispatcher = Dispatcher(2, None)
    call = make_call(1)
    call.binding = Binding((("CUDA_VISIBLE_DEVICES", "0"),), ("0",), is_shared=False)
    packed, call.payload = call.payload, None
    dispatcher.bound.add(call)
    assert not dispatcher.wants_slot()
    call.payload = BEING_PACKED
    assert not dispatcher.wants_slot()
    call.payload = packed
    assert dispatcher.wants_slot()
    assert dispatcher.add_slot().binding is call.binding
