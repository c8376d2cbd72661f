"""The manager of the workers: which ones to start, which ones to kill and why, and the outcome of their calls.

Runs only on the pool's own thread, since starting and killing processes takes time. Its parts are `Starts`, `Deaths`,
`Kills` and `Idleness`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._notes import safe_repr
from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.process_pool._workers.deaths import Deaths
from amltk.scheduling.executors.process_pool._workers.idleness import Idleness
from amltk.scheduling.executors.process_pool._workers.kills import Kills
from amltk.scheduling.executors.process_pool._workers.start_problems import StartProblems

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool
    from amltk.scheduling.executors.process_pool._workers.starts import Starts


class WorkerManager:
    """Starts and ends workers; see the module.

    Args:
        pool: The pool. Its lock is not held by the caller, unless a method says so.
        starts: Starts the workers of this pool.

    Attributes:
        due: When `look_after` must run next even if nothing happens, on the monotonic clock; None for never.
    """

    def __init__(self, pool: ManagedPool, starts: Starts) -> None:
        self.due: float | None = None
        self._pool = pool
        self._io = pool.io
        self._dispatcher = pool.dispatcher
        self._problems = StartProblems(pool)
        self._starts = starts
        self._deaths = Deaths(pool, self._problems)
        self._kills = Kills(pool, starts, self._deaths)
        self._idleness = Idleness(pool)

    def look_after(self, *, closing: bool) -> bool:
        """Handle everything that has happened.

        Args:
            closing: No more calls are accepted: hang up on all workers once everything is done.

        Returns:
            Whether there is new work for the I/O: calls that can go to other workers, or outcomes.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start, or none can be started.
        """
        self._io.manager_wanted = False
        self._kills.mark_excesses()
        self._idleness.retire()
        changed = self._note_reports()
        changed = self._kills.kill_marked() or changed
        with self._pool.lock:
            self._kills.hang_up(everybody=closing and self._dispatcher.idle())
        self._problems.watch()
        self._starts.preload()
        changed = self._start_workers() or changed
        self._starts.await_room()
        with self._pool.lock:
            self.due = self._next_look()
        return changed

    def needed(self) -> bool:
        """Whether `look_after` may have to run at once, apart from its schedule. Requires the lock."""
        return self._io.manager_wanted or (
            self._dispatcher.wants_slot() and self._problems.retry_at is None and not self._starts.must_wait()
        )

    def hurry(self, *, is_hurried: bool = True) -> None:
        """Give up workers that are slow to become ready, since a run is waiting for its end; or no longer do."""
        self._problems.is_hurried = is_hurried

    def _next_look(self) -> float | None:
        """When to check again even if nothing happens. Requires the lock."""
        times = [self._io.limit_monitor.due(), self._idleness.due(), *self._kills.due()]
        if self._dispatcher.wants_slot():
            times.append(self._problems.retry_at)
        return min((one for one in times if one is not None), default=None)

    def _note_reports(self) -> bool:
        """Handle what the starter reports about processes; return whether any have ended."""
        try:
            reports = self._starts.reports()
        except ConnectionError:
            self._replace_starter()
            return True
        return self._deaths.note_reports(reports)

    def _start_workers(self) -> bool:
        """Start the workers that are wanted; return whether this ended calls."""
        if self._problems.must_wait():
            return False
        try:
            self._starts.start_wanted()
        except ConnectionError:
            self._replace_starter()
            return True
        except (OSError, MemoryError) as error:
            self._problems.note_shortage(error)
        except PoolBrokenError:
            raise
        except Exception as error:
            raise PoolBrokenError(f"no worker process can be started: {safe_repr(error)}") from error
        return False

    def _replace_starter(self) -> None:
        self._starts.drop_starter()
        self._deaths.lose_all()

    def close(self) -> None:
        """End what was needed to start workers, once the workers have ended."""
        with self._pool.lock:
            links = list(self._pool.links.values())
            self._pool.links.clear()
            self._io.segments.close()
        for link in links:
            link.close()
        self._starts.close()

    def disown(self, lock: AbstractContextManager[object]) -> None:
        """Close, in a forked copy of the process, its copies of all connections. Nothing is sent or ended.

        Args:
            lock: The pool's new lock.
        """
        self._pool.lock = lock
        for link in self._pool.links.values():
            link.close()
        self._pool.links.clear()
        self._dispatcher.slots.clear()
        self._starts.disown()
        self._io.disown()
