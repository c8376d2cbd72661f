"""The calls of a chaos run. Each records in a file, outside of the pool, that it begins and that it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.scheduling import Comm, Limits, Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKERS = 4
"""How many workers a pool has: how many calls its starter can cost."""

SLOTS = 2
"""How many calls that ask for a slot may run at the same time."""

FOREVER = 600
"""Seconds; whatever takes so long must be ended by somebody."""

HUGE = 3_000_000
"""Bytes of a huge payload: enough for shared memory."""


class Place(NamedTuple):
    """Where a driver and its calls leave traces.

    Attributes:
        folder: Has the files `calls`, `events` and `attacks`, the log of the driver, and the locks of the slots.
        mark: Part of the names of shared memory.
    """

    folder: str
    mark: str

    def note(self, file: str, *words: object) -> None:
        """Append a line to a file, whole or not at all; it begins with the time."""
        line = " ".join(map(str, (f"{time.monotonic():.9f}", *words))) + "\n"
        descriptor = os.open(f"{self.folder}/{file}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self, file: str) -> list[list[str]]:
        """The lines of a file, as words, without their times."""
        return [words for _, words in self.read_times(file)]

    def read_times(self, file: str) -> list[tuple[float, list[str]]]:
        """The lines of a file as words, each with its time, on the clock that all processes share."""
        path = Path(self.folder, file)
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(at), words) for at, *words in map(str.split, lines)]


@contextlib.contextmanager
def noted(number: int, place: Place) -> Iterator[None]:
    """Note that a call begins, and that it ends: with a result or an exception, but not if it is killed."""
    place.note("calls", "B", number, os.getpid())
    try:
        yield
    finally:
        place.note("calls", "E", number, os.getpid())


class ChaosError(Exception):
    """What some calls raise."""


class UnpicklableError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.lock = threading.Lock()


class SharesNothing:
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def quick(number: int, place: Place) -> int:
    with noted(number, place):
        return -number


def short(number: int, place: Place) -> int:
    with noted(number, place):
        time.sleep(number % 10 / 1000)
        return -number


def long(number: int, place: Place) -> int:
    with noted(number, place):
        time.sleep(0.3)
        return -number


def raises(number: int, place: Place) -> int:
    with noted(number, place):
        raise ChaosError(number)


def odd_error(number: int, place: Place) -> int:
    with noted(number, place):
        raise UnpicklableError(number)


def odd_result(number: int, place: Place) -> SharesNothing:
    with noted(number, place):
        return SharesNothing()


def odd_argument(number: int, place: Place, argument: SharesNothing) -> int:
    with noted(number, place):
        return -number


def huge(number: int, place: Place, payload: bytes) -> bytes:
    with noted(number, place):
        return payload


def exits(number: int, place: Place) -> int:
    with noted(number, place):
        os._exit(3)


def too_long(number: int, place: Place) -> int:
    with noted(number, place):
        time.sleep(FOREVER)
        return -number


def too_large(number: int, place: Place) -> int:
    with noted(number, place):
        memory = b"x" * 400_000_000
        time.sleep(FOREVER)
        return -number - len(memory)


def talks(number: int, place: Place, *, comm: Any) -> int:
    """Returns what the driver has responded."""
    with noted(number, place), comm.open():
        for message in range(3):
            comm.send(message)
        return int(comm.request(number))


def leaves_a_child(number: int, place: Place) -> int:
    """Starts a program that nobody waits for, every other time in a session of its own."""
    with noted(number, place):
        subprocess.Popen(["sleep", str(FOREVER)], start_new_session=bool(number % 2))
        return -number


def segment(number: int, place: Place) -> int:
    """Has named shared memory, which it destroys if it lives long enough."""
    with noted(number, place):
        memory = SharedMemory(name=f"{place.mark}-{number}", create=True, size=10_000)
        place.note("calls", "M", number, os.getpid())  # before this, Python itself has not noted it everywhere
        time.sleep(0.005)
        memory.close()
        memory.unlink()
        return -number


def slot(number: int, place: Place) -> int:
    """Holds one of the slots: a lock that the system releases when the process has ended, and not before."""
    with noted(number, place):
        for candidate in range(SLOTS):
            descriptor = os.open(f"{place.folder}/slot-{candidate}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                time.sleep(0.01)
                return -number
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
        place.note("events", "P", "more calls than slots run at the same time:", number)
        return -number


def follows(number: int, place: Place, before: int) -> int:
    with noted(number, place):
        return -number


class Kind(NamedTuple):
    """A kind of call.

    Attributes:
        function: What it computes; returns minus its number, if nothing else is said.
        weight: How often it occurs, compared with others.
        fails: The names of the errors that it may end with, apart from that of a lost worker.
        begins: Whether it can begin.
        plugins: Makes the plugins of its task.
        priority: That of its task.
        on_bare_pool: Whether it needs no scheduler.
        in_journal: Whether its arguments can be recorded.
    """

    function: Callable[..., Any]
    weight: float
    fails: tuple[str, ...] = ()
    begins: bool = True
    plugins: Callable[[], Any] = tuple
    priority: float = 0
    on_bare_pool: bool = True
    in_journal: bool = True


KINDS: dict[str, Kind] = {
    "quick": Kind(quick, 45),
    "short": Kind(short, 20),
    "long": Kind(long, 4),
    "raises": Kind(raises, 5, ("ChaosError",)),
    "odd-error": Kind(odd_error, 2, ("RemoteError", "UnpicklableError")),
    "odd-result": Kind(odd_result, 2, ("TypeError",)),
    "odd-argument": Kind(odd_argument, 2, ("TypeError",), begins=False, in_journal=False),
    "huge": Kind(huge, 3),
    "exits": Kind(exits, 1, ("WorkerLostError",)),
    "too-long": Kind(too_long, 0.5, ("WallTimeLimitError",), plugins=lambda: Limits(wall_time=0.3), on_bare_pool=False),
    "too-large": Kind(
        too_large, 0.2, ("MemoryLimitError", "MemoryError"), plugins=lambda: Limits(memory="250 MB"), on_bare_pool=False
    ),
    "talks": Kind(talks, 5, ("CommClosedError",), plugins=Comm.Plugin, on_bare_pool=False),
    "leaves-a-child": Kind(leaves_a_child, 1),
    "segment": Kind(segment, 2),
    "follows": Kind(follows, 3, ("DependencyError",), on_bare_pool=False),
}
"""The kinds of calls by name."""

ORDERED_KINDS: dict[str, Kind] = KINDS | {
    "slot": Kind(slot, 15, plugins=lambda: Resources(slot=1), on_bare_pool=False),
    "urgent": Kind(quick, 5, priority=10, on_bare_pool=False),
}
"""Those of a scheduler with resources and priorities."""


def expected(kind: str, number: int, result: Any) -> bool:
    """Whether it is the result that a call must have."""
    if kind == "huge":
        return bool(result == payload_of(number))
    return bool(result == -number)


def payload_of(number: int) -> bytes:
    """A huge argument."""
    return number.to_bytes(4, "little") * (HUGE // 4)
