"""Bytes of the driver's memory a pending task, by the operating system's count and, where glibc tells, the allocators'.

The figure is the growth over a first batch, so that what is there once (modules, the loop, the pool) is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

from _executors import Conveyor, SlimFuture
from _report import report

FIRST_BATCH = 1_000


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
    """Bytes handed out by CPython's allocator and by glibc's, the arenas of the former left out; NaN without glibc."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return float("nan")
    mallinfo2.restype = MallocFigures
    figures = mallinfo2()
    with tempfile.TemporaryFile() as file:  # the interpreter prints its statistics to file descriptor 2 only
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
    # Arenas come from mmap, past glibc: its own count holds what is above 512 bytes (tables of big dicts) alone.
    return float(small[1].replace(",", "")) + float(figures.uordblks + figures.hblkhd)


class Growth:
    """What `per_task` more pending tasks cost."""

    def __init__(self) -> None:
        gc.collect()
        self._resident, self._allocated = resident(), allocated()

    def report(self, tasks: int) -> None:
        gc.collect()
        report(resident=(resident() - self._resident) / tasks, allocated=(allocated() - self._allocated) / tasks)


def measure(submit: Callable[[], object], tasks: int) -> None:
    for _ in range(FIRST_BATCH):
        submit()
    growth = Growth()
    for _ in range(tasks):
        submit()
    growth.report(tasks)


def sleep_long() -> None:
    time.sleep(600)


def ignore(_future: Future[None]) -> None:
    """A done-callback that is there already: it costs its place in the future's list."""


def leave(executor: Executor) -> None:
    """End at once: what is pending never ends."""
    for process in list(getattr(executor, "_processes", {}).values()):
        process.kill()
    os._exit(0)


def scheduled(executor: Executor, tasks: int) -> None:
    from amltk.scheduling import Scheduler

    scheduler = Scheduler(executor)
    task = scheduler.task(sleep_long)
    task.on_result(lambda *_: None)

    @scheduler.on_start
    def launch() -> None:
        measure(task.submit, tasks)
        leave(executor)

    scheduler.run(display=False)


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "futures": Conveyor,
    "slim-futures": partial(Conveyor, SlimFuture),
    "stdlib-pool": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("fork")),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["bare", "scheduler"])
    parser.add_argument("--executor", choices=EXECUTORS, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    given = parser.parse_args()
    executor = EXECUTORS[given.executor]()
    if given.how == "scheduler":
        scheduled(executor, given.tasks)
    measure(lambda: executor.submit(sleep_long), given.tasks)
    leave(executor)


if __name__ == "__main__":
    main()
