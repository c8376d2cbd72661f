"""How fast a run goes, and when it will be over."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amltk.scheduling.snapshot import Counts

PACE_WINDOW = 60
"""Seconds over which the rate is taken, once enough has ended in them."""

ENOUGH = 10
"""How many computed within the window make a rate; with fewer it is the mean since the start."""

SETTLED_AFTER = 3
"""Endings in a row without a submission in between after which what has not ended counts as all that is left."""


class Pace:
    """How fast submissions are computed, and whether the end is in sight."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()
        self._submitted = 0
        self._ended_at_submission = 0

    def read(self, elapsed: float, counts: Counts) -> None:
        """Take a reading. Only one a second is kept."""
        if counts.submitted != self._submitted:
            self._submitted = counts.submitted
            self._ended_at_submission = counts.ended
        if not self._readings or elapsed - self._readings[-1][0] >= 1:
            self._readings.append((elapsed, counts.computed))
        while elapsed - self._readings[0][0] > PACE_WINDOW:
            self._readings.popleft()

    def rate(self, elapsed: float, counts: Counts) -> float:
        """How many are computed a second, lately or, where that is little, since the start."""
        since, before = self._readings[0]
        if counts.computed - before < ENOUGH:
            since, before = 0.0, 0
        return (counts.computed - before) / (elapsed - since) if elapsed > since else 0.0

    def to_go(self, elapsed: float, counts: Counts, total: int | None) -> float | None:
        """Seconds until everything has ended.

        Args:
            elapsed: Seconds since the start.
            counts: The submissions by now.
            total: How many there will have been at the end; None if that is not known. Then what has not ended is taken
                for all that is left, once nothing more seems to come.

        Returns:
            None if it cannot be told, or nothing is left.
        """
        rate = self.rate(elapsed, counts)
        left = counts.unended if total is None else total - counts.ended
        settled = total is not None or counts.ended - self._ended_at_submission >= SETTLED_AFTER
        return left / rate if left > 0 and rate and settled else None
