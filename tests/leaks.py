"""What a test can leave behind: threads, child processes, signal handlers, file descriptors."""

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

PATIENCE = 120.0
"""Seconds that something ending may still exist; only tests with a leak wait this long."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)

HELPERS = (
    # They serve the interpreter until it exits, and cannot be stopped earlier: module, attribute, pid, descriptors.
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid", ("_fd",)),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid", ("_forkserver_alive_fd",)),
    ("joblib.externals.loky.backend.resource_tracker", "_resource_tracker", "_pid", ("_fd",)),
    ("loky.backend.resource_tracker", "_resource_tracker", "_pid", ("_fd",)),
)

HELPER_THREADS = ("Dask-Offload", "Dask-Callback-Thread", "ThreadPoolExecutor-_parsl_internal")
"""Name prefixes of such threads."""

HELPER_PROCESSES = ("mpiexec", "hydra_pmi_proxy")
"""What MPICH starts workers with; it notices their exits only when this process exits."""

LIBRARIES = ["/tmp/ray/session_"]
"""Prefixes of the targets of descriptors that a library keeps open, such as the log of Ray's driver."""

CLOSURES = "/libffi.so."
"""Part of the target of the descriptor that libffi keeps once ctypes has created a callback for C."""

ENGINES: set[int] = set()
"""Processes that several tests share; what these start and end is not checked."""


@dataclass(frozen=True)
class Holdings:
    """What this process holds at one moment.

    Attributes:
        threads: Those that are alive.
        children: Ids of all descendant processes.
        handlers: The handler of each of `SIGNALS`.
        descriptors: Number and target of each open file descriptor.
    """

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    handlers: tuple[Any, ...]
    descriptors: frozenset[tuple[int, str]]

    @classmethod
    def now(cls) -> Holdings:
        """Take an inventory."""
        pids, numbers = _helpers()
        return cls(
            threads=frozenset(t for t in threading.enumerate() if not t.name.startswith(HELPER_THREADS)),
            children=frozenset(_descendants(os.getpid())) - pids,
            handlers=tuple(signal.getsignal(signum) for signum in SIGNALS),
            descriptors=frozenset(pair for pair in _descriptors() if pair[0] not in numbers),
        )

    def beyond(self, before: Holdings) -> list[str]:
        """What exists now but not in `before`, one line each."""
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
    """What is left over, after at most `patience` seconds; returns at once if nothing is."""
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
    """Remove leaked handlers, so that one test's leak does not affect the next."""
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
        except OSError:  # the descriptor used for listing
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
