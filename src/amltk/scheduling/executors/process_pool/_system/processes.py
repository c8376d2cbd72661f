"""A snapshot of the resources that the processes of this machine have used."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    Key = tuple[int, float]

ON_LINUX: bool = sys.platform == "linux"

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """A process, and its usage at the time of the snapshot."""

    pid: int
    parent: int
    group: int
    started: float
    """On `clock`. Process IDs are reused, but not together with the start time."""
    own: float
    """The CPU seconds of the process itself."""
    reaped: float
    """The CPU seconds of the processes that it has waited for, and of those that these have waited for. 0 if the system
    does not report it, like macOS."""
    resident: int
    """The bytes of its resident memory, including shared memory."""
    virtual: int
    """The bytes of its address space."""

    @property
    def key(self) -> Key:
        """A key that is unique among all processes over time."""
        return self.pid, self.started

    @property
    def cpu(self) -> float:
        """CPU seconds, its own and reaped."""
        return self.own + self.reaped


def clock() -> float:
    """The current time, on the clock of process start times."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if ON_LINUX else time.time()


def snapshot() -> dict[int, Process]:
    """All visible processes, by pid. They are read one after the other, so the snapshot is not atomic."""
    return {process.pid: process for process in (_by_proc() if ON_LINUX else by_psutil())}


def me() -> Process:
    """This process, with exact times.

    Raises:
        LookupError: The system does not report it.
    """
    if not ON_LINUX:
        pid = os.getpid()
        return next(process for process in by_psutil() if process.pid == pid)
    process = _stat("self")
    if process is None:
        raise LookupError("/proc/self/stat cannot be read")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process._replace(own=time.process_time(), reaped=children.ru_utime + children.ru_stime)


def _by_proc() -> Iterator[Process]:
    for name in os.listdir("/proc"):  # only names are needed
        if name.isdecimal() and (process := _stat(name)) is not None:
            yield process


def has_ended(pid: int) -> bool:
    """Whether a process has ended, even if its parent has yet to wait for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it has become another user's
    if not ON_LINUX:
        import psutil

        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True
    line = _line(str(pid))
    return bool(line) and _fields(line)[0] in {b"Z", b"X"}


def _line(name: str) -> bytes:
    """Read `/proc/…/stat`; empty if the process is gone."""
    try:
        descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY)
        try:
            return os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:
        return b""


def _fields(line: bytes) -> list[bytes]:
    """What follows the name of the program, which may contain anything."""
    return line[line.rindex(b")") + 2 :].split()


def _stat(name: str) -> Process | None:
    """Parse `/proc/…/stat`; None if the process is gone. Takes a third of psutil's time."""
    line = _line(name)
    if not line:
        return None
    fields = _fields(line)
    parent, group = fields[1:3]
    user, system, children_user, children_system = map(int, fields[11:15])
    started, virtual, resident = map(int, fields[19:22])
    return Process(
        int(line.partition(b" ")[0]),
        int(parent),
        int(group),
        started * _TICK,
        (user + system) * _TICK,
        (children_user + children_system) * _TICK,
        resident * _PAGE,
        virtual,
    )


def by_psutil() -> Iterator[Process]:
    """The processes, on any system."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError), process.oneshot():  # it has ended, or is not visible
            times, memory = process.cpu_times(), process.memory_info()
            yield Process(
                process.pid,
                process.ppid(),
                os.getpgid(process.pid),
                process.create_time(),
                times.user + times.system,
                times.children_user + times.children_system,
                memory.rss,
                memory.vms,
            )


class Footprint(NamedTuple):
    """The memory of a process, without counting shared memory twice."""

    its: int
    """The bytes of its private memory, plus its share of shared memory if the system reports it."""
    common: int
    """The other bytes, which it shares with other processes."""


def footprint(process: Process) -> Footprint:
    """The memory of a process, as precisely as the system knows it. Takes some milliseconds per GB."""
    return _proportional(process) if ON_LINUX else by_psutil_private(process)


def _proportional(process: Process) -> Footprint:
    """Each page divided by the number of processes that share it; the whole page if that cannot be read."""
    try:
        with open(f"/proc/{process.pid}/{_SMAPS}", "rb") as file:  # takes a third of the time
            return Footprint(sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    except (FileNotFoundError, ProcessLookupError):  # the process has ended, or this system has no such file
        return Footprint(process.resident if _SMAPS is None else 0, 0)
    except OSError:  # a process of another user
        return Footprint(process.resident, 0)


def by_psutil_private(process: Process) -> Footprint:
    """Private memory, and the rest, on any system; all of it as private if the system does not tell."""
    import psutil

    try:
        its: int = psutil.Process(process.pid).memory_full_info().uss
    except psutil.NoSuchProcess:
        return Footprint(0, 0)
    except (psutil.Error, AttributeError):
        return Footprint(process.resident, 0)
    return Footprint(its, max(0, process.resident - its))


def _smaps() -> str | None:
    """The name of the memory file: the short one since Linux 4.14, or None if the kernel lacks it."""
    return next((name for name in ("smaps_rollup", "smaps") if os.path.exists(f"/proc/self/{name}")), None)


_SMAPS = _smaps()
