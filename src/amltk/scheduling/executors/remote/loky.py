"""Local processes with loky, as joblib and scikit-learn use them."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

from loky import ProcessPoolExecutor

from amltk import _compat
from amltk._checks import check_optional_count, check_optional_seconds
from amltk._process.cpus import usable_cpus
from amltk.scheduling.executors.process_pool._child.library_threads import thread_environment
from amltk.scheduling.executors.remote.pooled import PooledExecutor
from amltk.scheduling.executors.termination import prepare_kill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.types import Duration


def make(
    max_workers: int | None = None,
    env: Mapping[str, str] | None = None,
    timeout: Duration | None = None,
    **options: Any,
) -> LokyExecutor:
    """Make an executor with a pool of its own; arguments as in `loky.ProcessPoolExecutor`.

    The number of library threads in each worker is set as in a `ProcessPool`, unless `env` says otherwise.

    It does not use loky's reusable executor: that is shared by the whole program, so the end of one scheduler's run
    would shut down another's, and joblib's.
    """
    workers = check_optional_count("max_workers", max_workers) or usable_cpus()
    seconds = check_optional_seconds("timeout", timeout)
    env = {**thread_environment(workers), **(env or {})}
    return LokyExecutor(ProcessPoolExecutor(workers, env=env, timeout=seconds, **options))


class LokyExecutor(PooledExecutor):
    """Computes in loky's processes. If one dies, all calls fail, and the executor is broken."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        super().__init__(pool)
        self._max_workers = _compat.max_workers(pool)  # the attribute of the standard library's executors

    def _kill(self) -> bool:
        prepare_kill(self._pool)
        self._pool.shutdown(wait=True, kill_workers=True)
        return True

    def _close(self, *, wait: bool) -> None:
        super()._close(wait=wait)
        multiprocessing.active_children()  # reaps dead processes: loky does not reap a crashed worker
