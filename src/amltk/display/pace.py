"""The rate of a run, and how long it will still take."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling.snapshot import Counts

PACE_WINDOW = 60
"""The rate is measured over this many seconds, once enough calls have ended within them."""

ENOUGH = 10
"""How many calls must be computed within the window to measure a rate; with fewer, the rate is the mean since the
start."""

SETTLED_AFTER = 3
"""After this many endings in a row without a new submission, no more submissions are expected."""


class Pace:
    """Measures how fast submissions are computed, and estimates when they will all have ended."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()
        self._submitted = 0
        self._ended_at_submission = 0

    def read(self, elapsed: float, counts: Counts) -> None:
        """Take a reading. At most one reading per second is kept."""
        if counts.submitted != self._submitted:
            self._submitted = counts.submitted
            self._ended_at_submission = counts.ended
        if not self._readings or elapsed - self._readings[-1][0] >= 1:
            self._readings.append((elapsed, counts.computed))
        while elapsed - self._readings[0][0] > PACE_WINDOW:
            self._readings.popleft()

    def rate(self, elapsed: float, counts: Counts) -> float:
        """Computed calls per second: over the window, or since the start if few have ended in it."""
        since, before = self._readings[0]
        if counts.computed - before < ENOUGH:
            since, before = 0.0, 0
        return (counts.computed - before) / (elapsed - since) if elapsed > since else 0.0

    def to_go(self, elapsed: float, counts: Counts, total: int | None) -> float | None:
        """Seconds until everything has ended.

        Args:
            elapsed: Seconds since the start.
            counts: The submissions so far.
            total: How many submissions there will be in total; None if unknown. Then the unended ones count as all that
                is left, once no more seem to be coming.

        Returns:
            None if there is no estimate, or nothing is left.
        """
        rate = self.rate(elapsed, counts)
        left = counts.unended if total is None else total - counts.ended
        settled = total is not None or counts.ended - self._ended_at_submission >= SETTLED_AFTER
        return left / rate if left > 0 and rate and settled else None
