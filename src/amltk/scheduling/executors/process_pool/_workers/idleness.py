"""Ends workers that have had nothing to do for some time, so that their memory is free for others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool


class Idleness:
    """See the module's docstring.

    Workers are checked from time to time, which costs calls nothing: one ends after `idle_timeout` at the earliest, and
    after twice that time at the latest.

    Args:
        pool: The pool, whose options have the time; if that is None, workers stay.
    """

    def __init__(self, pool: ManagedPool) -> None:
        self._pool = pool
        self._timeout = pool.options.idle_timeout
        self._seen: dict[int, tuple[int, float]] = {}  # how many calls a slot had begun, and since when that is so
        self._look_at: float | None = None  # on the monotonic clock; None if there are no workers

    def retire(self) -> None:
        """Retire the workers that have been idle for too long."""
        now = time.monotonic()
        if self._timeout is None or (self._look_at is not None and now < self._look_at):
            return
        with self._pool.lock:
            slots = self._pool.dispatcher.slots
            seen, self._seen = self._seen, {}
            for number, slot in slots.items():
                if slot.retired:
                    continue  # it is ending
                begun, since = seen.get(number, (-1, now))
                if slot.sent or slot.begun != begun or not slot.ready:
                    since = now
                elif now - since >= self._timeout:
                    slot.retired = True
                self._seen[number] = slot.begun, since
        times = [since for _, since in self._seen.values()]
        self._look_at = min(times) + self._timeout if times else None

    def due(self) -> float | None:
        """When to look again even if nothing happens, on the monotonic clock; None for never."""
        return self._look_at
