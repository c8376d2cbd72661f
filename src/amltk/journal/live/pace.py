"""How fast calls end, and when the last one will have ended."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0
"""How many recent seconds the rate covers, once enough calls have ended in them."""

ENOUGH = 10
"""With fewer endings than this, the rate covers the whole session."""

SETTLED = 3
"""After this many endings without a submission, no more submissions are expected."""


class Pace:
    """Counts endings by the second, over the last minute only.

    Attributes:
        alive: For how many seconds programs have used the journal.
    """

    def __init__(self) -> None:
        self.alive: float = 0.0
        self._latest = 0.0
        self._session = 0.0
        self._in_session = 0
        self._since_submission = 0
        self._recent: deque[list[float]] = deque()  # each a second, and how many calls ended in it

    def begin_session(self, time: float) -> None:
        """Note that a program was started."""
        self._session = self._latest = time
        self._in_session = 0
        self._recent.clear()

    def pass_to(self, time: float) -> None:
        """Note the time of a record."""
        if self._latest and time > self._latest:
            self.alive += time - self._latest
        self._latest = max(self._latest, time)

    def submitted(self) -> None:
        """Note that a call was submitted."""
        self._since_submission = 0

    def ended(self, time: float) -> None:
        """Note that a call has ended."""
        self._in_session += 1
        self._since_submission += 1
        recent = self._recent
        if recent and time < recent[-1][0] + 1:
            recent[-1][1] += 1
            return
        recent.append([float(int(time)), 1])
        while recent[-1][0] - recent[0][0] > WINDOW:
            recent.popleft()

    def rate(self, now: float) -> float:
        """Endings per second, as of `now`: the time of the last record, if nothing runs any more."""
        since = now - WINDOW
        n = sum(count for second, count in self._recent if second >= since)
        passed = now - self._session
        if n < ENOUGH or passed < WINDOW:
            return self._in_session / passed if passed > 0 else 0.0
        return n / WINDOW

    def to_go(self, now: float, left: int, *, is_total: bool) -> float | None:
        """Seconds until the calls that are left have ended; None if there is no estimate.

        Args:
            now: As in `rate`.
            left: How many are left.
            is_total: Whether these are all calls that will ever be submitted. If not, there is an estimate only once no
                more submissions are expected.
        """
        rate = self.rate(now)
        settled = is_total or self._since_submission >= SETTLED
        return left / rate if left > 0 and rate and settled else None
