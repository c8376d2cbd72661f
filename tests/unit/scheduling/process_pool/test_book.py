"""The book-keeping of the process pool, without any process."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amltk.scheduling.executors.process_pool.book import LONG, MOST, SPAN, WAKING, Book, Seat
from amltk.scheduling.executors.process_pool.future import PoolFuture
from tests.unit.scheduling.process_pool.making import make_call


class Worker:
    """A worker that takes a token when it is told to."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.received: deque[tuple[int, PoolFuture]] = deque()
        self.tokens: deque[int] = deque()
        self.at: PoolFuture | None = None

    def take(self) -> PoolFuture | None:
        """Take a token, leave out what it is not for, and begin."""
        if self.at is not None or not self.tokens:
            return None
        generation = self.tokens.popleft()
        while self.received[0][0] != generation:
            self.received.popleft()
        self.at = self.received.popleft()[1]
        return self.at


class Bookkeeping(RuleBasedStateMachine):
    """Workers that begin, end and die whenever they like, calls that are added, cancelled and shared."""

    @initialize(workers=st.integers(1, 4), most=st.sampled_from([None, 1, 3]))
    def open(self, workers: int, most: int | None) -> None:
        self.book = Book(workers, most)
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
            self.book.queue.append(call)

    @rule()
    def start(self) -> None:
        while self.book.wants_seat():
            seat = self.book.add_seat()
            self.workers[seat.number] = Worker(seat)
        assert len(self.book.seats) <= self.max

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def get_ready(self, which: int) -> None:
        self.pick(which).seat.ready = True

    @rule()
    def assign(self) -> None:
        for seat, calls in self.book.assign():
            worker = self.workers[seat.number]
            assert seat.ready
            assert not seat.closed
            worker.received.extend((seat.generation, call) for call in calls)
            worker.tokens.extend([seat.generation] * len(calls))

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def begin(self, which: int) -> None:
        call = self.pick(which).take()
        if call is not None:
            self.began.append(call.key)

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3), seconds=st.sampled_from([1e-5, 1e-3, 1.0]))
    def end(self, which: int, seconds: float) -> None:
        worker = self.pick(which)
        if worker.at is None:
            return
        call, worker.at = worker.at, None
        finished = self.book.finish(worker.seat, call.key, seconds)
        if call.key in self.dropped:
            assert finished is None
        else:
            assert finished is call
            call.dropped = True
            self.ended.append(call.key)

    @rule()
    def share(self) -> None:
        seat = self.book.to_share()
        if seat is not None:
            self.take_back(self.workers[seat.number])

    @precondition(lambda self: self.workers)
    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        """A worker that dies loses the call that it was at, and nothing else."""
        worker = self.pick(which)
        self.take_back(worker)
        lost = self.book.remove_seat(worker.seat)
        assert lost == ([worker.at] if worker.at is not None and worker.at.key not in self.dropped else [])
        for call in lost:
            call.dropped = True
            self.lost.append(call.key)
        del self.workers[worker.seat.number]

    @precondition(lambda self: self.accepted)
    @rule(which=st.integers(0, 10_000))
    def cancel(self, which: int) -> None:
        call = self.accepted[which % len(self.accepted)]
        if call.dropped:
            return
        if call.seat is not None:
            self.take_back(self.workers[call.seat.number])
        seat = self.book.drop(call)
        self.dropped.append(call.key)
        assert (seat is not None) == (call.key in self.began)

    def take_back(self, worker: Worker) -> None:
        if worker.tokens:
            self.book.take_back(worker.seat, len(worker.tokens))
            worker.tokens.clear()

    def pick(self, which: int) -> Worker:
        return list(self.workers.values())[which % len(self.workers)]

    @invariant()
    def every_call_is_in_one_place(self) -> None:
        if not hasattr(self, "book"):
            return
        queued = [call.key for call in self.book.queue if not call.dropped]
        sent = [call.key for seat in self.book.seats.values() for call in seat.sent]
        everywhere = queued + sent + self.ended + self.dropped + self.lost
        assert sorted(everywhere) == [call.key for call in self.accepted]
        assert len(self.began) == len(set(self.began)), "begun twice"
        assert not set(queued) & set(self.began), "begun, and yet to be begun"
        for seat in self.book.seats.values():
            assert len(seat.sent) <= MOST
            assert self.most is None or seat.begun <= self.most


TestBookkeeping = Bookkeeping.TestCase


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 4), st.booleans())
def test_long_calls_occupy_all_workers(mix: list[bool], workers: int, one_is_up: bool) -> None:
    """Whatever the mix of long and short calls: if N long ones can run, N workers are at long ones in the end.

    This holds as well if a single worker was enough until then, which gets them all at first.
    """
    book = Book(workers, None)
    book.expected = 1e-6  # as after many short calls: they travel in batches
    calls = [make_call(n) for n in range(len(mix))]
    is_long = {call.key: long for call, long in zip(calls, mix, strict=True)}
    book.queue.extend(calls)
    crew: dict[int, Worker] = {}
    if one_is_up:
        start(book, crew)
        hand_out(book, crew)
    for _ in range(10 * len(mix) + 10):
        while book.wants_seat():
            start(book, crew)
        hand_out(book, crew)
        moved = [work(book, worker, is_long) for worker in crew.values()]
        seat = book.to_share()
        if seat is not None:
            book.take_back(seat, len(crew[seat.number].tokens))
            crew[seat.number].tokens.clear()
        elif not any(moved):
            break
    occupied = sum(worker.at is not None for worker in crew.values())
    assert occupied == min(workers, sum(mix))


def start(book: Book, crew: dict[int, Worker]) -> None:
    """Have one worker more."""
    seat = book.add_seat()
    seat.ready = True
    crew[seat.number] = Worker(seat)


def hand_out(book: Book, crew: dict[int, Worker]) -> None:
    """Send what is assigned."""
    for seat, sent in book.assign():
        crew[seat.number].received.extend((seat.generation, call) for call in sent)
        crew[seat.number].tokens.extend([seat.generation] * len(sent))


def work(book: Book, worker: Worker, is_long: dict[int, bool]) -> bool:
    """Have the worker go on until it is at a long call; whether it began anything."""
    moved = False
    while worker.at is None and worker.take() is not None:
        moved = True
        assert worker.at is not None
        if not is_long[worker.at.key]:
            book.finish(worker.seat, worker.at.key, 1e-6)
            worker.at = None
    return moved


@pytest.mark.parametrize(
    ("seconds", "shares"), [(WAKING / 100, [6]), (WAKING / 4, [4, 2]), (WAKING, [3, 3]), (SPAN / 2, [2, 2])]
)
def test_a_second_worker_is_woken_for_what_is_worth_it(seconds: float, shares: list[int]) -> None:
    """Calls that are done before another worker would be awake go to one; others are spread at once."""
    book = Book(2, None)
    book.expected = seconds
    book.queue.extend(make_call(n) for n in range(6))
    for _ in range(2):
        book.add_seat().ready = True
    assert [len(sent) for _, sent in book.assign()] == shares


@pytest.mark.parametrize(
    ("seconds", "ended", "urgent"), [(LONG, 1, True), (SPAN, 1, False), (SPAN / 4, 2, False), (SPAN / 4, 3, True)]
)
def test_it_is_urgent_to_send_when_a_worker_has_little_left(seconds: float, ended: int, urgent: bool) -> None:
    """Outcomes can be told before calls are sent as long as workers have half of what they had in advance."""
    book = Book(1, None)
    book.expected = seconds
    book.queue.extend(make_call(n) for n in range(9))
    seat = book.add_seat()
    seat.ready = True
    assert book.urgent()
    assert [len(sent) for _, sent in book.assign()] == [book.depth()]
    assert not book.urgent()
    for key in range(ended):
        book.finish(seat, key, seconds)
    assert book.urgent() is urgent


def test_a_stream_of_short_calls_does_not_hide_a_long_one() -> None:
    """What waits behind the oldest call is shared first, however many newer ones another worker has."""
    book = Book(3, None)
    book.expected = 1e-6
    seats = [book.add_seat() for _ in range(3)]
    calls = [make_call(n) for n in range(6)]
    for seat, number in zip(seats, (2, 4), strict=False):
        seat.ready = True
        book.queue.extend(calls[:number])
        del calls[:number]
        assert [to for to, _ in book.assign()] == [seat]
    assert book.to_share() is None
    seats[2].ready = True
    assert book.to_share() is seats[0]


def test_a_limited_call_is_alone_with_its_worker() -> None:
    """Nothing is sent behind a call that may be killed."""
    book = Book(1, None)
    calls: list[Any] = [make_call(n) for n in range(3)]
    calls[1].limits = object()
    book.expected = 1e-6
    book.queue.extend(calls)
    seat = book.add_seat()
    seat.ready = True
    assert [sent for _, sent in book.assign()] == [[calls[0]]]
    book.finish(seat, 0, 1e-6)
    assert [sent for _, sent in book.assign()] == [[calls[1]]]
    assert list(book.assign()) == []
    book.finish(seat, 1, 1e-6)
    assert [sent for _, sent in book.assign()] == [[calls[2]]]
