"""Enforces the limits of calls that run, by looking at their processes."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.exceptions import CpuTimeLimitError, MemoryLimitError, TaskLimitError, WallTimeLimitError
from amltk.scheduling.events import callback_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from amltk.scheduling.executors.process_pool.limits import CallLimits
    from amltk.scheduling.executors.process_pool.link import Link

INTERVAL = 0.05
"""Seconds between two looks at the CPU time and the memory of a process."""


class _Watched(NamedTuple):
    limits: CallLimits
    name: str
    began: float
    cpu_before: float
    process: psutil.Process


class Excess(NamedTuple):
    """A call that has used more than it may."""

    link: Link
    watched: _Watched
    error: TaskLimitError


class Warden:
    """Keeps the calls that have limits."""

    def __init__(self) -> None:
        self._watched: dict[Link, _Watched] = {}

    def watch(self, link: Link, limits: CallLimits, fn: Callable[..., Any], cpu_before: float) -> None:
        """Look after a call that has begun now."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(link.pid)
            self._watched[link] = _Watched(limits, callback_name(fn), time.monotonic(), cpu_before, process)

    def forget(self, link: Link) -> None:
        """The call has ended."""
        self._watched.pop(link, None)

    def due(self) -> float | None:
        """When to check next, on the monotonic clock; None if nothing is limited."""
        if not self._watched:
            return None
        now = time.monotonic()
        return min(
            min(
                watched.began + (watched.limits.wall_time or float("inf")),
                now + INTERVAL if watched.limits.cpu_time or watched.limits.memory else float("inf"),
            )
            for watched in self._watched.values()
        )

    def check(self) -> list[Excess]:
        """The calls that have used more than they may. Looks at processes, so it is not to be done under a lock."""
        return [
            Excess(link, watched, error)
            for link, watched in list(self._watched.items())
            if (error := _excess(watched)) is not None
        ]

    def confirm(self, excess: Excess) -> bool:
        """Whether that call has not ended meanwhile; it is not watched any more then."""
        if self._watched.get(excess.link) is not excess.watched:
            return False
        del self._watched[excess.link]
        return True


def _excess(watched: _Watched) -> TaskLimitError | None:
    limits, name = watched.limits, watched.name
    if limits.wall_time is not None:
        used = time.monotonic() - watched.began
        if used >= limits.wall_time:
            return WallTimeLimitError(
                f"{name} was ended: it took {used:.2f} s, and wall_time is {limits.wall_time:g} s",
                limit=limits.wall_time,
                used=used,
            )
    if limits.cpu_time is None and limits.memory is None:
        return None
    cpu, memory = _usage(watched.process)
    cpu -= watched.cpu_before
    if limits.cpu_time is not None and cpu >= limits.cpu_time:
        return CpuTimeLimitError(
            f"{name} was ended: it used {cpu:.2f} s of CPU, and cpu_time is {limits.cpu_time:g} s",
            limit=limits.cpu_time,
            used=cpu,
        )
    if limits.memory is not None and memory >= limits.memory:
        return MemoryLimitError(
            f"{name} was ended: it used {memory:,} bytes of memory, and memory is {limits.memory:,} bytes",
            limit=limits.memory,
            used=memory,
        )
    return None


def _usage(process: psutil.Process) -> tuple[float, int]:
    """Seconds of CPU and resident bytes of a process and of those that it has started."""
    import psutil

    cpu, memory = 0.0, 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
                memory += one.memory_info().rss
    return cpu, memory
