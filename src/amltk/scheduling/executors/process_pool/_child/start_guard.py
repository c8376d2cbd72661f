"""What a worker may start: nothing on behalf of a module that it is importing, see `amltk._guard`.

The pool and the scheduler check that themselves. Processes and threads of the standard library are patched to check,
since there is no hook: every process of `multiprocessing` goes through `multiprocessing.process.BaseProcess.start`,
whatever its context (also those of pools, managers, `ProcessPoolExecutor`, loky and PyTorch).
"""

from __future__ import annotations

import functools
import threading
from multiprocessing.process import BaseProcess

from amltk import _guard
from amltk.scheduling.executors.process_pool._child import spawned_main


def loading() -> _guard.Loading:
    """The context manager around everything that a worker, or a process that it is forked from, loads.

    It may be entered many times. The first call patches `start` of processes and threads in this process, so it is not
    meant for the user's own processes.
    """
    if not hasattr(BaseProcess.start, "__wrapped__"):
        _have_processes_ask()
        _have_threads_noted()
    return _guard.loading


def _have_processes_ask() -> None:
    start = BaseProcess.start

    @functools.wraps(start)
    def ask_and_start(self: BaseProcess) -> None:
        _guard.check_import("a process of multiprocessing")
        spawned_main.replace_of_loky()  # it may have been imported meanwhile
        start(self)

    BaseProcess.start = ask_and_start  # type: ignore[method-assign]


def _have_threads_noted() -> None:
    start = threading.Thread.start

    @functools.wraps(start)
    def note_and_start(self: threading.Thread) -> None:
        _guard.loading.note_thread(self)
        start(self)

    threading.Thread.start = note_and_start  # type: ignore[method-assign]
