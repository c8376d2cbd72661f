"""How much memory this process has gained, as counted by the operating system and, with glibc, by the allocators."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import tempfile
from pathlib import Path

from _report import report


def resident() -> int:
    """The resident set of this process, in bytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import psutil

    return int(psutil.Process().memory_info().rss)


class MallocFigures(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def allocated() -> float:
    """Bytes handed out by CPython's and glibc's allocators, without the arenas of the former; NaN without glibc."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return float("nan")
    mallinfo2.restype = MallocFigures
    figures = mallinfo2()
    with tempfile.TemporaryFile() as file:  # the interpreter prints its statistics only to file descriptor 2
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        text = file.read().decode()
    small = re.search(r"# bytes in allocated blocks\s*=\s*([\d,]+)", text)
    if small is None:
        return float("nan")
    # Arenas come from mmap, not glibc, whose count covers only blocks above 512 bytes (tables of big dicts).
    return float(small[1].replace(",", "")) + float(figures.uordblks + figures.hblkhd)


class Growth:
    """What `per_task` additional pending tasks cost."""

    def __init__(self) -> None:
        gc.collect()
        self._resident, self._allocated = resident(), allocated()

    def report(self, tasks: int) -> None:
        gc.collect()
        report(resident=(resident() - self._resident) / tasks, allocated=(allocated() - self._allocated) / tasks)
