"""What a test can leave behind: threads, child processes, handlers of signals, file descriptors."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 30.0
"""Seconds for which what is on its way out may stay: no test waits for them to pass, unless it has a leak."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)

HELPERS = (
    # They serve the interpreter until it ends, and nothing can end them before: module, attribute, pid, descriptors.
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid", ("_fd",)),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", ("_forkserver_alive_fd",)),
    ("joblib.externals.loky.backend.resource_tracker", "_resource_tracker", "_pid", ("_fd",)),
    ("loky.backend.resource_tracker", "_resource_tracker", "_pid", ("_fd",)),
)

HELPER_THREADS = ("Dask-Offload", "Dask-Callback-Thread", "ThreadPoolExecutor-_parsl_internal")
"""What the names of such threads begin with."""

HELPER_PROCESSES = ("mpiexec", "hydra_pmi_proxy")
"""What MPICH starts workers with, and takes note of the end of only when this process ends."""

LIBRARIES = ["/tmp/ray/session_"]
"""What the targets of descriptors begin with that a library keeps: the log of Ray's driver, for one."""

CLOSURES = "/libffi.so."
"""In the target of the descriptor that libffi keeps of itself once ctypes has made a function for C to call."""

ENGINES: set[int] = set()
"""Processes that several tests share; whatever these start and end is their own affair."""


@dataclass(frozen=True)
class Holdings:
    """What this process holds at one moment.

    Attributes:
        threads: Those that are alive.
        children: Ids of all processes below this one.
        handlers: What each of `SIGNALS` does.
        descriptors: Number and target of each open file descriptor.
    """

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    handlers: tuple[Any, ...]
    descriptors: frozenset[tuple[int, str]]

    @classmethod
    def now(cls) -> Holdings:
        """Look around."""
        pids, numbers = _helpers()
        return cls(
            threads=frozenset(t for t in threading.enumerate() if not t.name.startswith(HELPER_THREADS)),
            children=frozenset(_descendants(os.getpid())) - pids,
            handlers=tuple(signal.getsignal(signum) for signum in SIGNALS),
            descriptors=frozenset(pair for pair in _descriptors() if pair[0] not in numbers),
        )

    def beyond(self, before: Holdings) -> list[str]:
        """What there is more than there was before, a line for each."""
        return [
            *(f"thread {thread.name}" for thread in self.threads - before.threads),
            *(f"process {pid}: {_command(pid)}" for pid in self.children - before.children),
            *(
                f"handler {now!r} of {signum.name}, instead of {then!r}"
                for signum, now, then in zip(SIGNALS, self.handlers, before.handlers, strict=True)
                if now is not then and now != then
            ),
            *(f"file descriptor {number}: {target}" for number, target in self.descriptors - before.descriptors),
        ]


def since(before: Holdings, *, patience: float = PATIENCE) -> list[str]:
    """What is left over, after at most `patience` seconds; returns at once when there is nothing."""
    left = Holdings.now().beyond(before)
    if not left:
        return left
    gc.collect()
    deadline = time.monotonic() + patience
    pause = 0.001
    while (left := Holdings.now().beyond(before)) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return left


def restore_handlers(before: Holdings) -> None:
    """Take leaked handlers away, so that one test's leak is not the next one's trouble."""
    for signum, handler in zip(SIGNALS, before.handlers, strict=True):
        if signal.getsignal(signum) is not handler:
            signal.signal(signum, handler)


def _helpers() -> tuple[set[int], set[int]]:
    pids: set[int] = set()
    numbers: set[int] = set()
    for module, attribute, pid, descriptors in HELPERS:
        helper = getattr(sys.modules.get(module), attribute, None)
        pids.add(getattr(helper, pid, None) or -1)
        numbers.update(getattr(helper, name, None) or -1 for name in descriptors)
    return pids, numbers


def _descendants(pid: int) -> set[int]:
    if sys.platform != "linux":
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    found: set[int] = set()
    tasks = Path(f"/proc/{pid}/task")
    for thread in _listed(tasks):
        try:
            children = (tasks / thread / "children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        for child in map(int, children.split()):
            if child not in ENGINES and not _name(child).startswith(HELPER_PROCESSES):
                found |= {child} | _descendants(child)
    return found


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _descriptors() -> set[tuple[int, str]]:
    where = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    found = set()
    for number in os.listdir(where):
        try:
            target = os.readlink(f"{where}/{number}") if sys.platform == "linux" else str(os.fstat(int(number)).st_ino)
        except OSError:  # the one that listed them
            continue
        if not target.startswith(tuple(LIBRARIES)) and CLOSURES not in target:
            found.add((int(number), target))
    return found


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "ended"


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return "ended"
