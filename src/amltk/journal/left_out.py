"""Which records do not count for what is told of an experiment: a later program did something else from there on."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

from amltk.journal.kinds import Kind

if TYPE_CHECKING:
    from amltk.journal.format import Record


class LeftOut:
    """The records that sessions with `on_mismatch="branch"` have left out, or those after `amltk retry`.

    A session that went further has left records out as well: that the run had ended. They are about no call, and stay.
    """

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []  # their first and last numbers, in order
        self._sessions: set[int] = set()
        self._about_no_call = array("Q")  # the numbers of such records

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._ranges, (number, math.inf))
        return at > 0 and number <= self._ranges[at - 1][1]

    def take(self, record: Record) -> bool:
        """Take a record that is about no call. Returns the same as `add`."""
        self.note(record.number)
        return record.kind == Kind.SESSION and self.add(record)

    def note(self, number: int) -> None:
        """Take the number of a record that is about no call."""
        if not self._about_no_call or number > self._about_no_call[-1]:
            self._about_no_call.append(number)

    def add(self, session: Record) -> bool:
        """Take the record of a session. Returns whether records about calls are left out from now on.

        Then what was told before is to be told once more, without them. Call `note` for all records up to this one.
        """
        if session.number in self._sessions or session.head.get("retried"):
            return False
        self._sessions.add(session.number)
        found = [(first, last) for first, last in session.head.get("void", ()) if self._has_calls(first, last)]
        for first, last in found:
            insort(self._ranges, (first, last))
        return bool(found)

    def _has_calls(self, first: int, last: int) -> bool:
        others = bisect_right(self._about_no_call, last) - bisect_left(self._about_no_call, first)
        return others < last - first + 1
