"""What a worker lets be started: nothing on behalf of a module that it imports, see `amltk._guard`.

The pool and the scheduler ask by themselves. Processes and threads of the standard library are made to ask, since there
is no hook that others could use: `multiprocessing.process.BaseProcess.start` is what every process of `multiprocessing`
goes through, whatever its context (those of pools, managers, `ProcessPoolExecutor`, loky and PyTorch as well).
"""

from __future__ import annotations

import functools
import threading
from multiprocessing.process import BaseProcess

from amltk import _guard
from amltk.scheduling.executors.process_pool import spawned_main


def loading() -> _guard.Loading:
    """The context manager to be used around everything that a worker, or a process that it is forked from, loads.

    It may be entered again and again. The first call changes what `start` of processes and threads does in this
    process, so it is for processes that are not the user's own.
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
        spawned_main.replace_of_loky()  # it may have been imported since
        start(self)

    BaseProcess.start = ask_and_start  # type: ignore[method-assign]


def _have_threads_noted() -> None:
    start = threading.Thread.start

    @functools.wraps(start)
    def note_and_start(self: threading.Thread) -> None:
        _guard.loading.note_thread(self)
        start(self)

    threading.Thread.start = note_and_start  # type: ignore[method-assign]
