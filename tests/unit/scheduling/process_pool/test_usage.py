"""The resource usage attributed to a call, with simulated processes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from amltk.scheduling.executors.process_pool._system.processes import Footprint, Process
from amltk.scheduling.executors.process_pool._system.usage import Usage, family_of

INIT, POOL, WORKER, STRANGER = 1, 50, 100, 900
BEGAN = 1000.0


class System:
    """A system's processes: they start, use CPU, end, and are reaped or not."""

    def __init__(self) -> None:
        self.now = BEGAN
        self.processes: dict[int, Process] = {}
        self.next_pid = WORKER
        for pid, parent in ((INIT, 0), (POOL, INIT), (STRANGER, INIT)):
            self.add(pid, parent, group=pid)
        self.start(POOL, leads=True)

    def add(self, pid: int, parent: int, group: int) -> None:
        self.processes[pid] = Process(pid, parent, group, self.now, 0.0, 0.0, 0, 0)

    def start(self, parent: int, *, leads: bool = False) -> int:
        pid, self.next_pid = self.next_pid, self.next_pid + 1
        self.add(pid, parent, pid if leads else self.processes[parent].group)
        return pid

    def set(self, pid: int, **changes: Any) -> None:
        self.processes[pid] = self.processes[pid]._replace(**changes)

    def burn(self, pid: int, seconds: float) -> None:
        self.set(pid, own=self.processes[pid].own + seconds)

    def end(self, pid: int, *, waited_for: bool = True) -> None:
        """End a process; its parent accounts for its usage, and init adopts its children."""
        gone = self.processes.pop(pid)
        if waited_for:
            self.set(gone.parent, reaped=self.processes[gone.parent].reaped + gone.cpu)
        for child in [one for one in self.processes.values() if one.parent == pid]:
            self.set(child.pid, parent=INIT)

    def family(self) -> list[Process]:
        return family_of(self.processes, WORKER, ())

    def begin(self) -> Usage:
        """Start a call now."""
        self.now += 1
        return Usage(WORKER, self.family(), self.now)

    def used(self, usage: Usage) -> float:
        usage.look(self.processes)
        return round(usage.cpu, 6)


@pytest.fixture
def system() -> System:
    """A system with a pool and a worker."""
    return System()


def test_what_was_used_before_is_not_counted(system: System) -> None:
    """The worker's CPU of earlier calls, of programs they ran, and of surviving processes does not count."""
    kept, ended = system.start(WORKER), system.start(WORKER)
    for pid in (WORKER, kept, ended):
        system.burn(pid, 10)
    system.end(ended)
    usage = system.begin()
    assert system.used(usage) == 0
    system.burn(WORKER, 1)
    system.burn(kept, 2)
    assert system.used(usage) == 3


def test_what_the_call_has_started_counts(system: System) -> None:
    """A child counts while it runs and once it is reaped, even if never sampled in between."""
    usage = system.begin()
    child = system.start(WORKER)
    grandchild = system.start(child)
    system.burn(grandchild, 1)
    assert system.used(usage) == 1
    system.end(grandchild)
    system.burn(child, 1)
    system.end(child)
    assert system.used(usage) == 2
    unseen = system.start(WORKER)
    system.burn(unseen, 4)
    system.end(unseen)
    assert system.used(usage) == 6


def test_a_kept_process_that_is_waited_for_now(system: System) -> None:
    """When an earlier call's process is reaped, its usage moves to the worker, but does not count for this call."""
    kept = system.start(WORKER)
    system.burn(kept, 10)
    usage = system.begin()
    system.end(kept)  # before any sample
    assert system.used(usage) == 0


@pytest.mark.parametrize("waited_for", [True, False])
def test_what_has_ended_counts_once(system: System, waited_for: bool) -> None:
    """An ended process stays counted once, whether its parent reaps it or, if SIGCHLD is ignored, no process does."""
    usage = system.begin()
    for expected in (1, 2, 3):
        child = system.start(WORKER)
        system.burn(child, 1)
        assert system.used(usage) == expected
        system.end(child, waited_for=waited_for)
        assert system.used(usage) == expected


def test_a_torn_look(system: System) -> None:
    """A child that ends between the samples of its parent and of itself is not counted twice afterwards."""
    usage = system.begin()
    child = system.start(WORKER)
    system.burn(child, 5)
    assert system.used(usage) == 5
    worker_before = system.processes[WORKER]
    system.end(child)
    usage.look({**system.processes, WORKER: worker_before})
    assert usage.cpu == 5
    assert system.used(usage) == 5
    system.burn(WORKER, 1)
    assert system.used(usage) == 6


def test_a_child_whose_parent_has_ended(system: System) -> None:
    """An orphan still counts, only for its usage in this call, and stays counted when init reaps it."""
    parent = system.start(WORKER, leads=True)
    orphan = system.start(parent)
    system.burn(orphan, 10)
    usage = system.begin()
    assert system.used(usage) == 0
    system.end(parent)
    system.burn(orphan, 1)
    assert system.used(usage) == 1
    system.end(orphan)
    assert system.used(usage) == 1
    system.burn(WORKER, 1)
    assert system.used(usage) == 2


def test_an_orphan_that_was_never_seen_with_its_parent(system: System) -> None:
    """An orphan is identified by the worker's process group; one from an earlier call counts from its first sample."""
    old_parent = system.start(WORKER)
    old = system.start(old_parent)
    system.burn(old, 10)
    system.end(old_parent)
    usage = system.begin()
    parent = system.start(WORKER)
    new = system.start(parent)
    system.end(parent)
    system.burn(new, 1)
    assert system.used(usage) == 1
    system.burn(old, 2)
    assert system.used(usage) == 3


def test_a_pid_that_is_used_again(system: System) -> None:
    """A new process with the pid of a dead one is a different process."""
    kept = system.start(WORKER)
    system.burn(kept, 10)
    usage = system.begin()
    system.end(kept)
    system.next_pid = kept
    assert system.start(WORKER) == kept
    system.burn(kept, 2)
    assert system.used(usage) == 2


def test_others_are_not_concerned(system: System) -> None:
    """The usage of the process that starts workers, of other workers and of strangers is not the call's."""
    usage = system.begin()
    other = system.start(POOL, leads=True)
    for pid in (POOL, STRANGER, other):
        system.burn(pid, 10)
    assert system.used(usage) == 0


def test_a_worker_that_says_nothing(system: System) -> None:
    """Usage found in the first sample counts as earlier usage."""
    system.burn(WORKER, 10)
    kept = system.start(WORKER)
    system.burn(kept, 10)
    system.now += 1
    usage = Usage(WORKER, [], system.now)
    assert system.used(usage) == 0
    system.burn(kept, 1)
    assert system.used(usage) == 1


def test_a_worker_that_is_gone(system: System) -> None:
    """Sampling a worker that has just exited is not an error."""
    usage = system.begin()
    system.end(WORKER)
    assert system.used(usage) == 0
    assert usage.memory(10, Footprint) == 0


class Accounts(RuleBasedStateMachine):
    """Processes start, burn CPU and end, and calls start, in any order; the account is always right."""

    @initialize()
    def boot(self) -> None:
        self.system = System()
        self.total = 0.0  # of the family, since the call started
        self.family = {WORKER}
        self.usage = self.system.begin()

    @rule()
    def begin(self) -> None:
        self.total = 0.0
        self.family = {process.pid for process in self.system.family()}
        self.usage = self.system.begin()

    @rule(number=st.integers(0))
    @precondition(lambda self: len(self.family) < 8)
    def start(self, number: int) -> None:
        self.family.add(self.system.start(self.one(number)))

    @rule(number=st.integers(0), hundredths=st.integers(1, 500))
    def burn(self, number: int, hundredths: int) -> None:
        self.system.burn(self.one(number), hundredths / 100)
        self.total += hundredths / 100

    @rule(number=st.integers(0), waited_for=st.booleans())
    @precondition(lambda self: len(self.family) > 1)
    def end(self, number: int, waited_for: bool) -> None:
        pid = self.one(number, but=WORKER)
        self.usage.look(self.system.processes)  # unsampled usage could hide an equal amount that was never reaped
        self.system.end(pid, waited_for=waited_for)
        self.family.discard(pid)

    @rule()
    def look(self) -> None:
        assert self.system.used(self.usage) == pytest.approx(self.total, abs=1e-5)

    def teardown(self) -> None:
        self.look()

    def one(self, number: int, but: int | None = None) -> int:
        pids = sorted(self.family - {but})
        return pids[number % len(pids)]


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# ------------------------------------------------------------------------------------------------------------- memory

MB = 1_000_000


def memory(system: System, limit: int, **footprints: tuple[int, int]) -> int:
    """The family's memory in MB; footprints by pid, or else the resident size."""
    usage = system.begin()
    usage.look(system.processes)
    by_pid = {int(name[1:]): Footprint(its * MB, common * MB) for name, (its, common) in footprints.items()}

    def footprint(process: Process) -> Footprint:
        return by_pid.get(process.pid, Footprint(process.resident, 0))

    return usage.memory(limit * MB, footprint) // MB


def give(system: System, pid: int, resident: int, virtual: int) -> None:
    system.set(pid, resident=resident * MB, virtual=virtual * MB)


def test_what_is_within_the_limit_is_not_looked_at_closely(system: System) -> None:
    """The sum of resident sizes is enough if it is below the limit."""
    give(system, WORKER, 300, 1000)
    give(system, system.start(WORKER), 100, 500)
    usage = system.begin()
    usage.look(system.processes)
    assert usage.memory(500 * MB, pytest.fail) == 400 * MB


def test_shared_memory_counts_once(system: System) -> None:
    """Sharing pages is not an excess, whether the system divides them or reports only private ones."""
    give(system, WORKER, 200, 1000)
    for number in range(4):
        give(system, system.start(WORKER), 190 + number, 1000)
    divided = {f"p{WORKER + number}": (44, 0) for number in range(5)}
    assert memory(system, 500, **divided) < 500
    private = {f"p{WORKER + number}": (5, 190) for number in range(5)}
    assert memory(system, 500, **private) < 500
    assert memory(system, 212, **private) == 5 * 5 + 190


def test_an_excess_by_children(system: System) -> None:
    """Children with private memory may exceed the limit together."""
    give(system, WORKER, 100, 1000)
    for number in range(4):
        give(system, system.start(WORKER), 200 + number, 1000)
    assert memory(system, 500) == 100 + 4 * 200 + 6


def test_a_program_that_is_about_to_start(system: System) -> None:
    """A child that still shares its parent's memory takes none, however often it is counted."""
    give(system, WORKER, 300, 1000)
    for _ in range(3):
        give(system, system.start(WORKER), 300, 1000)
    assert memory(system, 500) == 300


def test_looking_closely_ends_early(system: System) -> None:
    """No more processes are examined once an excess is impossible, since that takes time."""
    give(system, WORKER, 400, 1000)
    for number in range(3):
        give(system, system.start(WORKER), 390 + number, 999)
    usage = system.begin()
    usage.look(system.processes)
    seen: list[int] = []

    def footprint(process: Process) -> Footprint:
        seen.append(process.pid)
        return Footprint(100 * MB, 0)

    assert usage.memory(1500 * MB, footprint) == 100 * MB + (390 + 391 + 392) * MB
    assert seen == [WORKER]
