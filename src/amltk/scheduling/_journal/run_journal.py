"""The open journal of one run: what it has recorded, and what is added."""

from __future__ import annotations

import logging
import os
import platform
import random
import sys
from typing import TYPE_CHECKING, Any

from amltk import _clock
from amltk._labels import call_label, value_in_short
from amltk._shield import shielded
from amltk.exceptions import JournalMismatchError
from amltk.journal.kinds import Finish, Kind
from amltk.journal.writer import Writer
from amltk.scheduling._journal.playback import Overview, Playback, ranges
from amltk.scheduling._journal.recorded_results import RecordedResults
from amltk.scheduling._journal.values import are_same, load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    from amltk.journal.format import Record
    from amltk.scheduling._journal.action import Action
    from amltk.scheduling._journal.options import Journal
    from amltk.scheduling._journal.playback import RecordedInput

_log = logging.getLogger(__name__)

SEED_BITS = 64

_SUBMISSION, _STOP = map(int, (Kind.SUBMISSION, Kind.STOP))  # members are slow to reach

REASONS = (
    "Nothing was computed, and the journal is unchanged. Usual reasons: a random generator without a seed (take"
    " scheduler.random), the order of a set, a file that has changed, the clock (take scheduler.now()), another number"
    " of workers for a map without in_flight, or a change of the program. Undo it, or begin a new folder;"
    ' Journal(folder, on_mismatch="branch") keeps what precedes the difference and goes on from there'
)


class Numbers:
    """Numbers for submissions.

    Attributes:
        following: The next one.
    """

    __slots__ = ("following",)

    def __init__(self) -> None:
        self.following: int = 0

    def __iter__(self) -> Numbers:
        return self

    def __next__(self) -> int:
        number = self.following
        self.following += 1
        return number


class RunJournal:
    """What one run reads from its journal and writes to it. On the thread of the run's loop.

    It begins with what earlier sessions have recorded, if there is anything: then it is *replaying*, and nothing is
    written. From `go_live` on, what happens is recorded, until `suspend`.

    Owns the files of the journal until `close`.

    Args:
        options: The user's options.

    Raises:
        JournalError: The journal cannot be opened; see its subclasses.

    Attributes:
        replaying: Whether recorded inputs are being told.
        recording: Whether anything that happens now belongs to the journal.
        current: The number of the record of the input that is being told; 0 before the first one.
        now: When it was told for the first time, in seconds since the epoch.
        numbers: The numbers for submissions.
        random: A generator with the seed of the journal.
        recorded_results: Recorded results that the program may still ask for, after a branch.
        at_end: Whether everything of a finished journal was told.
    """

    def __init__(self, options: Journal) -> None:
        self._options = options
        overview = Overview()
        self._writer = Writer(options.folder, sync=options.sync, survey=overview.survey)
        self.playback: Playback = Playback(self._writer.folder, overview)
        self.replaying: bool = overview.records > 1
        self.recording: bool = True
        self.current: int = 0
        self.now: float = _clock.now()
        self.numbers: Numbers = Numbers()
        self._seed = random.SystemRandom().getrandbits(SEED_BITS) if overview.seed is None else overview.seed
        self.random: random.Random = random.Random(self._seed)
        self.recorded_results: RecordedResults = RecordedResults()
        self.at_end: bool = False
        self._void: list[int] = []
        self._void_ranges: list[tuple[int, int]] = []
        self._late: list[tuple[Action, int]] = []  # done during the replay, and not recorded
        self._alive = 0.0  # at the input that is being replayed
        self._live_since = 0.0
        self._began_at = 0.0  # when this session began to record, in seconds since the epoch
        self._loop_starts_at = 0.0  # in seconds since the epoch
        self._clock: Callable[[], float] = float  # of the loop

    def __str__(self) -> str:
        return str(self._writer.folder)

    @property
    def suspend_before(self) -> float | None:
        """As in `Journal`."""
        return self._options.suspend_before

    # ------------------------------------------------------------------ time

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the time from this loop, which begins a session of a new journal."""
        self._clock = loop.time
        self._loop_starts_at = max(_clock.now(), self.playback.overview.latest) - loop.time()
        if self.replaying:
            self.now = self.playback.overview.began
        else:
            self.go_live()
            self.now = self._began_at

    def time(self) -> float:
        """Now, in seconds since the epoch, on the clock of the loop."""
        return self._loop_starts_at + self._clock()

    @property
    def alive(self) -> float:
        """For how many seconds programs have used the journal; in a replay, up to the input that is being told."""
        return self._alive if self.replaying else self.playback.overview.alive + self._clock() - self._live_since

    @property
    def has_more(self) -> bool:
        """Whether recorded inputs are still to be told."""
        return self.replaying and not self.at_end

    # ------------------------------------------------------------------ inputs

    def tell(self, number: int, at: float, call: Callable[..., object], *args: Any) -> None:
        """Make the call that tells the input of record `number`."""
        self.current, self.now = number, at
        call(*args)

    def tell_again(self, record: Record, alive: float, call: Callable[..., object], *args: Any) -> None:
        """The same for a recorded input."""
        self._alive = alive
        self.tell(record.number, record.time, call, *args)

    def add_input(
        self, kind: Kind, head: Mapping[str, Any], value: bytes | None = None, *, call: int | None = None, at: float
    ) -> int:
        """Record an input, from `flush` on. Returns the number of its record."""
        return self._writer.add(kind, head, value, call=call, at=at)

    @shielded
    def flush(self) -> None:
        """Write what was added.

        Raises:
            JournalWriteError: The disk is full, or something else is wrong with it.
        """
        self._writer.flush()

    @property
    def n_records(self) -> int:
        """How many records the journal has."""
        return self._writer.number

    def note_alive(self) -> None:
        """Record that the program is alive. Raises as `flush` does."""
        self._writer.add(Kind.ALIVE, {}, at=self.time())
        self.flush()

    # ------------------------------------------------------------------ what callbacks do

    @shielded
    def add(self, action: Action) -> None:
        """Record what a callback does; in a replay, once that is over."""
        if self.replaying:
            self._late.append((action, self.current))
        else:
            self._write(action, self.current)

    def _write(self, action: Action, by: int) -> None:
        head = {**action.head, "by": by}
        if action.kind == _SUBMISSION:
            head["arguments"] = arguments_of(action)
        self._writer.add(action.kind, head, action.value, call=action.call, at=self.time())

    @shielded
    def recorded(self, action: Action) -> Record | None:
        """The record of what a callback does; None if there is none.

        Raises:
            JournalMismatchError: Something else is recorded.
        """
        if not self.replaying:
            return None
        playback = self.playback
        while True:
            if not playback.submissions_left and action.kind == _SUBMISSION:
                return None  # the program goes further, or the last records were lost
            record = playback.peek_done()
            if record is None:
                return None
            if record.kind == _STOP and action.kind != _STOP and record.head["by"] <= self.current:
                self._void.append(playback.take_done().number)  # it goes further
                continue
            if not self._is_same(record, action):
                self._differ(description(record), action.label(), max(record.head["by"], self.current))
                return None
            return playback.take_done()

    def _is_same(self, record: Record, action: Action) -> bool:
        if record.kind != action.kind or record.head["by"] != self.current or record.call != action.call:
            return False
        said, head = record.head, action.head
        if said.get("task") != head.get("task"):
            return False
        if record.kind != _SUBMISSION:
            return bool(said.get("code") == head.get("code"))
        value = self.playback.value(record)
        return value == action.value or (
            value is not None
            and are_same(load(value, lambda: f"what was submitted as call {record.call}"), action.given)
        )

    def check_all_done(self) -> None:
        """Check that callbacks have done everything that is recorded.

        Raises:
            JournalMismatchError: They have not.
        """
        while (record := self.playback.peek_done()) is not None:
            if record.kind != Kind.STOP:
                self._differ(description(record), "nothing of the kind", max(record.head["by"], self.current))
                return
            self._void.append(self.playback.take_done().number)

    def _differ(self, recorded: str, given: str, at: int, told: RecordedInput | None = None) -> None:
        """Go on from here without what is recorded, or raise.

        Args:
            recorded: What is recorded.
            given: What is done instead.
            at: The number of the input that is answered.
            told: An input that cannot be told.
        """
        branches = self._options.on_mismatch == "branch"
        if not branches and self.is_behind_forgotten(at):
            branches = True
            _log.warning(
                "the journal %s: without the failures that were forgotten, the program does something else. Recorded: "
                "%s. Now: %s. It goes on from here; recorded results of equal calls are used",
                self,
                recorded,
                given,
            )
        if branches:
            if told is not None:
                self.playback.put_back(told)
            records, numbers = self.playback.rest()
            self.recorded_results.add(records, self.playback.value)
            self._void_ranges += numbers
            return
        raise JournalMismatchError(
            f"the program does something else than what the journal {self} has recorded. Recorded: {recorded}."
            f" Now: {given}. {REASONS}",
            recorded=recorded,
            given=given,
        )

    @property
    def goes_further(self) -> bool:
        """Whether something recorded was left out in this session."""
        return bool(self._void or self._void_ranges)

    def differ_in_input(self, told: RecordedInput, recorded: str, given: str) -> None:
        """Leave an input out that cannot be told, or raise.

        Raises:
            JournalMismatchError: Unless the program may go on from here.
        """
        self._differ(recorded, given, told.record.number, told)

    def is_behind_forgotten(self, number: int) -> bool:
        """Whether a record is behind a failure that was forgotten, so that the program may do something else there."""
        return number >= self.playback.overview.forgets_from

    def leave_out(self, record: Record) -> None:
        """Leave a record out, from now on and in later sessions: the program goes further."""
        self._void.append(record.number)

    # ------------------------------------------------------------------ sessions

    def is_finished(self) -> bool:
        """Whether everything recorded was told, and a finished run has nothing to add."""
        return self.playback.overview.finished and not self._late and not self.goes_further

    def go_live(self) -> None:
        """Begin to record: a session begins. Called when everything recorded was told, or when there is nothing."""
        if self.replaying:
            self.check_all_done()
        self.replaying = False
        self._live_since = self._clock()
        self._began_at = at = self.time()
        void = sorted([*self._void_ranges, *ranges(sorted(self._void))])
        session: dict[str, Any] = {
            "program": sys.argv,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "python": platform.python_version(),
        }
        if self.playback.overview.seed is None:
            session["seed"] = self._seed
        if void:
            session["void"] = void
        self._writer.add(Kind.SESSION, session, at=at)
        for action, by in self._late:
            self._write(action, by)
        self._late = []
        self.flush()

    def begin_again(self, action: Action, begun: int) -> None:
        """Record that a call that was begun so many times in earlier sessions is computed once more."""
        head = {**action.head, "arguments": arguments_of(action), "attempt": begun}
        self._writer.add(action.kind, head, action.value, call=action.call, at=self.time())

    def suspend(self, reason: str) -> None:
        """Record nothing more: what happens from now on is caused by the end of the session."""
        if self.recording and not self.replaying:
            self._writer.add(Kind.SUSPEND, {"reason": reason}, at=self.time())
        self.recording = self.replaying = False

    def finish(self, code: str, reason: str) -> None:
        """Record the end of the run, unless it was suspended, or is recorded already.

        Raises:
            JournalWriteError: It cannot be written.
        """
        if self.recording and not self.replaying:
            self._writer.add(Kind.FINISH, Finish(code=code, reason=reason), at=self.time())
            self.flush()
        self.recording = False

    def close(self) -> None:
        """Release the journal.

        Raises:
            JournalWriteError: Something could not be written.
        """
        self._writer.close()


def arguments_of(action: Action) -> str:
    """The arguments of a submission, in short."""
    args, kwargs = action.given
    if not kwargs and len(args) == 1 and type(args[0]) in {int, float}:  # takes a tenth of the time
        return f"({value_in_short(args[0])})"
    return call_label("", args, kwargs)


def description(record: Record) -> str:
    """What a record of what a callback did says, for people."""
    head = record.head
    if record.kind == Kind.SUBMISSION:
        return f"call {record.call} is {head.get('task')}{head.get('arguments')}"
    if record.kind == Kind.CANCELLED:
        return f"call {record.call} is cancelled"
    if record.kind == Kind.EXCEPTION:
        return f"call {record.call} is not computed"
    if record.kind == Kind.NOTE:
        return f"once({head.get('task')}) is called"
    return f"the run is asked to end ({head.get('code')})"
