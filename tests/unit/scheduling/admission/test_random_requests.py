"""Very many random requests in virtual time.

AMLTK_TEST_REQUESTS=2000000 with `-o faulthandler_timeout=0` makes two million, some of them in a run: some minutes.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import DependencyError
from amltk.scheduling import ExitState, Resources, Retry, Scheduler
from amltk.scheduling._admission import choice
from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling._admission.choice import MAX_OVERTAKEN, Choice
from amltk.scheduling._admission.pools import Grant, IndexedPool, Pools
from amltk.scheduling._admission.shapes import Waiting
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from amltk.scheduling import Future, Task
    from amltk.testing.simulated_executor import SimulatedFuture

MANY = int(os.environ.get("AMLTK_TEST_REQUESTS", "10000"))
REQUESTS = max(1500, MANY // 100)
IN_FLIGHT = 150
THERE_IS = {"card": 4, "cpu": 16, "memory": 64, "licence": 2}
PATIENCE = 600.0
"""Virtual seconds within which each call must be granted: several times what all calls in flight take together."""


class Refused(Exception):
    """Raised by some calls."""


class Counted(Grant):
    """Counts what is granted and what is given back."""

    made = returned = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        Counted.made += 1

    def give_back(self) -> None:
        Counted.returned += self._pools is not None
        super().give_back()


class Auditor(SimulatedExecutor):
    """Adds up, independently of the pools, what calls were granted."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(40, self.begin, outcome=self.end)
        self.chance = chance
        self.used: Counter[str] = Counter()
        self.told: dict[SimulatedFuture, Counter[str]] = {}
        self.began_at: dict[int, float] = {}
        self.latest: Counter[str] = Counter()

    def begin(self, fn: Any, number: int, *_: Any) -> float:
        assert self._loop is not None
        self.began_at.setdefault(number, self._loop.time())
        self.latest = Counter({name: amount for name, amount in fn.told.items() if name != "card"})
        cards = fn.told.get("card", ())
        share = 0.5 if fn.function is half else 1.0
        self.latest.update({f"card {one}": share for one in cards})  # type: ignore[dict-item]
        self.used.update(self.latest)
        for name, amount in self.used.items():
            assert amount <= (1 if name.startswith("card") else THERE_IS[name]), f"{amount} of {name} are used"
        return self.chance.expovariate(1)

    def _begin(self, future: SimulatedFuture, now: float) -> None:
        super()._begin(future, now)
        self.told[future] = self.latest

    def _leave(self, future: SimulatedFuture, now: float) -> None:
        self.used.subtract(self.told.pop(future))
        super()._leave(future, now)

    def end(self, *_: Any) -> None:
        if self.chance.random() < 0.1:
            raise Refused


def whole(*_: Any) -> None: ...


def half(*_: Any) -> None: ...


def make_tasks(scheduler: Scheduler) -> list[Task[..., Any]]:
    """Tasks of many shapes: whole cards and shares, amounts that grow with the attempts, priorities."""
    requests: list[dict[str, Any]] = [
        {"card": 1, "cpu": 2},
        {"card": 2, "cpu": 1, "memory": 8},
        {"card": 4},
        {"cpu": 4, "memory": lambda call: 8 * 2 ** (call.attempt - 1)},
        {"cpu": lambda call: 1 + call.args[0] % 12},
        {"licence": 1, "cpu": 1},
        {"licence": 2, "card": 1},
        {"cpu": 0.25},
    ]
    retry = Retry(on=Refused, attempts=3, wait=0)
    tasks = [scheduler.task(whole, plugins=[Resources(**amounts), retry]) for amounts in requests]
    tasks.append(scheduler.task(half, plugins=[Resources(card=0.5, cpu=1), retry]))
    tasks.append(scheduler.task(whole, plugins=[Resources(card=1), retry], priority=1))
    return tasks


def assert_nothing_is_used(pools: Pools, used: Counter[str]) -> None:
    """Assert it by the sums, and by the pools."""
    pools.collect()
    assert not any(pool.used for pool in pools.named.values())
    assert not any(used.values())


def test_random_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grants never exceed the total, nothing starves, each call ends once, and each grant is given back once.

    Calls fail and are retried, are cancelled while waiting and while running, depend on others, and change their
    priority.
    """
    monkeypatch.setattr(choice, "Grant", Counted)
    monkeypatch.setattr(Counted, "made", 0)
    monkeypatch.setattr(Counted, "returned", 0)
    chance = random.Random(1)
    executor = Auditor(chance)
    cards = [str(n) for n in range(THERE_IS["card"])]
    scheduler = Scheduler(executor, resources={**THERE_IS, "card": cards})
    tasks = make_tasks(scheduler)
    pending: list[Future[Any]] = []
    ready_at: dict[int, float] = {}
    counts: Counter[str] = Counter()

    def submit() -> None:
        number = counts["submitted"] = counts["submitted"] + 1
        needed = chance.choice(pending) if pending and chance.random() < 0.2 else None
        pending.append(chance.choice(tasks).submit(number, needed))
        if needed is None:
            ready_at[number] = asyncio.get_running_loop().time()
        if chance.random() < 0.03:
            chance.choice(pending).cancel()
        if chance.random() < 0.03:
            moved, priority = chance.choice(pending), chance.choice([-1, 0, 1])
            moved.set_priority(priority)
            if priority < 0:
                ready_at.pop(moved.args[0], None)  # it may wait as long as others arrive

    def note_end(future: Future[Any], outcome: str) -> None:
        counts[outcome] += 1
        pending.remove(future)
        ready, began = ready_at.pop(future.args[0], None), executor.began_at.pop(future.args[0], None)
        if ready is not None and began is not None:
            counts["waited"] = max(counts["waited"], int(began - ready))
        if counts["submitted"] < REQUESTS:
            submit()

    scheduler.on_start(lambda: [submit() for _ in range(min(IN_FLIGHT, REQUESTS))])
    scheduler.on_future_result(lambda future, _: note_end(future, "result"))
    scheduler.on_future_exception(lambda future, error: note_end(future, type(error).__name__))
    scheduler.on_future_cancelled(lambda future: note_end(future, "cancelled"))
    state = run_in_virtual_time(scheduler.async_run(display=False, on_exception="continue", on_cancelled="continue"))
    assert state.code is ExitState.Code.EXHAUSTED
    ends = {"result", Refused.__name__, DependencyError.__name__, "cancelled"}
    assert sum(counts[end] for end in ends) == counts["submitted"] == REQUESTS
    assert all(counts[end] for end in ends)
    assert not pending
    assert counts["waited"] < PATIENCE
    assert Counted.made == Counted.returned >= REQUESTS / 2
    assert_nothing_is_used(scheduler.pools, executor.used)


class Request:
    """One request in the simulation without a run."""

    def __init__(self, number: int, kind: int, priority: float) -> None:
        self.number = number
        self.kind = kind
        self.priority = priority
        self.attempt = 1
        self.ready_at: float | None = None
        self.waiting: Waiting | None = None
        self.dependants: list[Request] = []


class Simulation:
    """Requests that arrive as others end: some fail and request more, are cancelled, or depend on others."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.chance = random.Random(2)
        cards = [str(n) for n in range(THERE_IS["card"])]
        self.pools = Pools({**THERE_IS, "card": cards})
        self.choice = Choice(self.pools, lambda: math.inf)
        self.used: Counter[str] = Counter()
        self.open: list[Request] = []
        self.places: dict[Request, int] = {}
        self.ends: list[tuple[float, int, Request]] = []
        self.counts: Counter[str] = Counter()
        self.now = self.waited = 0.0

    def needs(self, request: Request) -> tuple[tuple[Any, int], ...]:
        card, cpu, memory, licence = self.pools.named.values()
        return (
            ((card, UNIT), (cpu, 2 * UNIT)),
            ((card, 2 * UNIT), (cpu, UNIT), (memory, 8 * UNIT)),
            ((card, 4 * UNIT),),
            ((cpu, 4 * UNIT), (memory, 8 * 2 ** (request.attempt - 1) * UNIT)),
            ((cpu, (1 + request.number % 12) * UNIT),),
            ((licence, UNIT), (cpu, UNIT)),
            ((licence, 2 * UNIT), (card, UNIT)),
            ((card, 5000), (cpu, 2500)),
        )[request.kind]

    def submit(self) -> None:
        self.counts["submitted"] += 1
        request = Request(self.counts["submitted"], self.chance.randrange(8), self.chance.random() < 0.1)
        self.places[request] = len(self.open)
        self.open.append(request)
        needed = self.chance.choice(self.open)
        if needed is not request and self.chance.random() < 0.2:
            needed.dependants.append(request)
        else:
            self.ask(request)

    def ask(self, request: Request) -> None:
        request.ready_at = self.now
        request.waiting = Waiting(request)
        self.choice.add(request.waiting, self.needs(request), 0.0, (-request.priority, request.number))

    def disturb(self) -> None:
        """Cancel a call that is waiting or running, or change its priority."""
        request, what = self.chance.choice(self.open), self.chance.random()
        if request.waiting is None or what > 0.06:
            return
        if what < 0.03:
            if self.choice.discard(request.waiting):
                self.end(request, "cancelled")
            else:
                request.attempt = 3  # it is running: it ends when its work does, and is not retried
        else:
            self.choice.move(request.waiting, self.chance.choice([-1, 0, 1]))
            request.ready_at = None

    def go_on(self) -> None:
        for waiting in self.choice.next_ones():
            request: Request = waiting.payload
            self.account(waiting, 1)
            assert len(waiting.shape.overtakers) <= MAX_OVERTAKEN
            if request.ready_at is not None:
                self.waited = max(self.waited, self.now - request.ready_at)
            heapq.heappush(self.ends, (self.now + self.chance.expovariate(1), request.number, request))

    def account(self, waiting: Waiting, sign: int) -> None:
        """Add up what is in use, independently of the pools."""
        assert waiting.grant is not None
        for pool, units, ids in waiting.grant.taken:
            assert len(ids) == (max(1, units // UNIT) if isinstance(pool, IndexedPool) else 0)
            for name in ids or [pool.name]:
                self.used[name] += sign * (min(units, UNIT) if ids else units)
                assert 0 <= self.used[name] <= (UNIT if ids else pool.total)

    def finish(self, request: Request) -> None:
        waiting = request.waiting
        assert waiting is not None
        assert waiting.grant is not None
        self.account(waiting, -1)
        for _ in range(2):
            waiting.grant.give_back()  # the second time has no effect
        if request.attempt < 3 and self.chance.random() < 0.1:
            request.attempt += 1
            self.ask(request)
        else:
            self.end(request, "ended")

    def end(self, request: Request, how: str) -> None:
        self.counts[how] += 1
        last, place = self.open.pop(), self.places.pop(request)
        if last is not request:
            self.open[place], self.places[last] = last, place
        request.waiting = None
        for dependant in request.dependants:
            self.ask(dependant) if how == "ended" else self.end(dependant, "without")

    def run(self) -> None:
        while True:
            while self.counts["submitted"] < self.requests and len(self.open) < IN_FLIGHT:
                self.submit()
            self.go_on()
            if not self.ends:
                return
            self.now, _, request = heapq.heappop(self.ends)
            self.finish(request)
            if self.open:
                self.disturb()


def test_random_choices() -> None:
    """Random requests without a run satisfy the same rules, and are fast enough for millions."""
    simulation = Simulation(MANY)
    simulation.run()
    counts = simulation.counts
    assert not simulation.open
    assert simulation.choice.n_waiting == 0
    assert counts["ended"] + counts["cancelled"] + counts["without"] == counts["submitted"] == MANY
    assert simulation.waited < PATIENCE
    assert_nothing_is_used(simulation.pools, simulation.used)
