"""Sums over equal intervals of time. Their number is limited: when they run out, each becomes twice as long."""

from __future__ import annotations

from array import array

MOST = 512
"""How many intervals there are at most."""

FIRST_WIDTH = 0.0625
"""The initial length of an interval, in seconds."""


class Buckets:
    """Rows of sums over the same intervals of time.

    Attributes:
        start: When the first interval begins, in seconds since the epoch; None if nothing was added.
        width: The length of each interval, in seconds.
        rows: The sums of each row; those at the end that are zero may be left out.
    """

    def __init__(self) -> None:
        self.start: float | None = None
        self.width: float = FIRST_WIDTH
        self.rows: dict[str, array[float]] = {}

    def add(self, row: str, time: float, amount: float = 1.0) -> None:
        """Add an amount to the interval that contains this time; earlier times count for the first interval."""
        self._put(row, self._place(time), amount)

    def spread(self, row: str, begin: float, end: float) -> None:
        """Add to each interval the number of its seconds that lie between two times."""
        last = self._place(end)  # first, since it may make the intervals longer
        first = self._place(begin)
        start, width = self.start or 0.0, self.width
        if first >= last:  # mostly
            self._put(row, last, max(0.0, min(end - begin, width)))
            return
        self._put(row, first, min(width, start + (first + 1) * width - begin))
        for place in range(first + 1, last):
            self._put(row, place, width)
        self._put(row, last, end - (start + last * width))

    def _put(self, row: str, place: int, amount: float) -> None:
        sums = self.rows.get(row)
        if sums is None:
            sums = self.rows[row] = array("d")
        if place >= len(sums):
            sums.extend([0.0] * (place + 1 - len(sums)))
        sums[place] += amount

    def _place(self, time: float) -> int:
        if self.start is None:
            self.start = time
        place = int(max(0.0, time - self.start) / self.width)
        while place >= MOST:
            self._double()
            place = int(max(0.0, time - self.start) / self.width)
        return place

    def _double(self) -> None:
        self.width *= 2
        for sums in self.rows.values():
            if len(sums) % 2:
                sums.append(0.0)
            sums[:] = array("d", map(float.__add__, sums[::2], sums[1::2]))
