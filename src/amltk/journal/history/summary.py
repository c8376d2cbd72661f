"""How an experiment stands, at a glance: also of millions of calls, so that hardly any head is decoded."""

from __future__ import annotations

import math
import os
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amltk.journal.format import Record, record_at
from amltk.journal.history.call import FAILED, PENDING, STATES, Call
from amltk.journal.kinds import Kind
from amltk.journal.lock import owner_of
from amltk.journal.reader import open_log

if TYPE_CHECKING:
    from amltk.journal.format import Frame
    from amltk.journal.owner import Owner
    from amltk.journal.reader import Reader

_STEP = 4096
"""By how many calls there is room for more than there are."""

SHOWN = 5
"""How many calls of each sort are told."""

_NUMBER = re.compile(rb'"number":(-?[0-9][^,}]*)')
"""In the head of a result, undecoded. Within a text of JSON the second quote would have a backslash before it."""


@dataclass(slots=True)
class Summary:
    """How an experiment stands.

    Attributes:
        state: "new", "running", "finished", "suspended", "retried": failed calls are computed again when the program is
            started, or "interrupted": its process has ended without a word.
        owner: The process that uses it; None if there is none. If it is on another machine, it may have ended.
        finish: What the record of the end says; empty if the experiment has not finished.
        sessions: How often a program was started for it.
        began: The time of the first session, in seconds since the epoch; None if there was none.
        latest: The time of the latest record; None if there is none.
        counts: How many calls are in each state.
        errors: How often calls failed with each type of exception, or with their worker, attempts before the last one
            included.
        lowest: The call that returned the lowest number; None if none returned one.
        highest: The call that returned the highest one.
        pending: Some calls that have not ended, the oldest first.
        last: The calls that ended last, the latest at the end.
        torn: The size, in bytes, of an incomplete record at the end.
    """

    state: str = "new"
    owner: Owner | None = None
    finish: dict[str, object] = field(default_factory=dict)
    sessions: int = 0
    began: float | None = None
    latest: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lowest: Call | None = None
    highest: Call | None = None
    pending: list[Call] = field(default_factory=list)
    last: list[Call] = field(default_factory=list)
    torn: int = 0


class _Survey:
    """What is known after some frames: where the records are that a summary tells."""

    def __init__(self) -> None:
        self.summary = Summary()
        self.pending: dict[int, int] = {}
        """Of each call without an end, where its submission is."""
        self.states = bytearray()
        """Of each call, by its number, the kind of its latest record of those that submit or end it."""
        self.failed: dict[int, int] = {}
        """Of each call that has failed at least once, where its submission is."""
        self.last: deque[tuple[int, int]] = deque(maxlen=SHOWN)
        self.low = self.high = (0, 0)
        self.lowest, self.highest = math.inf, -math.inf

    def take(self, reader: Reader) -> None:
        """Go through all frames. It looks as it does since it is about millions of them."""
        pending, states, number_in = self.pending, self.states, _NUMBER.search
        submission, result, ends = int(Kind.SUBMISSION), int(Kind.RESULT), frozenset(map(int, STATES))
        frame: Frame | None = None
        for frame in reader.frames():
            number, kind, call, _, _, offset, _, buffer, head, behind, _ = frame
            if call >= len(states):
                if call > number:  # none, since calls are counted from 0
                    self._note(frame)
                    continue
                states.extend(bytes(call - len(states) + _STEP))
            if kind == submission:
                pending[call] = offset
                states[call] = kind
            elif kind in ends:
                states[call] = kind
                where = pending.pop(call, 0), offset
                self.last.append(where)
                if kind == result:
                    found = number_in(buffer, head, behind)
                    if found is not None and not self.lowest <= (value := float(found[1])) <= self.highest:
                        self._rank(value, where)
                elif STATES[kind] in FAILED:
                    self.failed[call] = where[0]
                    self.summary.errors[str(Record(*frame).head.get("type", STATES[kind]))] += 1
        self.summary.latest = None if frame is None else frame[3]

    def _rank(self, value: float, where: tuple[int, int]) -> None:
        if value < self.lowest:
            self.lowest, self.low = value, where
        if value > self.highest:
            self.highest, self.high = value, where

    def _note(self, frame: Frame) -> None:
        """Follow the sessions."""
        summary, kind = self.summary, frame[1]
        if kind == Kind.SESSION and (retried := Record(*frame).head.get("retried")):
            summary.state, summary.finish = "retried", {}
            for call in retried:
                self.states[call] = int(Kind.SUBMISSION)
                self.pending[call] = self.failed.get(call, 0)
        elif kind == Kind.SESSION:
            summary.sessions += 1
            summary.began = summary.began or frame[3]
            summary.state, summary.finish = "interrupted", {}
        elif kind == Kind.SUSPEND:
            summary.state = "suspended"
        elif kind == Kind.FINISH:
            summary.state, summary.finish = "finished", Record(*frame).head


def summarize(reader: Reader) -> Summary:
    """Read all of a journal; see `History.summary`."""
    survey = _Survey()
    survey.take(reader)
    summary = survey.summary
    summary.torn = reader.torn
    states = {**STATES, Kind.SUBMISSION: PENDING}
    summary.counts.update({state: n for kind, state in states.items() if (n := survey.states.count(kind))})
    summary.owner = owner_of(reader.folder.lock)
    if summary.owner is not None:
        summary.state = "running"
    _fetch(reader, survey)
    return summary


def _fetch(reader: Reader, survey: _Survey) -> None:
    """Read the few calls that are told."""
    file = open_log(reader.folder, os.O_RDONLY)
    try:

        def call(submission: int, end: int) -> Call | None:
            """The call with these records; 0 for one that there is not."""
            begun, ended = (record_at(file, at, reader.position.offset) if at else None for at in (submission, end))
            told = Call(-1) if begun is None else Call.submitted_by(begun)
            if ended is not None:
                told.number = told.number if ended.call is None else ended.call
                told.end(ended)
            return None if begun is None and ended is None else told

        summary = survey.summary
        summary.lowest, summary.highest = call(*survey.low), call(*survey.high)
        oldest = [survey.pending[number] for number in sorted(survey.pending)[:SHOWN]]
        summary.pending = [told for at in oldest if (told := call(at, 0)) is not None]
        summary.last = [told for where in survey.last if (told := call(*where)) is not None]
    finally:
        os.close(file)
