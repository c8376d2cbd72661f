"""Ends workers: those that are no longer needed, those whose call exceeds a limit, and those that do not end."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool._state.outcomes import UNKNOWN_EXIT_CODE
from amltk.scheduling.executors.process_pool._state.protocol import ProtocolError
from amltk.scheduling.executors.process_pool._system.descendants import ON_LINUX
from amltk.scheduling.executors.process_pool._system.processes import has_ended
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._workers.deaths import Deaths
    from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool
    from amltk.scheduling.executors.process_pool._workers.starts import Starts

_log = logging.getLogger(__name__)

SILENCE_SECONDS = 2.0
"""How long a worker may live without a connection to the pool, in seconds."""

REPORT_SECONDS = 10.0
"""How long the process that starts workers may take to report that a worker has ended, or will not start."""

LOOK_SECONDS = 0.01
"""How often a worker that is ending is checked, in seconds."""


class Kills:
    """Ends the workers of a pool."""

    def __init__(self, pool: ManagedPool, starts: Starts, deaths: Deaths) -> None:
        self._pool = pool
        self._starts = starts
        self._deaths = deaths

    def mark_excesses(self) -> None:
        """Mark the workers whose calls have exceeded a limit to be killed."""
        io = self._pool.io
        excesses = io.limit_monitor.check()
        with self._pool.lock:
            for excess in excesses:
                if io.limit_monitor.confirm(excess):
                    io.mark_for_kill(excess.link, excess.error)

    def hang_up(self, *, everybody: bool) -> None:
        """Hang up on workers that are no longer needed, so that they end. Requires the lock."""
        for link in self._pool.links.values():
            if (everybody or link.slot.retired) and not link.slot.sent and link.hung_up_at is None:
                link.hang_up()
                link.slot.retired = True  # it would not begin a call that is submitted just now
                if not link.pid and link.unreported_since is None:
                    link.unreported_since = link.hung_up_at
                    self._starts.abandon(link)

    def kill_marked(self) -> bool:
        """Kill the workers that are marked for it, or take too long to end, with everything that they have started.

        Returns:
            Whether some were given up: they cannot be killed, because they have become another user's; or nothing
            tells of their end.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        self._mark_overdue()
        with self._pool.lock:
            leaving = [link for link in self._pool.links.values() if _is_leaving(link)]
        marked = [link for link in leaving if link.reason is not None]
        denied = _kill({link.pid for link in marked if link.pid})
        for link in marked:
            if link.pid in denied:
                _log.warning(
                    "worker %d is to be ended, because %s, and this user may not do that: it is left alone, and ends "
                    "when its call does",
                    link.pid,
                    link.reason,
                )
                self._deaths.bury(link, UNKNOWN_EXIT_CODE)
        return self._give_up_unreported([link for link in leaving if link.pid not in denied]) or bool(denied)

    def _give_up_unreported(self, links: Iterable[Link]) -> bool:
        """Give up workers that are to end if the process that starts workers reports nothing: someone has stopped it.

        Those that it may not have started yet, and those whose process has ended.

        Returns:
            Whether there were any.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        now, given_up = time.monotonic(), []
        for link in links:
            if link.pid and not has_ended(link.pid):
                link.unreported_since = None
            elif link.unreported_since is None:
                link.unreported_since = now
                self._starts.abandon(link)
            elif now - link.unreported_since >= REPORT_SECONDS:
                given_up.append(link)
        if given_up:
            _log.warning(
                "the process that starts workers has not answered for %g s and may be stopped: workers %s are given up",
                REPORT_SECONDS,
                [link.pid or "without a pid" for link in given_up],
            )
            self._deaths.give_up(given_up)
        return bool(given_up)

    def _mark_overdue(self) -> None:
        now, late = time.monotonic(), []
        with self._pool.lock:
            for link in self._pool.links.values():
                if link.reason is None:
                    link.reason = self._overdue(link, now)
                    late += [link] if isinstance(link.reason, TimeoutError) else []
        for link in late:
            waits = f": it waits for {link.ending}" if link.ending else ""
            limit = self._pool.options.exit_timeout
            _log.warning("worker %d did not end in %g s, and is killed%s", link.pid, limit, waits)

    def _overdue(self, link: Link, now: float) -> Exception | None:
        """Why a worker that should have ended must be killed; None if it still has time, or has ended."""
        limit = self._pool.options.exit_timeout
        is_silent = link.silent_since is not None and now - link.silent_since > SILENCE_SECONDS
        is_late = link.hung_up_at is not None and now - link.hung_up_at >= limit
        if not (is_silent or is_late) or has_ended(link.pid):
            return None  # the report of its end, and of how, may take long to arrive on a busy machine
        if is_silent:
            return ProtocolError("it has closed its connection to the pool")
        return TimeoutError(f"it did not end in {limit:g} s")

    def due(self) -> Iterator[float]:
        """When to check workers again even if nothing happens, on the monotonic clock. Requires the lock."""
        now = time.monotonic()
        for link in self._pool.links.values():
            if link.silent_since is not None or link.reason is not None or link.unreported_since is not None:
                yield now + LOOK_SECONDS  # it is about to end, perhaps before its pid was known, or is being killed
            elif link.hung_up_at is not None:
                yield max(link.hung_up_at + self._pool.options.exit_timeout, now + LOOK_SECONDS)
            elif link.slow_at is not None:
                yield link.slow_at


def _is_leaving(link: Link) -> bool:
    """Whether a worker is to end, or has ended."""
    return link.reason is not None or link.hung_up_at is not None or link.silent_since is not None


def _kill(pids: Collection[int]) -> set[int]:
    """Kill workers. Their parent process ends what they have started, as far as it finds it.

    Returns:
        The pids that this user may not kill.
    """
    if not ON_LINUX:
        kill_trees(pids)
    denied = set()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            denied.add(pid)
    return denied
