"""Which call is granted its resources next, in virtual time."""

from __future__ import annotations

import heapq
import math
import os
import random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.choice import MAX_OVERTAKEN, Choice
from amltk.scheduling._admission.pools import IndexedPool, Pool, Pools
from amltk.scheduling._admission.shapes import Waiting

Needs = tuple[tuple[Pool, int], ...]


def units_free(pool: Pool, units: int) -> bool:
    return units <= pool.level


class Watched(Choice):
    """Reports before each grant which call is next."""

    world: World

    def _grant(self, waiting: Waiting) -> Waiting:
        self.world.note_overtaking(waiting.payload)
        return super()._grant(waiting)


class World:
    """Calls that arrive and end in virtual time; checks the rules at each grant."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.left = math.inf
        self.choice = Watched(pools, lambda: self.left)
        self.choice.world = self
        self.waiting: dict[int, tuple[Waiting, Needs, tuple[float, int]]] = {}
        self.overtaken: dict[int, int] = {}
        self.running: dict[int, Waiting] = {}
        self.number = 0

    def submit(self, needs: Needs, priority: float = 0.0) -> int:
        self.number += 1
        waiting = Waiting(self.number)
        key = (-priority, self.number)
        self.choice.add(waiting, needs, 0.0, key)
        self.waiting[self.number] = waiting, needs, key
        self.overtaken[self.number] = 0
        return self.number

    def note_overtaking(self, number: int) -> None:
        _, needs, key = self.waiting.pop(number)
        taken = {id(pool) for pool, units in needs if units}
        for other, (_, wants, place) in self.waiting.items():
            if place < key and any(id(pool) in taken and not units_free(pool, units) for pool, units in wants):
                self.overtaken[other] += 1

    def go_on(self) -> list[int]:
        begun = {waiting.payload: waiting for waiting in self.choice.next_ones()}
        self.running |= begun
        self.check()
        return list(begun)

    def end(self, number: int) -> None:
        grant = self.running.pop(number).grant
        assert grant is not None
        grant.give_back()
        grant.give_back()

    def check(self) -> None:
        for pool in self.pools.named.values():
            assert 0 <= pool.used <= pool.total
            assert pool.free >= 0
        held: dict[str, int] = {}
        for waiting in self.running.values():
            assert waiting.grant is not None
            for pool, units, ids in waiting.grant.taken:
                if isinstance(pool, IndexedPool):
                    assert len(ids) == max(1, units // UNIT)
                    for one in ids:
                        held[pool.name + one] = held.get(pool.name + one, 0) + min(units, UNIT)
        assert all(units <= UNIT for units in held.values())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "submit", "end", "cancel", "move"]),
        st.sampled_from([0, 2500, 5000, UNIT, 2 * UNIT]),
        st.integers(0, 4),
        st.integers(-1, 1),
        st.integers(0, 10**6),
    ),
    max_size=120,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_never_more_than_there_is_and_all_end(steps: list[tuple[str, int, int, int, int]]) -> None:
    """Whatever is submitted, ended, cancelled or moved: nothing is granted twice, and every call gets its turn."""
    pools = Pools({"gpu": ["0", "1"], "cpu": 4})
    gpu, cpu = pools.named.values()
    world = World(pools)
    for what, gpus, cpus, priority, at in steps:
        if what == "submit":
            world.submit(((gpu, gpus), (cpu, cpus * UNIT)), priority)
        elif what == "end" and world.running:
            world.end(list(world.running)[at % len(world.running)])
        elif world.waiting and what in {"cancel", "move"}:
            number = list(world.waiting)[at % len(world.waiting)]
            waiting, needs, key = world.waiting[number]
            if what == "cancel":
                assert world.choice.discard(waiting)
                assert not world.choice.discard(waiting)
                del world.waiting[number]
            else:
                world.choice.move(waiting, priority)
                world.waiting[number] = waiting, needs, (-priority, key[1])
        world.go_on()
        assert world.choice.n_waiting == len(world.waiting)
    while world.running:
        world.end(next(iter(world.running)))
        world.go_on()
    assert not world.waiting
    assert all(pool.used == 0 for pool in pools.named.values())


def test_priority_then_order() -> None:
    """Among calls that fit, the highest priority comes first, and among equals the earliest."""
    pools = Pools({"cpu": 1})
    (cpu,) = pools.named.values()
    world = World(pools)
    first = world.submit(((cpu, UNIT),))
    assert world.go_on() == [first]
    low, high, late = (world.submit(((cpu, UNIT),), priority) for priority in (0, 1, 1))
    order = []
    for _ in range(3):
        world.end(next(iter(world.running)))
        order += world.go_on()
    assert order == [high, late, low]


def test_a_large_call_is_overtaken_64_times_and_no_more() -> None:
    """A call that needs both GPUs waits while calls for one keep arriving, and then gets its turn."""
    pools = Pools({"gpu": ["0", "1"], "cpu": 100})
    gpu, cpu = pools.named.values()
    world = World(pools)
    for _ in range(2):
        world.submit(((gpu, UNIT),))
    world.go_on()
    large = world.submit(((gpu, 2 * UNIT),))
    overtaking = 0
    while large in world.waiting:
        world.submit(((gpu, UNIT),))
        assert world.submit(((cpu, UNIT),)) in world.go_on()  # takes nothing that it waits for
        oldest = next(number for number in world.running if world.running[number].shape.needs[0][0] is gpu)
        world.end(oldest)
        overtaking += len([n for n in world.go_on() if n != large])
        assert overtaking < 1000
    assert overtaking == world.overtaken[large] == MAX_OVERTAKEN


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_overtaken_too_often(seed: int) -> None:
    """With random calls of many shapes and priorities, at most 64 calls that take what a call lacks overtake it."""
    chance = random.Random(seed)
    pools = Pools({"gpu": ["0", "1", "2"], "cpu": 8, "licence": 2})
    gpu, cpu, licence = pools.named.values()
    world = World(pools)
    n = int(os.environ.get("AMLTK_TEST_REQUESTS", "1500"))
    ends: list[tuple[float, int]] = []
    now = 0.0
    for _ in range(n):
        now += chance.expovariate(2.2)
        while ends and ends[0][0] < now:
            world.end(heapq.heappop(ends)[1])
            for number in world.go_on():
                heapq.heappush(ends, (now + chance.expovariate(1), number))
        gpus = chance.choice([0, 0, 2500, 5000, UNIT, UNIT, 2 * UNIT, 3 * UNIT])
        world.submit(
            ((gpu, gpus), (cpu, chance.randrange(1, 8) * UNIT), (licence, chance.choice([0, 0, 1, 2]) * UNIT)),
            chance.choice([0, 0, 0, 0, 1]),
        )
        for number in world.go_on():
            heapq.heappush(ends, (now + chance.expovariate(1), number))
    while ends:
        now, number = heapq.heappop(ends)
        world.end(number)
        for begun in world.go_on():
            heapq.heappush(ends, (now + chance.expovariate(1), begun))
    assert not world.waiting
    assert max(world.overtaken.values()) <= MAX_OVERTAKEN


def test_gpus_are_busy_and_large_calls_do_not_starve() -> None:
    """4 GPUs, 16 CPUs, 1000 seconds of calls of four shapes: at least 75 % busy, no call for two GPUs waits 200 s."""
    chance = random.Random(1)
    pools = Pools({"gpu": ["0", "1", "2", "3"], "cpu": 16})
    gpu, cpu = pools.named.values()
    choice = Choice(pools, lambda: math.inf)
    # GPUs in units, CPUs, seconds, seconds between two calls
    kinds = [(UNIT, 4, 30.0, 16.0), (2 * UNIT, 4, 40.0, 80.0), (5000, 1, 10.0, 12.0), (0, 4, 20.0, 60.0)]
    events: list[tuple[float, int, Waiting | None, tuple[int, int, float]]] = []
    for gpus, cpus, seconds, between in kinds:
        at = 0.0
        while (at := at + chance.expovariate(1 / between)) < 1000:
            events.append((at, len(events), None, (gpus, cpus, chance.uniform(0.5, 1.5) * seconds)))
    heapq.heapify(events)
    number, busy, last = len(events), 0.0, 0.0
    waited: list[float] = []
    while events:
        now, _, ended, (gpus, cpus, seconds) = heapq.heappop(events)
        busy += gpu.used / UNIT * max(0.0, min(now, 1000) - min(last, 1000))
        last = now
        if ended is None:
            number += 1
            choice.add(Waiting((now, gpus, cpus, seconds)), ((gpu, gpus), (cpu, cpus * UNIT)), 0.0, (0.0, number))
        else:
            assert ended.grant is not None
            ended.grant.give_back()
        for begun in choice.next_ones():
            number += 1
            since, gpus, cpus, seconds = begun.payload
            heapq.heappush(events, (now + seconds, number, begun, (gpus, cpus, seconds)))
            if gpus == 2 * UNIT:
                waited.append(now - since)
    assert busy / 4000 >= 0.75
    assert max(waited) <= 200
    assert median(waited) <= 60


def test_a_call_without_time_is_passed_over() -> None:
    """A call that needs more time than is left does not start, and blocks no other call."""
    pools = Pools({"cpu": 1})
    (cpu,) = pools.named.values()
    world = World(pools)
    world.left = 10.0
    late = Waiting("late")
    world.choice.add(late, ((cpu, UNIT),), 20.0, (0.0, 0))
    number = world.submit(((cpu, UNIT),))
    assert world.go_on() == [number]
    assert world.choice.out_of_time() == [late]
    assert "needs 20 s" in world.choice.reason(late)


def test_a_place_of_an_earlier_attempt_is_in_nobodys_way() -> None:
    """A leftover entry of an earlier attempt, with the same number, does not block a retried call."""
    pools = Pools({"cpu": 1})
    (cpu,) = pools.named.values()
    choice = Choice(pools, lambda: math.inf)
    first, again = Waiting("first"), Waiting("again")
    choice.add(Waiting("before"), ((cpu, UNIT),), 0.0, (0.0, 1))
    choice.add(first, ((cpu, UNIT),), 0.0, (0.0, 2))
    choice.move(first, 1)
    choice.move(first, 0)
    (begun,) = choice.next_ones()
    assert choice.discard(first)
    choice.add(again, ((cpu, UNIT),), 0.0, (0.0, 2))
    assert begun.grant is not None
    begun.grant.give_back()
    assert choice.next_ones() == [again]
