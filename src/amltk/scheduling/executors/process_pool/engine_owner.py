"""Has the engine of a pool, which is loaded and made for its first call."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING

from amltk import _guard
from amltk.scheduling.executors.process_pool._workers.forking import is_forked_for_pool
from amltk.scheduling.executors.process_pool._workers.server_process import launch_ahead

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool._engine.engine import Engine
    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.options import WorkerOptions

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class _MadeWhenUsed:
    """The engine as an attribute: of the instance, once it is made.

    No `functools.cached_property`: in CPython 3.11 that has one lock for all pools, which a fork may find held.
    """

    def __get__(self, owner: EngineOwner, _: type) -> Engine:
        return owner._obtain_engine()


class EngineOwner:
    """Owns the engine of a pool, from the first call to the end. May be used from any thread.

    The engine is the larger part of what there is to load for a call. Meanwhile what starts workers begins, which is
    another process and takes as long. What may be asked or ended before the first call needs no engine.

    Args:
        max_workers: As in `ProcessPool`.
        max_tasks_per_child: As in `ProcessPool`.
        options: How workers are started and ended.
    """

    _engine = _MadeWhenUsed()

    def __init__(self, max_workers: int, max_tasks_per_child: int | None, options: WorkerOptions) -> None:
        self._max_workers = max_workers
        self._max_tasks_per_child = max_tasks_per_child
        self._options = options
        self._pid = os.getpid()
        self._making = threading.RLock()
        self._is_shut = False  # before there is an engine
        self._future: type[PoolFuture]

    def _obtain_engine(self) -> Engine:
        """The engine, which is made if there is none."""
        if self._pid != os.getpid():  # another thread may have held the lock when this process was forked
            return self._make_engine()
        with self._making:
            made = self._made()
            return self._make_engine() if made is None else made

    def _made(self) -> Engine | None:
        """The engine, if there is one."""
        made: Engine | None = vars(self).get("_engine")
        return made

    def _make_engine(self) -> Engine:
        ahead = None
        if self._pid == os.getpid() and not self._is_shut:
            _guard.check("a process pool")
            ahead = launch_ahead(self._options, self._max_workers)
        try:
            from amltk.scheduling.executors.process_pool._engine.engine import Engine
            from amltk.scheduling.executors.process_pool.future import PoolFuture

            engine = Engine(self._max_workers, self._max_tasks_per_child, self._options, pid=self._pid, ahead=ahead)
        except BaseException:
            if ahead is not None:
                ahead.discard()
            raise
        vars(self).setdefault("_future", PoolFuture)
        if self._pid != os.getpid():
            engine.note_fork(is_worker=False)
        made: Engine = vars(self).setdefault("_engine", engine)  # a signal's handler may have made another one
        if made is not engine or self._is_shut:
            engine.close(cancel=False)
        if made is engine:
            _engines.add(engine)
            # A pool without references finishes its calls, and ends.
            self._finalizer = weakref.finalize(self, engine.close, cancel=False)
            self._finalizer.atexit = False
        return made

    def _shut(self) -> Engine | None:
        """The engine, which is to be ended; None if there is none, and one that is made will have been ended."""
        made = self._made()
        if made is None and self._pid == os.getpid():
            with self._making:
                self._is_shut = True
                made = self._made()
            if made is None and self._options.initialize is not None:
                self._options.initialize.close()
        return made


def _note_fork() -> None:
    is_worker = is_forked_for_pool()
    for engine in list(_engines):
        engine.note_fork(is_worker=is_worker)
    if is_worker:  # it closes the engines' descriptors itself: their numbers will be those of others
        _engines.clear()


os.register_at_fork(after_in_child=_note_fork)


@atexit.register
def _finish() -> None:
    """Let pools that were not shut down finish their calls before Python exits, as the standard library does."""
    for engine in list(_engines):
        engine.close(cancel=False)
    for engine in list(_engines):
        engine.join()
