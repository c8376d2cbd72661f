"""How a process that starts workers finds and kills what these leave behind, and notices the end of its own parent.

On Linux the process that starts workers and each worker are *subreapers*: a process whose parent has ended becomes a
child of the nearest subreaper above it. So everything that a living worker has started is below the worker, in any
session or group. When the worker ends, all of this becomes children of the process that starts workers: any child of
that process that is not a worker was left behind by one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_LINUX = sys.platform == "linux"

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

TRACKER_SECONDS = 2.0
"""How long a resource tracker may take to remove what its program has left, such as the temporary folders of joblib."""

END_SECONDS = 5.0
"""How long to wait for killed processes to end, in seconds."""


def _prctl(option: int, value: int) -> bool:
    return ON_LINUX and ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0


def become_subreaper() -> bool:
    """Make orphaned descendants become children of this process; return whether the system supports that."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Make the system kill this process when its parent ends, if it supports that.

    Args:
        parent: The pid of the parent. If the parent has already ended, this process ends too.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def outlive_hangup() -> None:
    """Do not let SIGHUP end this process, which ends with its parent anyway, but in order.

    If this process is stopped when its parent ends, the system sends SIGHUP to it, and lets it continue: its group has
    become an *orphaned* one. A program that this process starts is not affected.
    """
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which programs inherit, so it stays
        signal.signal(signal.SIGHUP, lambda *_: None)


def restore_hangup() -> None:
    """Undo `outlive_hangup` in a copy of the process."""
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def join_family(parent: int) -> None:
    """End with the parent, and adopt the processes that this process's children leave behind."""
    die_with_parent(parent)
    become_subreaper()


def watch(pid: int) -> int | None:
    """A descriptor that is readable when the process has ended; None if the system does not support that."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def read_bytes(path: str) -> bytes:
    """The content of a file; pathlib is slow to import."""
    with open(path, "rb") as file:
        return file.read()


def children() -> list[int]:
    """The pids of the children of this process, including zombies."""
    try:
        return [
            int(pid)
            for thread in os.listdir("/proc/self/task")
            for pid in read_bytes(f"/proc/self/task/{thread}/children").split()
        ]
    except OSError:
        return list(_children_by_search())


def _children_by_search() -> Iterator[int]:
    """Like `children`, for a kernel that does not list them."""
    own = os.getpid()
    for pid in filter(str.isdecimal, os.listdir("/proc")) if ON_LINUX else ():
        with contextlib.suppress(OSError):
            state = read_bytes(f"/proc/{pid}/stat")
            if int(state[state.rindex(b")") + 2 :].split()[1]) == own:
                yield int(pid)


def ended_children() -> Iterator[tuple[int, int]]:
    """Reap children that have ended, without blocking: their pids and exit codes; a negative exit code is a signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def kill(pid: int) -> None:
    """Kill a process, or a group of them by its negative number, if it exists and this user may do so.

    The pid must not be 0, which would stand for the group of this process.
    """
    assert pid, pid
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


class Strays:
    """Processes that ended workers have left behind, as children of this process."""

    def __init__(self) -> None:
        self._trackers: dict[int, float] = {}  # the deadline of each
        self._immortal: set[int] = set()

    def kill(self, strays: list[int]) -> bool:
        """Kill strays; return whether some are left, to be checked again soon."""
        self._trackers = {pid: until for pid, until in self._trackers.items() if pid in strays}
        self._immortal.intersection_update(strays)
        for pid in strays:
            if pid in self._immortal or self._may_finish(pid):
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            except PermissionError:  # it runs as another user, for example by sudo
                self._immortal.add(pid)
        return any(pid not in self._immortal for pid in strays)

    def _may_finish(self, pid: int) -> bool:
        """Whether it is a resource tracker, which ends on its own once it has removed what its program left behind."""
        now = time.monotonic()
        if pid not in self._trackers:
            try:
                command = read_bytes(f"/proc/{pid}/cmdline")
            except OSError:
                return False
            if b"resource_tracker" not in command:
                return False
            self._trackers[pid] = now + TRACKER_SECONDS
        return now < self._trackers[pid]


def end_all(strays: Strays) -> None:
    """Kill all children of this process and what they leave behind, and wait for their ends."""
    give_up = time.monotonic() + END_SECONDS
    while time.monotonic() < give_up:
        for _ in ended_children():
            pass
        if not strays.kill(children()):
            return
        time.sleep(0.001)
