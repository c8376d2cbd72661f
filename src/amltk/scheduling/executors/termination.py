"""How executors are ended that have work which nobody wants to wait for."""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from amltk._threads import start_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor

    import psutil

_log = logging.getLogger(__name__)

HASTE = 0.5
"""Seconds given to an executor to shut down without waiting: some wait for their work whatever they are told."""

PATIENCE = 5.0
"""Seconds after which a killed process, or the pool that has to notice it, is no longer waited for."""


class _Dropped(Future[Any]):
    """Stands for a future that was cancelled: it begins nothing and takes no outcome."""

    def set_running_or_notify_cancel(self) -> bool:
        return False

    def set_exception(self, exception: BaseException | None) -> None:
        pass


def drop_cancelled(executor: Executor) -> None:
    """Keep a standard library's process pool from telling cancelled futures that it was killed.

    A pool that breaks fails all the futures that it holds, and before CPython 3.12.3 the first cancelled one among them
    raises `InvalidStateError` in its thread, which then neither fails the others nor cleans up.
    """
    for item in list(getattr(executor, "_pending_work_items", {}).values()):
        if item.future.cancelled():
            item.future = _Dropped()


def shut_down(executor: Executor, *, wait: bool = False) -> None:
    """Have it accept nothing more.

    Not every executor takes the arguments that the standard library's do: what it does not take is left out.

    Args:
        executor: Any.
        wait: Return when its work is done. If False, what has not begun is cancelled, and running work goes on unseen.
            An executor that waits all the same does so on a thread of its own, from `HASTE` on.
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
        thread.join(HASTE)
    if failures:
        raise failures[0]


def _parameters(fn: Callable[..., Any]) -> Mapping[str, object] | None:
    """What can be given to it by name; None if that is anything, or is not known."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else parameters


def kill_workers(executor: Executor) -> None:
    """Have an executor of this package kill its workers, as far as it can; wait until they are gone."""
    executor.kill_workers()  # type: ignore[attr-defined]


def kill_process_pool(executor: Executor) -> None:
    """Kill the workers of a standard library's pool and everything they have started; wait until they are gone.

    SIGKILL, since a worker may ignore every other signal. Work that ran fails with `BrokenProcessPool`.
    """
    processes = dict(getattr(executor, "_processes", None) or {})
    manager = getattr(executor, "_executor_manager_thread", None)
    killed = kill_trees(processes)
    for process in processes.values():
        process.join(PATIENCE)
    _wait_until_dead([process for process in killed if process.pid not in processes])
    shut_down(executor)
    if manager is not None:
        manager.join(PATIENCE)
        if manager.is_alive():
            _log.warning("%r did not notice within %s s that its workers were killed", executor, PATIENCE)


def kill_trees(pids: Iterable[int]) -> list[psutil.Process]:
    """Kill processes and their descendants; each is stopped before it is searched, so that none is started unseen."""
    import psutil

    wanted = set(pids)
    tree: dict[int, psutil.Process] = {}
    found = [process for process in psutil.process_iter() if process.pid in wanted]
    while found:
        for process in found:
            tree[process.pid] = process
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        found = [p for p in psutil.process_iter(["ppid"]) if p.info["ppid"] in tree and p.pid not in tree]
    for process in tree.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return list(tree.values())


def _wait_until_dead(processes: list[psutil.Process]) -> None:
    """Wait for processes that are not children of this one. Who has adopted them may be slow to reap the dead."""
    import psutil

    give_up = time.monotonic() + PATIENCE
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < give_up:
                time.sleep(0.001)
