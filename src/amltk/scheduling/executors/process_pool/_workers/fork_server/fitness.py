"""Detects what a process has that forks badly: threads, event loops, connections, children, files open for writing.

A copy of the process would have a thread's locks but not the thread, and would share a connection, or the contents of a
file's buffer, with all other copies.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from typing import NamedTuple

from amltk import _compat, _guard
from amltk.scheduling.executors.process_pool._system.descendants import children

HARMLESS = ("/memfd:libffi", "/libffi.so.", "/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
"""Prefixes of descriptor targets that any number of processes may share."""

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/accel")
"""Prefixes of descriptor targets that belong to the context of a GPU."""

RESTARTED_THREADS = frozenset({"jemalloc_bg_thd"})
"""Names of native threads that their library looks after itself when the process forks: that of jemalloc, which comes
with pyarrow, which pandas imports (`jemalloc_prefork` and `jemalloc_postfork_child` in its sources)."""

WRITABLE = os.O_WRONLY | os.O_RDWR


class Holdings(NamedTuple):
    """What this process has at one moment.

    Attributes:
        threads: The idents of Python threads.
        native: The number of threads according to the system, apart from `RESTARTED_THREADS`.
        children: The pids of child processes.
        descriptors: The number and target of each open descriptor.
        finalizers: How many objects remove something when the program ends, such as temporary folders.
        semaphores: Semaphores that processes share, such as locks of `multiprocessing`.
    """

    threads: frozenset[int]
    native: int
    children: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    finalizers: int
    semaphores: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        """What this process has now."""
        return cls(
            frozenset(sys._current_frames()),
            _native_threads(),
            frozenset(children()),
            frozenset(_descriptors()),
            sum(info.atexit for info in _compat.finalizers_at_exit()),
            frozenset(path for path in _mapped() if path.startswith("/dev/shm/sem.")),
        )


def _native_threads() -> int:
    threads = os.listdir("/proc/self/task")
    return len(threads) if len(threads) == 1 else sum(_name(thread) not in RESTARTED_THREADS for thread in threads)


def _name(thread: str) -> str:
    try:
        with open(f"/proc/self/task/{thread}/comm", encoding="utf-8", errors="replace") as name:
            return name.read().rstrip()
    except OSError:
        return ""  # it has ended


def _descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except OSError:
            continue  # the descriptor of this very search
    return found


def unfit(before: Holdings) -> str | None:
    """What this process has acquired since then that forks badly; None if nothing."""
    now = Holdings.now()
    if new := now.threads - before.threads:
        threads = [thread for thread in threading.enumerate() if thread.ident in new]
        starters = {starter for thread in threads if (starter := _guard.loading.starter_of(thread))}
        by = f", by {', '.join(sorted(starters))}" if starters else ""
        return f"it started {_several('thread', [thread.name for thread in threads] or sorted(new))}{by}"
    if now.finalizers > before.finalizers:
        return "it made something that is removed when the process ends, such as a temporary folder"
    if now.semaphores - before.semaphores:
        return "it made a lock, or the like, that all copies would share"
    unknown = now.native - before.native
    if unknown > 0 and unknown > _threads_of_blas():  # the latter reads the memory map again
        return "it started a thread that Python does not know"
    if new := now.children - before.children:
        return f"it started {_several('process', sorted(new))}"
    for descriptor, target in sorted(now.descriptors - before.descriptors):
        if kind := _kind(descriptor, target):
            return f"it opened {kind} ({target})"
    return None


def _several(what: str, names: list[str] | list[int]) -> str:
    return f"the {what} {', '.join(map(str, names))}"


def _threads_of_blas() -> int:
    """The maximum number of threads of all OpenBLAS copies, which end before a fork and restart after it."""
    libraries = sum("openblas" in path for path in _mapped())
    numbers = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    number = next((int(text) for text in numbers if text.isdecimal()), os.cpu_count() or 1)
    return libraries * max(0, number - 1)


def _mapped() -> set[str]:
    """The files that are mapped into the memory of this process."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return {fields[-1].rstrip() for line in maps if len(fields := line.split(None, 5)) == 6}  # noqa: PLR2004


def _kind(descriptor: int, target: str) -> str | None:
    """The kind of an open descriptor that copies of the process must not share; None if they may."""
    if target.startswith(HARMLESS):
        return None
    if target.startswith(DEVICES):
        return "a device"
    if target.startswith("socket:"):
        return "a connection"
    if "eventpoll" in target:
        return "what an event loop waits with"
    if target.startswith(("pipe:", "anon_inode:")):
        return "a channel to another process or thread"
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as info:
        flags = next((int(line.split()[1], 8) for line in info if line.startswith("flags:")), 0)
    if flags & WRITABLE:
        return "a file to write into"
    try:
        is_file = stat.S_ISREG(os.stat(f"/proc/self/fd/{descriptor}").st_mode)
    except OSError:
        return None  # it is closed by now
    return "a file whose position all copies would share" if is_file else None
