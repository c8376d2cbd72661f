"""The segments of shared memory: which ones there are, what needs them, and which one is taken next. Without I/O.

A segment is *held* by everything that needs its contents: a pickled call, a worker that it was sent to, a result in
use. When the last holder has dropped it, it is *kept*, to be taken again: memory that was written before is many times
faster than new memory. One that is *spoilt* is not taken again, since a process that does not report it may still read
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PAGE_BYTES = 1 << 12
"""Sizes are multiples of it."""

MOST_WASTE = 4
"""A kept segment that is larger than needed by more than this factor is taken only if there may be no new one."""


class GivenUp(NamedTuple):
    """A segment that no longer exists."""

    number: int
    is_spoilt: bool


class Taken(NamedTuple):
    """A segment that was taken; its taker holds it."""

    number: int
    size: int
    is_new: bool
    """Whether it must be created."""
    given_up: list[GivenUp]
    """Kept segments that are given up for it."""


@dataclass(slots=True)
class _Segment:
    size: int
    holders: int = 1
    is_spoilt: bool = False


class SegmentTable:
    """See the module's docstring.

    Args:
        limit: How many bytes all segments have together, at most.
        most_kept: How many bytes the kept ones have, at most.
        most: How many segments there are at most; each takes a file descriptor or two.

    Attributes:
        used: How many bytes all segments have.
        kept: How many of these are of kept ones.
    """

    def __init__(self, limit: int, most_kept: int, most: int) -> None:
        self.used: int = 0
        self.kept: int = 0
        self._limit = limit
        self._most_kept = most_kept
        self._most = most
        self._segments: dict[int, _Segment] = {}
        self._free: dict[int, None] = {}  # the kept ones, the last one dropped at the end
        self._last = 0

    def take(self, size: int) -> Taken | None:
        """Take a segment of at least this size; None if there is none, and there may be no new one."""
        size = max(1, -(-size // PAGE_BYTES)) * PAGE_BYTES
        fitting = [number for number in self._free if self._segments[number].size >= size]
        best = min(fitting, key=lambda number: self._segments[number].size, default=None)
        if best is None or self._segments[best].size > MOST_WASTE * size:
            given_up = self._room_for(size, may_give_up=best is None)
            if given_up is not None:
                self._last += 1
                self._segments[self._last] = _Segment(size)
                self.used += size
                return Taken(self._last, size, is_new=True, given_up=given_up)
        if best is None:
            return None
        segment = self._segments[best]
        segment.holders = 1
        del self._free[best]
        self.kept -= segment.size
        return Taken(best, segment.size, is_new=False, given_up=[])

    def _room_for(self, size: int, *, may_give_up: bool) -> list[GivenUp] | None:
        """The kept segments that were given up to make room for a new one; None if that is not enough."""
        kept, n_kept = (self.kept, len(self._free)) if may_give_up else (0, 0)
        if self.used - kept + size > self._limit or len(self._segments) - n_kept >= self._most:
            return None
        given_up: list[GivenUp] = []
        while self.used + size > self._limit or len(self._segments) >= self._most:
            given_up.append(self._give_up_oldest())
        return given_up

    def hold(self, number: int) -> None:
        """Note one more holder of a segment that is already held."""
        assert self._segments[number].holders, f"nobody holds segment {number}"
        self._segments[number].holders += 1

    def drop(self, number: int, *, is_spoilt: bool = False) -> list[GivenUp]:
        """Note that one holder no longer needs a segment.

        Returns:
            The segments that are given up.
        """
        segment = self._segments[number]
        assert segment.holders, f"nobody holds segment {number}"
        segment.holders -= 1
        segment.is_spoilt = segment.is_spoilt or is_spoilt
        if segment.holders:
            return []
        if segment.is_spoilt:
            self._remove(number)
            return [GivenUp(number, is_spoilt=True)]
        self._free[number] = None
        self.kept += segment.size
        given_up: list[GivenUp] = []
        while self.kept > self._most_kept:
            given_up.append(self._give_up_oldest())
        return given_up

    def spoil(self, number: int) -> None:
        """Note that a segment that is held must not be taken again."""
        self._segments[number].is_spoilt = True

    def _give_up_oldest(self) -> GivenUp:
        number = next(iter(self._free))
        del self._free[number]
        self.kept -= self._segments[number].size
        self._remove(number)
        return GivenUp(number, is_spoilt=False)

    def _remove(self, number: int) -> None:
        self.used -= self._segments.pop(number).size
