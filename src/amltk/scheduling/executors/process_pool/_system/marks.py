"""A mark in the environment of workers and of all that they start, for when the process that starts workers is killed.

That process finds what workers leave behind, see `descendants`. If it is killed itself, its workers end with it, but
programs that they have started in sessions of their own become children of some process above this one. On Linux they
are then found by their environment; a program that has emptied it is not.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool._system.descendants import END_SECONDS, ON_LINUX, Strays, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "AMLTK_STARTED_BY"

PAUSE_SECONDS = 0.01


def new_mark() -> str:
    """A mark that no other process has."""
    return f"{os.urandom(8).hex()}."


def marked(mark: str) -> dict[str, str]:
    """The environment variable that marks a process, with the marks that this one has inherited."""
    return {VARIABLE: os.environ.get(VARIABLE, "") + mark}


def end_marked(mark: str) -> None:
    """Kill all processes with a mark, and wait for their ends."""
    strays, give_up = Strays(), time.monotonic() + END_SECONDS
    while strays.kill(list(_find(mark.encode()))) and time.monotonic() < give_up:
        time.sleep(PAUSE_SECONDS)


def _find(mark: bytes) -> Iterator[int]:
    for pid in filter(str.isdecimal, os.listdir("/proc")) if ON_LINUX else ():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark in read_bytes(f"/proc/{pid}/environ"):
                yield int(pid)
