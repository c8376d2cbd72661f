"""What a journal has recorded, as a run takes it: inputs in one row, what callbacks did in another."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk.journal.format import Record
from amltk.journal.kinds import Kind
from amltk.journal.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.journal.folder import Folder

_BY = b'"by":'
"""In the heads of records of what callbacks did."""

_INPUTS = frozenset({Kind.RESULT, Kind.LOST, Kind.TIMER, Kind.STEP, Kind.REQUEST})
"""Records of these kinds are of inputs."""

_EITHER = frozenset({Kind.SUBMISSION, Kind.NOTE, Kind.CANCELLED, Kind.EXCEPTION, Kind.STOP})
"""Records of these kinds are of inputs, or of what a callback did, or what followed from it: these have a `by`."""

Void = list[tuple[int, int]]
"""Ranges of numbers of records, first and last ones included."""


class RecordedInput(NamedTuple):
    """A recorded input.

    Attributes:
        record: Its record.
        alive: For how many seconds programs had used the journal when it was told.
    """

    record: Record
    alive: float


class Overview:
    """What has to be known of a journal before its first record is told.

    Attributes:
        records: How many records it has.
        submissions: How many calls callbacks have submitted, attempts counted one by one.
        alive: For how many seconds programs have used it.
        began: The time of the first session.
        latest: The time of the last record.
        seed: The seed of the experiment; None if it has none yet.
        finished: Whether its run has ended, and nothing came after that.
        void: Numbers of records that are left out.
        noticed: For inputs during which a callback noticed that the time was up: at which question, and for how many
            seconds programs had used the journal by then.
    """

    def __init__(self, folder: Folder) -> None:
        self.records = 0
        self.alive = self.latest = self.began = 0.0
        self.seed: int | None = None
        self.finished = False
        self.void: set[int] = set()
        self.noticed: dict[int, tuple[int, float]] = {}
        self._submissions: list[int] = []
        for frame in Reader(folder).frames():
            self._note(frame)
        self.submissions = len(self._submissions) - sum(number in self.void for number in self._submissions)
        del self._submissions

    def _note(self, frame: Any) -> None:
        number, kind, _, time, _, _, _, buffer, head, behind, _ = frame
        self.records = number + 1
        if kind == Kind.SESSION:
            said = Record(*frame).head
            self.seed = said.get("seed", self.seed)
            self.began = self.began or time
            for first, last in said.get("void", ()):
                self.void.update(range(first, last + 1))
        elif number:
            self.alive += max(0.0, time - self.latest)
        self.latest = time
        self.finished = kind == Kind.FINISH
        if kind == Kind.SUBMISSION:
            if buffer.find(_BY, head, behind) >= 0:
                self._submissions.append(number)
        elif kind == Kind.STOP and "check" in (said := Record(*frame).head):
            self.noticed[said["by"]] = said["check"], said["alive"]


class Playback:
    """Reads the inputs of earlier sessions, and what callbacks did, each in its order.

    A record of what a callback did is behind that of the input, but there may be other inputs between the two: those
    that came in together with it. They are read ahead, and kept.

    Args:
        folder: The journal.

    Attributes:
        overview: What has to be known before.
        submissions_left: How many recorded submissions have not been taken.
        again: How often calls were computed once more, by their numbers.
    """

    def __init__(self, folder: Folder) -> None:
        self.overview: Overview = Overview(folder)
        self.submissions_left: int = self.overview.submissions
        self._reader = Reader(folder)
        self._records: Iterator[Record] = self._reader.records()
        self._inputs: deque[RecordedInput] = deque()
        self._done: deque[Record] = deque()
        self._alive = self._latest = 0.0
        self._void = self.overview.void
        self.again: dict[int, int] = {}

    def value(self, record: Record) -> bytes | None:
        """The value of a record."""
        return self._reader.value(record)

    def next_input(self) -> RecordedInput | None:
        """Take the next input; None if there is no more."""
        while not self._inputs:
            if not self._read():
                return None
        return self._inputs.popleft()

    def put_back(self, told: RecordedInput) -> None:
        """Undo `next_input`."""
        self._inputs.appendleft(told)

    def peek_done(self) -> Record | None:
        """The next record of what a callback did; None if there is no more."""
        while not self._done:
            if not self._read():
                return None
        return self._done[0]

    def take_done(self) -> Record:
        """Take the record that `peek_done` has returned."""
        record = self._done.popleft()
        self.submissions_left -= record.kind == Kind.SUBMISSION
        return record

    def rest(self) -> tuple[list[Record], Void]:
        """Take all that is left, in its order; and the numbers of it."""
        while self._read():
            pass
        records = sorted([*(told.record for told in self._inputs), *self._done], key=lambda record: record.number)
        self._inputs.clear()
        self._done.clear()
        self.submissions_left = 0
        return records, ranges([record.number for record in records])

    def _read(self) -> bool:
        """Read one record. False if there is no more."""
        record = next(self._records, None)
        if record is None or record.number >= self.overview.records:
            self._records = iter(())
            return False
        if record.kind != Kind.SESSION:
            self._alive += max(0.0, record.time - self._latest) if record.number else 0.0
        self._latest = record.time
        if record.number in self._void:
            return True
        if record.kind in _INPUTS:
            self._inputs.append(RecordedInput(record, self._alive))
        elif record.kind in _EITHER:
            if "by" in record.head:
                self._done.append(record)
            elif record.kind != Kind.SUBMISSION:
                self._inputs.append(RecordedInput(record, self._alive))
            elif record.call is not None:
                self.again[record.call] = self.again.get(record.call, 0) + 1
        return True


def ranges(numbers: list[int]) -> Void:
    """Sorted numbers as ranges."""
    found: Void = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
