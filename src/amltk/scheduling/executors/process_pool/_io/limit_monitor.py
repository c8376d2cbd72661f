"""Enforces the limits of running calls, by checking their processes."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.exceptions import CpuTimeLimitError, MemoryLimitError, TaskLimitError, WallTimeLimitError
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.process_pool._system import processes
from amltk.scheduling.executors.process_pool._system.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._state.protocol import Frame
    from amltk.scheduling.executors.process_pool.limits import CallLimits

LOOK_SECONDS = 0.05
"""Seconds between two checks of CPU time and memory."""

DOUBT_SECONDS = 0.01
"""Seconds from a check that found an excess to the one that confirms it: processes are read one after the other, so one
that ended or started another program in the meantime may have been counted twice."""

MAX_LOOKING_SHARE = 0.1
"""The largest share of a CPU for checks: with thousands of processes they are less frequent."""


@dataclass(eq=False, slots=True)
class _Watched:
    limits: CallLimits
    name: str
    began: float
    usage: Usage | None
    """None if neither CPU time nor memory is limited."""
    in_doubt: bool = False
    """Whether the last check found an excess."""


class Excess(NamedTuple):
    """A call that has exceeded a limit."""

    link: Link
    watched: _Watched
    error: TaskLimitError


class LimitMonitor:
    """Watches the calls with limits."""

    def __init__(self) -> None:
        self._watched: dict[Link, _Watched] = {}
        self._next_look = 0.0  # on the monotonic clock

    def watch(self, link: Link, limits: CallLimits, fn: Callable[..., Any], frame: Frame) -> None:
        """Watch a call that has just begun, as its worker reported in a frame."""
        usage = None
        if limits.cpu_time is not None or limits.memory is not None:
            before = pickle.loads(frame.payload) if frame.payload else []
            usage = Usage(link.pid, before, processes.clock() - (time.monotonic() - frame.began))
            if not self._measures():
                self._next_look = max(self._next_look, time.monotonic() + LOOK_SECONDS)
        self._watched[link] = _Watched(limits, callback_name(fn), time.monotonic(), usage)

    def _measures(self) -> bool:
        return any(watched.usage is not None for watched in list(self._watched.values()))

    def forget(self, link: Link) -> None:
        """Stop watching a call that has ended."""
        self._watched.pop(link, None)

    def due(self) -> float | None:
        """When to check next, on the monotonic clock; None if nothing is limited."""
        times = [
            watched.began + watched.limits.wall_time
            for watched in self._watched.values()
            if watched.limits.wall_time is not None
        ]
        if self._measures():
            times.append(self._next_look)
        return min(times, default=None)

    def check(self) -> list[Excess]:
        """The calls that have exceeded a limit. Reads processes, so it must not be called under a lock."""
        watched = dict(self._watched)
        errors: dict[Link, TaskLimitError | None] = {link: _too_long(call) for link, call in watched.items()}
        if self._measures() and time.monotonic() >= self._next_look:
            for link, error in self._look(watched).items():
                errors[link] = errors[link] or error
        return [Excess(link, watched[link], error) for link, error in errors.items() if error is not None]

    def _look(self, calls: Mapping[Link, _Watched]) -> dict[Link, TaskLimitError]:
        """Check all processes once."""
        found: dict[Link, TaskLimitError] = {}
        before = time.thread_time()
        now = processes.snapshot()
        for link, call in calls.items():
            error = None if call.usage is None else _too_much(call, call.usage, now)
            if error is not None and call.in_doubt:
                found[link] = error
            call.in_doubt = error is not None
        in_doubt = any(call.in_doubt for call in calls.values())
        pause = max(LOOK_SECONDS, (time.thread_time() - before) / MAX_LOOKING_SHARE)
        self._next_look = time.monotonic() + (DOUBT_SECONDS if in_doubt else pause)
        return found

    def confirm(self, excess: Excess) -> bool:
        """Whether that call is still running; if so, it is no longer watched."""
        if self._watched.get(excess.link) is not excess.watched:
            return False
        del self._watched[excess.link]
        return True


def _too_long(call: _Watched) -> TaskLimitError | None:
    limit, used = call.limits.wall_time, time.monotonic() - call.began
    if limit is None or used < limit:
        return None
    text = f"{call.name} was killed: it took {used:.2f} s, and wall_time is {limit:g} s"
    return WallTimeLimitError(text, limit=limit, used=used)


def _too_much(call: _Watched, usage: Usage, now: Mapping[int, processes.Process]) -> TaskLimitError | None:
    usage.look(now)
    cpu_time, memory = call.limits.cpu_time, call.limits.memory
    if cpu_time is not None and usage.cpu >= cpu_time:
        text = f"{call.name} was killed: it used {usage.cpu:.2f} s of CPU, and cpu_time is {cpu_time:g} s"
        return CpuTimeLimitError(text, limit=cpu_time, used=usage.cpu)
    if memory is not None and (used := usage.memory(memory, processes.footprint)) >= memory:
        text = f"{call.name} was killed: it used {used:,} bytes of memory, and memory is {memory:,} bytes"
        return MemoryLimitError(text, limit=memory, used=used)
    return None
