"""How an experiment stands, at a glance: also of millions of calls, so that hardly any head is decoded."""

from __future__ import annotations

import math
import os
import re
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from amltk.journal.format import Record, record_with_head
from amltk.journal.history.call import FAILED, PENDING, STATES, Call, can_end
from amltk.journal.kinds import Kind
from amltk.journal.left_out import LeftOut
from amltk.journal.lock import owner_of
from amltk.journal.reader import Reader, open_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.journal.format import Frame
    from amltk.journal.owner import Owner

_STEP = 4096
"""By how many calls there is room for more than there are."""

SHOWN = 5
"""How many calls of each sort are listed."""

_STATES = {**STATES, Kind.SUBMISSION: PENDING}

_SUBMISSION, _RESULT = map(int, (Kind.SUBMISSION, Kind.RESULT))  # members are slow to reach
_ENDS = frozenset(map(int, STATES))

_NUMBER = b'"number":'
"""In the head of a result, undecoded. Within a text of JSON the second quote would have a backslash before it."""

_DIGITS = re.compile(rb"-?[0-9][^,}]*")


def _number_in(text: bytes) -> float:
    """The number that a text begins with; NaN if there is none."""
    found = _DIGITS.match(text)
    return math.nan if found is None else float(found[0])


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
    """What is known after some frames: where the records are that a summary needs.

    Args:
        left_out: The records that do not count.
    """

    def __init__(self, left_out: LeftOut) -> None:
        self.summary = Summary()
        self.is_behind = False
        """Whether records have been taken that do not count."""
        self._left_out = left_out
        self.states = bytearray()
        """Of each call, by its number, the kind of its latest record of those that submit or end it."""
        self.submitted = array("Q")
        """Where the head of each call's latest submission is, by the number of the call; 0 if there is none."""
        self.last: deque[Frame] = deque(maxlen=SHOWN)
        self.low: Frame | None = None
        self.high: Frame | None = None
        self.lowest, self.highest = math.inf, -math.inf

    def take(self, reader: Reader) -> None:
        """Go through all frames."""
        left_out = self._left_out
        for batch in reader.batches():
            self._take([frame for frame in batch if frame[0] not in left_out] if left_out else batch)
            self.summary.latest = batch[-1][3]

    def _take(self, batch: list[Frame]) -> None:
        """Take some frames. It looks as it does since it is about millions of them."""
        states, submitted, note_last = self.states, self.submitted, self.last.append
        texts: list[bytes] = []  # the numbers that calls have returned
        returned: list[Frame] = []  # the records of these results
        room, skip = len(states), len(_NUMBER)
        for frame in batch:
            number, kind, call, _, _, buffer, head, behind, _, base = frame
            if call >= room:
                if call > number:  # none, since calls are counted from 0
                    self._note(frame)
                    continue
                room = self._make_room(call)
            if kind == _SUBMISSION:
                states[call] = kind
                submitted[call] = base + head
            elif kind in _ENDS and (
                (state := states[call]) == _SUBMISSION or can_end(_STATES.get(state, PENDING), kind)
            ):
                states[call] = kind
                note_last(frame)
                if kind != _RESULT:
                    self._note_error(frame)
                elif (at := buffer.rfind(_NUMBER, head, behind)) >= 0:
                    texts.append(buffer[at + skip : behind - 1])  # usually the last field, before the bracket
                    returned.append(frame)
        if texts:
            self._rank(texts, returned)

    def _make_room(self, call: int) -> int:
        """Make room for a call of this number; returns the new capacity."""
        room = call + _STEP
        self.states.extend(bytes(room - len(self.states)))
        self.submitted.frombytes(bytes((room - len(self.submitted)) * self.submitted.itemsize))
        return room

    def _note_error(self, frame: Frame) -> None:
        """Note why a call has failed; it may also have been cancelled."""
        state = STATES[frame[1]]
        if state in FAILED:
            self.summary.errors[str(Record(*frame).head.get("type", state))] += 1

    def _rank(self, texts: list[bytes], frames: list[Frame]) -> None:
        """Note which calls returned the lowest and the highest of these numbers, if they are beyond earlier ones."""
        try:
            values = list(map(float, texts))  # all at once, which takes less time
        except ValueError:
            values = list(map(_number_in, texts))
        lowest, highest = min(values), max(values)
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            finite = [(value, frame) for value, frame in zip(values, frames, strict=True) if math.isfinite(value)]
            if not finite:
                return
            values, frames = [value for value, _ in finite], [frame for _, frame in finite]
            lowest, highest = min(values), max(values)
        if lowest < self.lowest:
            self.lowest, self.low = lowest, frames[values.index(lowest)]
        if highest > self.highest:
            self.highest, self.high = highest, frames[values.index(highest)]

    def _note(self, frame: Frame) -> None:
        """Follow the sessions."""
        summary, kind = self.summary, frame[1]
        self._left_out.note(frame[0])
        session = Record(*frame) if kind == Kind.SESSION else None
        if session is not None:
            self.is_behind = self._left_out.add(session) or self.is_behind
        if session is not None and (retried := session.head.get("retried")):
            summary.state, summary.finish = "retried", {}
            for call in retried:
                self.states[call] = int(Kind.SUBMISSION)
        elif kind == Kind.SESSION:
            summary.sessions += 1
            summary.began = summary.began or frame[3]
            summary.state, summary.finish = "interrupted", {}
        elif kind == Kind.SUSPEND:
            summary.state = "suspended"
        elif kind == Kind.FINISH:
            summary.state, summary.finish = "finished", Record(*frame).head

    def pending(self) -> Iterator[int]:
        """The numbers of the calls without an end, the oldest first."""
        call = -1
        while (call := self.states.find(Kind.SUBMISSION, call + 1)) >= 0:
            yield call


def summarize(reader: Reader) -> Summary:
    """Read all of a journal; see `History.summary`."""
    left_out = LeftOut()
    survey = _Survey(left_out)
    survey.take(reader)
    if survey.is_behind:  # once more, since all that does not count is known now
        reader, survey = Reader(reader.folder), _Survey(left_out)
        survey.take(reader)
    summary = survey.summary
    summary.torn = reader.torn
    for kind, state in _STATES.items():
        if n := survey.states.count(kind):
            summary.counts[state] += n
    summary.owner = owner_of(reader.folder.lock)
    if summary.owner is not None:
        summary.state = "running"
    _fetch(reader, survey)
    return summary


def _fetch(reader: Reader, survey: _Survey) -> None:
    """Read the few calls that are listed."""
    file = open_log(reader.folder, os.O_RDONLY)
    try:

        def told(number: int, end: Frame | None) -> Call:
            """The call of this number; `end` is the frame of its end, None if it has none."""
            begun = record_with_head(file, survey.submitted[number], reader.position.offset)
            of = Call(number) if begun is None or begun.call != number else Call.submitted_by(begun)
            if end is not None:
                of.end(Record(*end))
            return of

        summary, (low, high) = survey.summary, (survey.low, survey.high)
        summary.lowest = None if low is None else told(low[2], low)
        summary.highest = None if high is None else told(high[2], high)
        summary.pending = [told(number, None) for number in islice(survey.pending(), SHOWN)]
        summary.last = [told(frame[2], frame) for frame in survey.last]
    finally:
        os.close(file)
