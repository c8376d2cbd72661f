"""The resources that a call and its processes use, computed from the usage of all processes.

No I/O except in `baseline`, so that tests can invent processes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool._system import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from amltk.scheduling.executors.process_pool._system.processes import Footprint, Key, Process

CLOCK_SLACK_SECONDS = 0.02
"""A process started up to this many seconds before a call may be the call's: systems count in hundredths."""


def baseline() -> list[Process]:
    """This process, first, and its descendants: their usage before a call.

    Empty if the system does not report it.
    """
    others = list(processes.snapshot().values()) if _has_children() else []
    try:
        me = processes.me()
    except LookupError:
        return []
    return [me, *family_of({one.pid: one for one in (*others, me)}, me.pid, ())[1:]]


def _has_children() -> bool:
    """Whether this process has children that it has not waited for, dead or alive. Takes a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:  # macOS before CPython 3.13
        pass
    return True


def family_of(now: Mapping[int, Process], worker: int, known: Collection[Key]) -> list[Process]:
    """The processes of a worker, each after its parent: the worker and its descendants.

    A process whose parent has ended is adopted by an outside process. It is found if it is in the worker's process
    group, or if it was seen before.

    Args:
        now: All processes.
        worker: The pid of the worker.
        known: The processes seen before.
    """
    children: dict[int, list[Process]] = {}
    for process in now.values():
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}

    def take(process: Process) -> None:
        descendants = [process]
        while descendants:
            one = descendants.pop()
            if one.pid not in found:
                found[one.pid] = one
                descendants += children.get(one.pid, ())

    if worker in now:
        take(now[worker])
    left = {one.pid: one for one in now.values() if one.group == worker or one.key in known}
    for process in left.values():
        top = process
        while top.pid not in found and top.parent in left:
            top = left[top.parent]
        take(top)
    return list(found.values())


class Usage:
    """The usage of one call.

    CPU: what the worker and its family have used since the call began. Earlier usage does not count, and usage is not
    lost when a process ends, no matter what waits for it. A process that both began and ended between two looks counts
    if its parent, or its parent's parent, has waited for it, and the system reports that.

    Memory: what the family uses now, no matter what started it. Memory shared within the family counts once.

    Args:
        worker: The pid of the worker.
        before: The worker's `baseline` when the call began. If it is empty, everything found at the first look counts
            as used before.
        began: When the call began, on the processes' clock.

    Attributes:
        cpu: The CPU seconds at the last look.
    """

    def __init__(self, worker: int, before: Sequence[Process], began: float) -> None:
        self.cpu: float = 0.0
        self._worker = worker
        self._began = began
        self._family: dict[int, Process] = {}  # at the last look
        self._reaped_before: dict[Key, float] = {}
        self._used_before = 0.0
        self._owed: dict[Key, float] = {}  # usage of ended processes, expected in what their parents reap
        self._lost = 0.0  # usage of processes that no one in the family has waited for
        for process in before:
            self._note_used_before(process)
        self._family = {process.pid: process for process in before}

    def _note_used_before(self, process: Process) -> None:
        self._used_before += process.cpu
        self._reaped_before[process.key] = process.reaped

    def look(self, now: Mapping[int, Process]) -> None:
        """Update from the current usage of all processes."""
        family = {one.pid: one for one in family_of(now, self._worker, self._reaped_before)}
        for process in family.values():
            if process.key not in self._reaped_before:
                if process.started < self._began - CLOCK_SLACK_SECONDS:
                    self._note_used_before(process)
                else:
                    self._reaped_before[process.key] = 0.0
        for process in self._family.values():
            if not _is_among(process, family):
                self._bury(process, family)
        self._family = family
        used = sum(process.cpu + self._missing(process) for process in family.values())
        self.cpu = used + self._lost - self._used_before

    def _missing(self, process: Process) -> float:
        """The usage of ended processes that this one still has to reap."""
        owed = self._owed.get(process.key, 0.0)
        return max(0.0, owed - (process.reaped - self._reaped_before[process.key]))

    def _bury(self, process: Process, family: Mapping[int, Process]) -> None:
        """Handle the end of a process: its nearest remaining ancestor is expected to reap its usage."""
        used = process.cpu + self._missing(process)
        for ancestor in self._ancestors(process):
            if _is_among(ancestor, family):
                self._owed[ancestor.key] = self._owed.get(ancestor.key, 0.0) + used
                return
        self._lost += used

    def _ancestors(self, process: Process) -> Iterator[Process]:
        while (parent := self._family.get(process.parent)) is not None:
            yield parent
            process = parent

    def memory(self, limit: int, footprint: Callable[[Process], Footprint]) -> int:
        """The bytes of memory at the last look.

        Args:
            limit: At or below this, no close look is taken, since that takes time; the number is then too large if
                memory is shared.
            footprint: Takes the close look.
        """
        own = [process for process in self._family.values() if not self._is_in_its_parents_memory(process)]
        rest = sum(process.resident for process in own)
        its = common = 0
        # Parents first: if a child has started another program meanwhile, its parent counts too little, which can never
        # lead to a false excess.
        for process in own:
            if its + common + rest < limit:
                break
            rest -= process.resident
            part = footprint(process)
            its += part.its
            common = max(common, part.common)
        return its + common + rest

    def _is_in_its_parents_memory(self, process: Process) -> bool:
        """Whether it is about to start another program, and uses its parent's memory until then: see vfork(2).

        No system reports that, but then both sizes are equal to the byte, unlike those of a copy.
        """
        parent = self._family.get(process.parent)
        return parent is not None and (parent.resident, parent.virtual) == (process.resident, process.virtual)


def _is_among(process: Process, family: Mapping[int, Process]) -> bool:
    found = family.get(process.pid)
    return found is not None and found.key == process.key
