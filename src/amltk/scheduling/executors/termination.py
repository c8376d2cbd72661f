"""Ends executors without waiting for their calls."""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from amltk import _compat
from amltk._process.threads import start_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor

    import psutil

_log = logging.getLogger(__name__)

QUICK_END_SECONDS = 0.5
"""How many seconds an executor has to shut down without waiting; some wait for their calls regardless."""

END_SECONDS = 5.0
"""How many seconds to wait for a killed process, or for the pool that has to notice it."""


class _Dropped(Future[Any]):
    """Replaces a cancelled future: it never begins and accepts no outcome."""

    def set_running_or_notify_cancel(self) -> bool:
        return False

    def set_exception(self, exception: BaseException | None) -> None:
        pass


def prepare_kill(executor: Executor) -> None:
    """Keep a standard library's process pool from errors of its own after its workers were killed.

    A pool that breaks fails all its futures, and before CPython 3.12.3 the first cancelled one raises
    `InvalidStateError` in the pool's thread, which then neither fails the others nor cleans up. So it is to skip them.
    If the program ends while the pool notices the kill, CPython wakes a thread that is no longer there.
    """
    _compat.allow_waking_ended_manager(executor)
    for item in _compat.pending_items(executor):
        if item.future.cancelled():
            item.future = _Dropped()


def shut_down(executor: Executor, *, wait: bool = False) -> None:
    """Make an executor accept no more calls.

    Not every executor takes the standard library's arguments; those that it does not take are left out.

    Args:
        executor: Any executor.
        wait: Return when its calls are done. If False, calls that have not begun are cancelled, and running ones
            continue unnoticed. An executor that waits anyway does so on a separate thread, after `QUICK_END_SECONDS`.
    """
    taken = _parameters(executor.shutdown)
    options = {"wait": wait} if taken is None or "wait" in taken else {}
    if not wait and (taken is None or "cancel_futures" in taken):
        options["cancel_futures"] = True
    if wait:
        executor.shutdown(**options)
        return
    failures: list[BaseException] = []

    def end() -> None:
        try:
            executor.shutdown(**options)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = start_daemon(end, "amltk-executor-close")
    if thread is None:
        end()
    else:
        thread.join(QUICK_END_SECONDS)
    if failures:
        raise failures[0]


def _parameters(fn: Callable[..., Any]) -> Mapping[str, object] | None:
    """The parameters that can be passed by name; None if any can, or they are unknown."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else parameters


def kill_workers(executor: Executor) -> None:
    """Make an executor of this package kill its workers, as far as it can; wait until they are gone."""
    executor.kill_workers()  # type: ignore[attr-defined]


def kill_process_pool(executor: Executor) -> None:
    """Kill the workers of a standard library's pool and all their descendants; wait until they are gone.

    Uses SIGKILL, since a worker may ignore any other signal. Running calls fail with `BrokenProcessPool`.
    """
    processes = _compat.processes_of(executor)
    manager = _compat.manager_of(executor)
    killed = kill_trees(processes)
    for process in processes.values():
        process.join(END_SECONDS)
    _wait_until_dead([process for process in killed if process.pid not in processes])
    shut_down(executor)
    if manager is not None:
        manager.join(END_SECONDS)
        if manager.is_alive():
            _log.warning("%r did not notice within %s s that its workers had been killed", executor, END_SECONDS)


def kill_trees(pids: Iterable[int]) -> list[psutil.Process]:
    """Kill processes and their descendants; each is stopped before it is searched, so that none is started unseen.

    Those that this user may not signal, such as what was started by `sudo`, are logged and left alone.

    Returns:
        Those that were killed, or had ended.
    """
    import psutil

    wanted = set(pids)
    tree: dict[int, psutil.Process] = {}
    found = [process for process in psutil.process_iter() if process.pid in wanted]
    while found:
        for process in found:
            tree[process.pid] = process
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.suspend()
        found = [p for p in psutil.process_iter(["ppid"]) if p.info["ppid"] in tree and p.pid not in tree]
    killed = []
    for process in tree.values():
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
        except psutil.AccessDenied:
            _log.warning("process %d cannot be ended, since this user is not allowed to: it goes on", process.pid)
            continue
        killed.append(process)
    return killed


def _wait_until_dead(processes: list[psutil.Process]) -> None:
    """Wait for processes that are not children of this one. Their new parent may be slow to reap them."""
    import psutil

    give_up = time.monotonic() + END_SECONDS
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < give_up:
                time.sleep(0.001)
