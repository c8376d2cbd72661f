"""The history of some numbers over time, in bounded memory."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


class History:
    """Numbers that start at 0, and the moments at which they change. Times are whole nanoseconds.

    Changes may be recorded in any order, each in the same short time. All changes within one *span* of time are kept as
    one sum. A span is initially one nanosecond, so that everything is exact. When there are too many spans, they are
    lengthened by a power of two; from then on only the mean over each span is known.

    Args:
        numbers: How many numbers there are.
        most: How many spans are kept, at least 2.

    Attributes:
        span: The current length of a span; 1 while everything is exact.
    """

    def __init__(self, numbers: int, most: int) -> None:
        self.span: int = 1
        self._numbers = numbers
        self._most = most
        # For each span number: the change within the span, and the sum of changes weighted with the time left in the
        # span.
        self._changes: dict[int, tuple[list[int], list[int]]] = {}

    def change(self, at: int, number: int, by: int) -> None:
        """Record that a number has changed."""
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
        """An independent copy."""
        other = type(self)(self._numbers, self._most)
        other.span = self.span
        other._changes = {key: (by_much[:], weighted[:]) for key, (by_much, weighted) in self._changes.items()}
        return other

    def steps(self) -> Iterator[tuple[int, list[float]]]:
        """The moments of change in order, each with the values from then on; the last values hold forever."""
        levels = [0] * self._numbers
        keys = sorted(self._changes)
        for key, following in zip_longest(keys, keys[1:]):
            by_much, weighted = self._changes[key]
            yield key * self.span, [level + sum_ / self.span for level, sum_ in zip(levels, weighted, strict=True)]
            levels = [level + by for level, by in zip(levels, by_much, strict=True)]
            if self.span > 1 and following != key + 1:
                yield (key + 1) * self.span, list(map(float, levels))

    def _lengthen(self) -> None:
        """Lengthen the spans until half of the allowed number covers all the time."""
        covered = (max(self._changes) - min(self._changes) + 1) * self.span
        factor = 2
        while covered > self._most // 2 * self.span * factor:
            factor *= 2
        old, self._changes = self._changes, {}
        for key, (by_much, weighted) in old.items():
            left = (factor - 1 - key % factor) * self.span  # left in the longer span when the shorter one ends
            sums = self._changes.setdefault(key // factor, ([0] * self._numbers, [0] * self._numbers))
            for n, by in enumerate(by_much):
                sums[0][n] += by
                sums[1][n] += weighted[n] + by * left
        self.span *= factor
