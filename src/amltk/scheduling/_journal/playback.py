"""What a journal has recorded, as a run takes it: inputs in one row, what callbacks did in another."""

from __future__ import annotations

import math
from array import array
from collections import deque
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from amltk.journal.format import NO_CALL, START, Place, Record, position_after
from amltk.journal.kinds import Kind
from amltk.journal.reader import checked_batches
from amltk.journal.values import read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from amltk.journal.folder import Folder
    from amltk.journal.format import Frame, Position

_BY = b'"by":'
"""Is in the heads of records of what callbacks did, and in no others: within a text, its quotes would be escaped."""

_INPUTS = frozenset(
    map(
        int,
        (Kind.RESULT, Kind.LOST, Kind.TIMER, Kind.STEP, Kind.REQUEST, Kind.MESSAGE, Kind.WAKEUP),
    )
)
"""Records of these kinds are of inputs."""

_EITHER = frozenset(map(int, (Kind.SUBMISSION, Kind.NOTE, Kind.CANCELLED, Kind.EXCEPTION, Kind.STOP, Kind.REFUSAL)))
"""Records of these kinds are of inputs, or of what a callback did, or what followed from it: these have a `by`."""

# Members are slow to reach.
_SESSION, _SUBMISSION, _STOP, _WORKER = map(int, (Kind.SESSION, Kind.SUBMISSION, Kind.STOP, Kind.WORKER))
_INLINE = int(Place.INLINE)

Void = list[tuple[int, int]]
"""Ranges of numbers of records, first and last ones included."""


class RecordedInput(NamedTuple):
    """A recorded input.

    Attributes:
        frame: Its record, as bytes.
        alive: For how many seconds programs had used the journal when it was handled.
    """

    frame: Frame
    alive: float

    @property
    def record(self) -> Record:
        """Its record, which is created each time."""
        return Record(*self.frame)


_input: Callable[[tuple[Frame, float]], RecordedInput] = partial(tuple.__new__, RecordedInput)  # in half the time


class Overview:
    """What must be known about a journal before its first record is replayed.

    Attributes:
        end: The position after its last record.
        submissions: How many calls callbacks have submitted, attempts counted one by one.
        alive: For how many seconds programs have used it.
        began: The time of the first session.
        latest: The time of the last record.
        seed: The seed of the experiment; None if it has none yet.
        finished: Whether its run has ended, and nothing came after that.
        void: Numbers of records that are left out.
        forgets_from: The number of the first failure that `amltk retry` has left out since the last session: from there
            on, the program may do something other than what is recorded. Infinite if there is none.
        noticed: For inputs during which a callback noticed that the time was up: at which question, and how many
            seconds had counted by then.
    """

    def __init__(self) -> None:
        self.end: Position = START
        self.submissions = 0
        self.alive = self.latest = self.began = 0.0
        self.seed: int | None = None
        self.finished = False
        self.void: set[int] = set()
        self.forgets_from: float = math.inf
        self.noticed: dict[int, tuple[int, float]] = {}
        self._waits: list[tuple[int, float]] = []  # numbers of records, and how long workers were awaited until then
        self._waits_since: float | None = None  # at which `alive` a session began that awaits its first worker

    @property
    def waited(self) -> float:
        """For how many seconds sessions awaited their first workers, where the time counts from these on."""
        return self._waits[-1][1] if self._waits else 0.0

    def counted(self, number: int, alive: float) -> float:
        """How many seconds had counted at a record, when programs had used the journal for `alive` seconds."""
        return alive - max((waited for first, waited in self._waits if first <= number), default=0.0)

    def survey(self, batches: Iterator[list[Frame]]) -> None:
        """Go through all records. It looks as it does since it is about millions of them."""
        alive = 0.0
        latest = math.inf  # before the first record, from which on time counts
        submissions = array("Q")
        frame: Frame | None = None
        for batch in batches:
            for frame in batch:
                kind, time = frame[1], frame[3]
                if kind == _SESSION:
                    self._note_session(Record(*frame), alive)
                elif time > latest:
                    alive += time - latest
                latest = time
                if kind == _SUBMISSION:
                    if frame[5].find(_BY, frame[6], frame[7]) >= 0:
                        submissions.append(frame[0])
                elif kind == _STOP and "check" in (said := Record(*frame).head):
                    self.noticed[said["by"]] = said["check"], said["alive"]
                elif kind == _WORKER:
                    self._end_wait(frame[0], alive)
        if frame is not None:
            self._end_wait(frame[0] + 1, alive)
            self.end, self.finished = position_after(frame), frame[1] == Kind.FINISH
            self.latest = latest
        self.alive = alive
        self.submissions = len(submissions) - (sum(map(self.void.__contains__, submissions)) if self.void else 0)

    def _end_wait(self, number: int, alive: float) -> None:
        """Note that the wait for a first worker, if any, is over at this record."""
        if self._waits_since is not None:
            self._waits.append((number, self.waited + alive - self._waits_since))
            self._waits_since = None

    def _note_session(self, record: Record, alive: float) -> None:
        said = record.head
        self._end_wait(record.number, alive)
        if said.get("awaits_worker"):
            self._waits_since = alive
        self.seed = said.get("seed", self.seed)
        self.began = self.began or record.time
        void = said.get("void", ())
        for first, last in void:
            self.void.update(range(first, last + 1))
        is_retry = bool(said.get("retried"))
        self.forgets_from = min(self.forgets_from, *(first for first, _ in void)) if is_retry else math.inf


class Playback:
    """Reads the inputs of earlier sessions, and what callbacks did, each in its order.

    A record of what a callback did is behind that of the input, but there may be other inputs between the two: those
    that came in together with it. So records are read ahead, some hundred at once, and kept.

    Args:
        folder: The journal.
        overview: What has to be known before.

    Attributes:
        overview: As given.
        submissions_left: How many recorded submissions have not been taken.
        again: For calls that were computed once more, by their numbers: the numbers of the records that say so.
    """

    def __init__(self, folder: Folder, overview: Overview) -> None:
        self.overview: Overview = overview
        self.submissions_left: int = overview.submissions
        self._folder = folder
        self._inputs: deque[RecordedInput] = deque()
        self._done: deque[Frame] = deque()
        self.again: dict[int, list[int]] = {}
        self._pieces = self._reading(folder)

    def value(self, record: Record) -> bytes | None:
        """The value of a record."""
        return read_value(self._folder, record)

    def value_of(self, told: RecordedInput) -> bytes | None:
        """The value of the record of an input."""
        frame = told[0]
        return frame[5][frame[7] : frame[8]] if frame[4] == _INLINE else self.value(told.record)

    def next_input(self) -> RecordedInput | None:
        """Take the next input; None if there is no more."""
        inputs = self._inputs
        while not inputs:
            if not next(self._pieces, False):
                return None
        return inputs.popleft()

    def take_again(self, call: int, number: float = math.inf) -> int:
        """Take how often a call had been computed once more up to the record of this number; by default, up to the end.

        Each time counts once.
        """
        numbers = self.again.pop(call, ())
        later = [other for other in numbers if other > number]
        if later:
            self.again[call] = later
        return len(numbers) - len(later)

    def put_back(self, told: RecordedInput) -> None:
        """Undo `next_input`."""
        self._inputs.appendleft(told)

    def peek_done(self) -> Record | None:
        """The next record of what a callback did; None if there is no more."""
        while not self._done:
            if not self._read():
                return None
        return Record(*self._done[0])

    def take_done(self) -> Record:
        """Take the record that `peek_done` has returned."""
        record = Record(*self._done.popleft())
        self.submissions_left -= record.kind == _SUBMISSION
        return record

    def take_submission(self, number: int, begin: bytes, value: bytes) -> bool:
        """Take the next record of what a callback did if it is that of this submission, byte for byte.

        Args:
            number: The number of the call.
            begin: The bytes with which the head of its record begins.
            value: The value of its record.

        Returns:
            Whether it was taken; if not, the submissions may still be equal.
        """
        done = self._done
        while not done:
            if not self.submissions_left or not next(self._pieces, False):
                return False
        frame = done[0]
        buffer = frame[5]
        if (
            frame[2] == number
            and frame[1] == _SUBMISSION
            and buffer.startswith(begin, frame[6])
            and buffer[frame[7] : frame[8]] == value
        ):
            done.popleft()
            self.submissions_left -= 1
            return True
        return False

    def close(self) -> None:
        """Read nothing more. An error that ends the run may keep this object alive."""
        self._pieces.close()

    def rest(self) -> tuple[list[Record], Void]:
        """Take all that is left, in its order; and the numbers of it."""
        while self._read():
            pass
        frames = sorted([*(told.frame for told in self._inputs), *self._done], key=itemgetter(0))
        records = [Record(*frame) for frame in frames]
        self._inputs.clear()
        self._done.clear()
        self.submissions_left = 0
        return records, ranges([record.number for record in records])

    def _read(self) -> bool:
        """Read some more. False if there is no more."""
        return next(self._pieces, False)

    def _reading(self, folder: Folder) -> Generator[bool]:
        """Read some hundred records in each step. Written for speed, since there may be millions of them."""
        note_input, note_done, void, again = self._inputs.append, self._done.append, self.overview.void, self.again
        alive, latest = 0.0, math.inf  # as in the overview
        for batch in checked_batches(folder, self.overview.end):
            for frame in batch:
                kind, time = frame[1], frame[3]
                if time > latest and kind != _SESSION:
                    alive += time - latest
                latest = time
                if void and frame[0] in void:
                    pass
                elif kind in _INPUTS:
                    note_input(_input((frame, alive)))
                elif kind in _EITHER:
                    if frame[5].find(_BY, frame[6], frame[7]) >= 0:
                        note_done(frame)
                    elif kind != _SUBMISSION:
                        note_input(_input((frame, alive)))
                    elif (call := frame[2]) != NO_CALL:
                        again.setdefault(call, []).append(frame[0])
            yield True


def ranges(numbers: list[int]) -> Void:
    """Sorted numbers as ranges."""
    found: Void = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
