"""What the package uses of the insides of CPython, cloudpickle and Ray. No other module reaches into them.

`tests/unit/test_compat.py` has a test for each function, which fails if a new version changes what it relies on.

What an executor of the standard library has is missing in other executors, so those functions have a result for that
case. All others expect what they use to be there. Libraries are imported within the functions: not every process needs
them all, and the fork server must start fast.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from multiprocessing.process import BaseProcess
    from types import CodeType

__all__ = ["CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED", "PENDING", "RUNNING"]  # of futures

# ------------------------------------------------------------------------------------------------------------- asyncio


def set_running_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Make asyncio regard a loop as the one that runs on this thread; None for no loop."""
    import asyncio

    asyncio._set_running_loop(loop)


def leave_task(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Make asyncio regard the current task as suspended, so that the thread can run something else."""
    import asyncio

    asyncio.tasks._leave_task(loop, task)


def enter_task(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Undo `leave_task`."""
    import asyncio

    asyncio.tasks._enter_task(loop, task)


def renew_descriptors(loop: Any) -> None:
    """Give a loop its own epoll object and self-pipe, in a process that was just forked. Loops without epoll: nothing.

    asyncio does not do this: the copy would take away events that its parent waits for.
    """
    import select
    import selectors

    selector: Any = getattr(loop, "_selector", None)
    if hasattr(select, "epoll") and isinstance(selector, selectors.EpollSelector):
        selector._selector.close()  # type: ignore[attr-defined] # first: there may be no descriptor left
        selector._selector = select.epoll()  # type: ignore[attr-defined]
        loop._close_self_pipe()
        loop._make_self_pipe()


# ------------------------------------------------------------------------------------------------- concurrent.futures


def max_workers(executor: object) -> int | None:
    """The number of workers that an executor was made with; None if it does not say."""
    number: int | None = getattr(executor, "_max_workers", None)
    return number


def is_broken(executor: object) -> bool:
    """Whether an executor has noticed that it is broken; True if it does not say."""
    return bool(getattr(executor, "_broken", True))


def pending_items(executor: Executor) -> list[Any]:
    """What a pool of processes keeps for each unended call, with its `future`; nothing for other executors."""
    return list(getattr(executor, "_pending_work_items", {}).values())


def processes_of(executor: Executor) -> dict[int, BaseProcess]:
    """The workers of a pool of processes by their pids; empty if it has ended, and for other executors."""
    return dict(getattr(executor, "_processes", None) or {})


def manager_of(executor: Executor) -> threading.Thread | None:
    """The thread of a pool of processes that notices ended workers; None if there is none."""
    return getattr(executor, "_executor_manager_thread", None)


def allow_waking_ended_manager(executor: Executor) -> None:
    """Let the interpreter's end wake the manager of a pool of processes, which may end just then; others: nothing.

    CPython 3.11 to 3.13 does that without a lock, so it may write to a pipe that the manager is closing, and then
    prints a traceback.
    """
    wakeup: Any = getattr(executor, "_executor_manager_thread_wakeup", None)
    if wakeup is None:
        return
    wake = wakeup.wakeup

    def wake_unless_closed() -> None:
        # Closed before the write, or while it looks at the descriptor, which is None afterwards.
        with contextlib.suppress(OSError, TypeError):
            wake()

    wakeup.wakeup = wake_unless_closed


# ------------------------------------------------------------------------------------------------------------- threads


def is_owned(lock: Any) -> bool:
    """Whether this thread holds a reentrant lock, or the one of a condition variable."""
    owned: bool = lock._is_owned()
    return owned


def become_main(thread: threading.Thread) -> None:
    """Make this thread no daemon, in a copy of the process where it is the main one: threads inherit that."""
    thread._daemonic = False  # type: ignore[attr-defined]


def join_threads() -> None:
    """Wait for all threads that are no daemons, as the interpreter's end does."""
    threading._shutdown()  # type: ignore[attr-defined]


def keep_thread_state() -> None:
    """Keep what CPython knows of this thread until its end, where C++ code has started it and now calls Python.

    Else that is thrown away after each such call, with memory mapped for it and the values of every `threading.local`.
    """
    import ctypes

    ctypes.pythonapi.PyGILState_Ensure()  # never released


# ------------------------------------------------------------------------------------------- the end of a program


def run_exit_functions() -> None:
    """Call the functions registered with `atexit`, and forget them."""
    import atexit

    atexit._run_exitfuncs()


def finalizers_at_exit() -> Iterable[Any]:
    """The `weakref.finalize` objects, as records whose `atexit` says whether they run at the end of the program."""
    import weakref

    return list(weakref.finalize._registry.values())  # type: ignore[attr-defined]


def run_finalizers() -> None:
    """Run those `weakref.finalize` objects that run at the end of the program."""
    import weakref

    weakref.finalize._exitfunc()  # type: ignore[attr-defined]


def forget_exit_functions() -> None:
    """Drop all that runs at the end of the parent, in a copy of it that was just made by `os.fork`.

    What the copy registers later runs at its own end, that of `multiprocessing` included.
    """
    import atexit
    import weakref
    from multiprocessing import util

    atexit._clear()
    for info in finalizers_at_exit():
        info.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    atexit.register(util._exit_function)  # type: ignore[attr-defined]


def file_types() -> tuple[type, type]:
    """The types that all file objects, and all raw ones, are derived from."""
    from _io import _IOBase, _RawIOBase

    return _IOBase, _RawIOBase


# ----------------------------------------------------------------------------------------------------- multiprocessing


def child_processes() -> set[BaseProcess]:
    """The processes that `multiprocessing` has started and not yet seen ending: its own set, not a copy."""
    import multiprocessing.process

    children: set[BaseProcess] = multiprocessing.process._children  # type: ignore[attr-defined]
    return children


def forget_child_processes() -> None:
    """Forget them in a copy of the process, and do what `multiprocessing` does in its own copies."""
    import multiprocessing.process
    from multiprocessing import util

    multiprocessing.process._children = set()  # type: ignore[attr-defined]
    util._run_after_forkers()  # type: ignore[attr-defined]


def process_settings() -> dict[str, Any]:
    """What `multiprocessing` has told this process to be, such as `daemon`: its own dictionary, not a copy."""
    import multiprocessing

    settings: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    return settings


def spawning_reducer(kind: type) -> Callable[[Any], Any] | None:
    """How `multiprocessing` pickles objects of this type for a process that it starts; None if as usual."""
    from multiprocessing.reduction import ForkingPickler

    reducers: Mapping[type, Callable[[Any], Any]] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return reducers.get(kind)


def is_inherited_by_forks_only(obj: object) -> bool:
    """Whether this is a lock or the like of `multiprocessing` that has no name, so that only forks can have it."""
    return getattr(obj, "_is_fork_ctx", False) and type(obj).__module__ == "multiprocessing.synchronize"


TRACKER_PROBES = (b"PROBE:", b'{"cmd":"PROBE"')
"""The beginnings of lines to a resource tracker that only probe for it; since CPython 3.14 they may be JSON."""

TRACKER_REMOVALS = (b"UNREGISTER:", b'{"cmd":"UNREGISTER"')
"""Likewise, of lines that take back a `REGISTER`, which are otherwise the same."""


def tracker_descriptor() -> int | None:
    """The descriptor that this process writes to its resource tracker with; None if it has none."""
    from multiprocessing import resource_tracker

    descriptor: int | None = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    return descriptor


def set_tracker_descriptor(descriptor: int | None) -> None:
    """Make this process use that descriptor instead; nothing is closed."""
    from multiprocessing import resource_tracker

    resource_tracker._resource_tracker._fd = descriptor  # type: ignore[attr-defined]


def disown_tracker() -> None:
    """Note, in a worker, that the tracker is not a child of this process, so that nothing waits for its end.

    Nor does any thread here use it: in a copy of the program one may seem to, which CPython before 3.14 waits for.
    """
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker._resource_tracker
    tracker._pid = None
    tracker._lock._at_fork_reinit()


# ------------------------------------------------------------------------------------------------ programs and sources


def interpreter_flags() -> list[str]:
    """The options that a fresh interpreter needs to behave like this one."""
    import subprocess

    from amltk._process.program import warning_options

    options, sys.warnoptions = getattr(sys, "warnoptions", []), warning_options()
    try:
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        return flags
    finally:
        sys.warnoptions = options


def interactive_source(code: CodeType) -> list[str]:
    """The lines of code that was typed into an interpreter; empty if CPython, before 3.14, does not keep them."""
    import linecache

    lines_of: Callable[[CodeType], list[str]] | None = getattr(linecache, "_getlines_from_code", None)
    return [] if lines_of is None else list(lines_of(code))


def python_unpickler() -> type[Any]:
    """The unpickler that is written in Python, whose operations are in `dispatch`, by their codes.

    An operation works on `stack`; `metastack` has the stacks below the marks, and `pop_mark` goes back to the last one.
    """
    import pickle

    kind: type[Any] = pickle._Unpickler
    return kind


# --------------------------------------------------------------------------------------------------------- cloudpickle


def cloudpickle_reducers() -> dict[type, Callable[[Any], Any]]:
    """How cloudpickle pickles objects that pickle cannot handle, by their types."""
    from cloudpickle import cloudpickle

    return dict(cloudpickle.Pickler._dispatch_table)


def reduce_class_by_value(cls: type) -> tuple[Callable[..., type], tuple[Any, ...], tuple[Any, Any], Any, bool]:
    """Take a class apart, as cloudpickle does.

    Returns:
        What makes the class anew, its arguments, the state (attributes and slots), what sets the state, and whether the
        arguments are type, name, bases, namespace and more (else they are those of an enum).
    """
    from cloudpickle import cloudpickle

    make, made, state, _, _, setter = cloudpickle._dynamic_class_reduce(cls)
    return make, made, state, setter, make is cloudpickle._make_skeleton_class


def reduce_nameless_class(cls: type) -> tuple[Any, ...] | None:
    """Take a class of `builtins` apart that has no name there, such as that of None; None if it has one."""
    from cloudpickle import cloudpickle

    reduced = cloudpickle._class_reduce(cls)
    return reduced if isinstance(reduced, tuple) else None


# ---------------------------------------------------------------------------------------------------------------- Ray


def when_ray_has(reference: Any, told: Callable[[Any], object]) -> None:
    """Have `told` called on a thread of Ray's with the value of a reference, or with the exception in its place.

    The reference's `future()` does the same, and makes a future for it, which costs more than the rest.
    """
    reference._on_completed(told)
