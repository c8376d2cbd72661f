"""How much memory this process may use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from amltk._process.cpus import control_groups, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
"""The files with the limit, by the version of control groups."""


def usable_memory() -> int:
    """How many bytes of memory this process and its children may use: those of the machine, or of its container."""
    return least_memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), read_text)


def least_memory(machine: int, read: Callable[[str], str]) -> int:
    """The smallest limit of a process on a machine with so many bytes.

    Args:
        machine: The bytes of the machine.
        read: Reads a file; returns "" if there is none.
    """
    return min([machine, *_limits(read)])


def _limits(read: Callable[[str], str]) -> Iterator[int]:
    for version, folder in control_groups("memory", read):
        text = read(f"{folder}/{_LIMITS[version]}").strip()
        if text.isdecimal():  # not "max"
            yield int(text)
