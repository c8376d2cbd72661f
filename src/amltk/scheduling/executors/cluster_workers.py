"""How many workers of a cluster are up, what the others wait for, and who is told of the first one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class ClusterWorkers:
    """The workers of a cluster that are jobs of a batch system.

    Its `str` is a sentence: `0 of 2 workers are up, 1 job waits in the queue since 03:10 (Priority)`.

    Attributes:
        up: How many workers are connected.
        wanted: How many there are to be.
        waiting: How many jobs the batch system has not started.
        starting: How many jobs it has started whose workers have not connected yet.
        since: When the first of the waiting jobs was submitted, in seconds since the epoch; None if none waits.
        reason: Why it waits, in the words of the batch system; empty if unknown.
    """

    up: int
    wanted: int
    waiting: int = 0
    starting: int = 0
    since: float | None = None
    reason: str = ""

    @property
    def are_complete(self) -> bool:
        """Whether all workers are up."""
        return self.up >= self.wanted

    def __str__(self) -> str:
        parts = [f"{self.up:,} of {self.wanted:,} {'worker is' if self.wanted == 1 else 'workers are'} up"]
        if self.waiting:
            since = "" if self.since is None else f" since {time.strftime('%H:%M', time.localtime(self.since))}"
            why = f" ({self.reason})" if self.reason else ""
            jobs = "1 job waits" if self.waiting == 1 else f"{self.waiting:,} jobs wait"
            parts.append(f"{jobs} in the queue{since}{why}")
        if self.starting:
            parts.append(f"{self.starting:,} {'job starts' if self.starting == 1 else 'jobs start'}")
        return ", ".join(parts)


class FirstWorker:
    """Who is told that a worker is up. May be used from any thread."""

    def __init__(self) -> None:
        self._told: dict[str, Callable[[], object]] = {}  # one or none: taking it out is atomic

    def tell(self, fn: Callable[[], object] | None) -> None:
        """Call `fn` at the next `is_up`, instead of what was given before; None for nothing."""
        if fn is None:
            self._told.clear()
        else:
            self._told["first"] = fn

    def is_up(self) -> None:
        """Tell that a worker is up, unless that was told."""
        fn = self._told.pop("first", None)
        if fn is not None:
            fn()
