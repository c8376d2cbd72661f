"""How some numbers have changed over time, in bounded memory."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


class History:
    """Numbers that begin at 0, and the moments at which they change. Times are whole nanoseconds.

    Changes may be noted in any order. Each takes the same little time, however many there were: what happens within
    one *span* of time is kept as one sum. A span is a nanosecond at first, so that everything is exact. Whenever there
    are too many, the spans become longer, by a power of two; then what is known of each is the mean over its time.

    Args:
        numbers: How many numbers there are.
        most: How many spans are kept, at least 2.

    Attributes:
        span: How long a span is now; 1 if all is exact.
    """

    def __init__(self, numbers: int, most: int) -> None:
        self.span: int = 1
        self._numbers = numbers
        self._most = most
        # By the number of the span, for each number: by how much it has changed within, and the sum of changes times
        # what was left of the span.
        self._changes: dict[int, tuple[list[int], list[int]]] = {}

    def change(self, at: int, number: int, by: int) -> None:
        """Note that a number has changed."""
        key = at // self.span
        if key not in self._changes:
            self._changes[key] = ([0] * self._numbers, [0] * self._numbers)
            if len(self._changes) > self._most:
                self._lengthen()
                key = at // self.span
        by_much, weighted = self._changes[key]
        by_much[number] += by
        weighted[number] += by * ((key + 1) * self.span - at)

    def copy(self) -> Self:
        """Another one, which changes independently."""
        other = type(self)(self._numbers, self._most)
        other.span = self.span
        other._changes = {key: (by_much[:], weighted[:]) for key, (by_much, weighted) in self._changes.items()}
        return other

    def steps(self) -> Iterator[tuple[int, list[float]]]:
        """From which moment on the numbers had which values, in order; the last values hold for ever."""
        levels = [0] * self._numbers
        keys = sorted(self._changes)
        for key, following in zip_longest(keys, keys[1:]):
            by_much, weighted = self._changes[key]
            yield key * self.span, [level + sum_ / self.span for level, sum_ in zip(levels, weighted, strict=True)]
            levels = [level + by for level, by in zip(levels, by_much, strict=True)]
            if self.span > 1 and following != key + 1:
                yield (key + 1) * self.span, list(map(float, levels))

    def _lengthen(self) -> None:
        """Make spans so long that half as many as there may be would cover all the time."""
        covered = (max(self._changes) - min(self._changes) + 1) * self.span
        factor = 2
        while covered > self._most // 2 * self.span * factor:
            factor *= 2
        old, self._changes = self._changes, {}
        for key, (by_much, weighted) in old.items():
            left = (factor - 1 - key % factor) * self.span  # of the longer span, when the shorter one is over
            sums = self._changes.setdefault(key // factor, ([0] * self._numbers, [0] * self._numbers))
            for n, by in enumerate(by_much):
                sums[0][n] += by
                sums[1][n] += weighted[n] + by * left
        self.span *= factor
