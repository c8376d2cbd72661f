"""The numbers that calls return: the best one so far and how it developed, in a limited number of points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_POINTS = 1024
"""How many points of a series are kept at most, evenly spread over its calls."""

MOST_SERIES = 64
"""How many series are kept at most; numbers of further ones are left out."""


class Point(NamedTuple):
    """A number that a call has returned.

    Attributes:
        time: When its end was recorded, in seconds since the epoch.
        value: The number.
        call: The call.
    """

    time: float
    value: float
    call: int


class Best:
    """The best point so far, and those that were the best before.

    Args:
        is_better: Whether the first value is better than the second one.

    Attributes:
        steps: The points that were the best when they came, the latest at the end; with very many, not all of them.
    """

    def __init__(self, is_better: Callable[[float, float], bool]) -> None:
        self._is_better = is_better
        self.steps: list[Point] = []

    def take(self, point: Point) -> None:
        """Compare another point."""
        if not self.steps or self._is_better(point.value, self.steps[-1].value):
            if len(self.steps) == MOST_POINTS:
                self.steps = self.steps[:1] + self.steps[1::2]  # the last one stays, since the number is even
            self.steps.append(point)


class Series:
    """The numbers under one name.

    Attributes:
        count: How many there were.
        lowest: The lowest ones.
        highest: The highest ones.
        points: Some of the points, in their order.
        every: One point in this many is kept.
        last: The last point; None if there is none.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.lowest: Best = Best(float.__lt__)
        self.highest: Best = Best(float.__gt__)
        self.points: list[Point] = []
        self.every: int = 1
        self.last: Point | None = None

    def take(self, point: Point) -> None:
        """Add a point."""
        self.last = point
        self.lowest.take(point)
        self.highest.take(point)
        if self.count % self.every == 0:
            if len(self.points) == MOST_POINTS:
                del self.points[1::2]
                self.every *= 2
            if self.count % self.every == 0:
                self.points.append(point)
        self.count += 1


class AllSeries:
    """All series of an experiment, by the task and the key of the number, which is empty if that is the result itself.

    Attributes:
        by_name: The series.
    """

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], Series] = {}

    def take(self, task: str, key: str, point: Point) -> None:
        """Add a point, unless it is not finite or there are too many series."""
        if not math.isfinite(point.value):
            return
        series = self.by_name.get((task, key))
        if series is None:
            if len(self.by_name) >= MOST_SERIES:
                return
            series = self.by_name[task, key] = Series()
        series.take(point)
