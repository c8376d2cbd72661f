"""What to do about workers that fail to start, cannot be started now, or are slow to become ready."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.process_pool._io.link import SLOW_START_SECONDS
from amltk.scheduling.executors.process_pool._system.shortage import explain

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool

_log = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
"""How many workers in succession may fail to initialise before the pool is broken."""

MAX_SHORTAGES = 6
"""How often the system may fail to start a worker, while there are no workers, before the pool is broken."""

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
"""How long to wait before trying to start a worker again; doubled each time, up to the last."""

HANGING_START_RATIO = 10.0
"""How many times longer than the slowest earlier worker a worker may take to become ready."""

HANGING_START_SECONDS = 30.0
"""The least time a worker has to become ready, once another one has; see `StartProblems._limit`."""


class StartProblems:
    """Problems with the starts of a pool's workers.

    Attributes:
        is_hurried: Whether a run is waiting for its end.
        retry_at: When to try to start workers again, on the monotonic clock; None if nothing is against it.
    """

    def __init__(self, pool: ManagedPool) -> None:
        self.is_hurried: bool = False
        self.retry_at: float | None = None
        self._pool = pool
        self._shortages = 0  # in succession, while there were no workers
        self._pause = FIRST_RETRY_SECONDS
        self._has_said_short = False

    def must_wait(self) -> bool:
        """Whether it is too early to try to start workers again."""
        if self.retry_at is not None and time.monotonic() < self.retry_at:
            return True
        self.retry_at = None
        return False

    def note_started(self) -> None:
        """Note that the system was able to start a worker."""
        self._shortages = 0
        self._pause = FIRST_RETRY_SECONDS

    def note_failed(self, text: str, cause: BaseException | None, *, was_given_up: bool = False) -> None:
        """Note that a worker was started but could not be initialised.

        Args:
            text: What happened.
            cause: The error behind it.
            was_given_up: Whether it was ended because it took too long, as the next one would.

        Raises:
            PoolBrokenError: Too many workers in succession failed to start.
        """
        dispatcher = self._pool.dispatcher
        dispatcher.failed_starts += 1
        if self.is_hurried and was_given_up:
            raise PoolBrokenError(f"{text}, and the run is to end") from cause
        if dispatcher.failed_starts >= MAX_FAILED_STARTS:
            raise PoolBrokenError(f"{text}; that happened {dispatcher.failed_starts} times in succession") from cause
        _log.warning("%s; another one is started", text)

    def note_shortage(self, error: OSError | MemoryError) -> None:
        """Note that the system cannot start a worker now. Continue with the existing ones, and try again later.

        Raises:
            PoolBrokenError: There have been no workers for some time.
        """
        n_workers = len(self._pool.links)
        self._shortages = 0 if n_workers else self._shortages + 1
        if self._shortages >= MAX_SHORTAGES:
            raise PoolBrokenError(f"no worker process can be started: {explain(error)}") from error
        self.retry_at = time.monotonic() + self._pause
        self._pause = min(LAST_RETRY_SECONDS, 2 * self._pause)
        if not self._has_said_short:
            self._has_said_short = True
            _log.warning(
                "a worker process cannot be started: %s. The pool goes on with %d workers, and tries again",
                explain(error),
                n_workers,
            )

    def watch(self) -> None:
        """Warn about workers that are slow to become ready, since nothing else does; give up hanging ones."""
        now = time.monotonic()
        with self._pool.lock:
            slow = [link for link in self._pool.links.values() if link.slow_at is not None and link.slow_at <= now]
            for link in slow:
                link.slow_at = now + max(SLOW_START_SECONDS, (now - link.requested_at) / 2)
        for link in slow:
            took = now - link.requested_at
            is_initializing = link.pid and self._pool.options.initialize is not None
            what = "its initializer has not returned" if is_initializing else "it is still being started"
            if link.reason is None and took >= self._limit():
                link.reason = TimeoutError(f"it was not ready after {took:.0f} s: {what}")
                link.failed_start = True
            else:
                _log.warning("worker %s is not ready after %.0f s: %s", link.pid or "(no pid yet)", took, what)

    def _limit(self) -> float:
        """The number of seconds after which a worker is no longer expected to become ready.

        The first worker may take any time, unless a run is waiting for its end. Others take about as long as earlier
        ones, except a worker that waits for something that a killed one held: a device, or a lock.
        """
        if self.is_hurried:
            return SLOW_START_SECONDS
        slowest = self._pool.io.slowest_start
        return max(HANGING_START_SECONDS, HANGING_START_RATIO * slowest) if slowest else math.inf
