"""Compares what callbacks do in a replay with what is recorded, and decides what a difference means."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from amltk._shield import shielded
from amltk.exceptions import JournalMismatchError
from amltk.journal.kinds import Kind
from amltk.scheduling._journal.equality import difference_of_arguments
from amltk.scheduling._journal.playback import ranges
from amltk.scheduling._journal.recorded_results import RecordedResults
from amltk.scheduling._journal.values import load

if TYPE_CHECKING:
    from amltk.journal.format import Record
    from amltk.scheduling._journal.action import Action
    from amltk.scheduling._journal.heads import SubmissionHeads
    from amltk.scheduling._journal.playback import Playback, RecordedInput

_log = logging.getLogger(__name__)

_SUBMISSION, _STOP = map(int, (Kind.SUBMISSION, Kind.STOP))  # members are slow to reach

REASONS = (
    "Nothing was computed, and the journal is unchanged. Usual reasons: a random generator without a seed (take"
    " scheduler.random), the order of a set, a file that has changed, the clock (take scheduler.now()), another number"
    " of workers for a map without in_flight, a scheduler that has run before, a plugin that was added, removed or"
    " changed, or another change of the program. Undo it, or begin a new folder;"
    ' Journal(folder, on_mismatch="branch") keeps what precedes the difference and goes on from there'
)


class Replay(Protocol):
    """The journal of a run; as text, the name of its folder.

    Attributes:
        replaying: Whether recorded inputs are being told.
        current: The number of the record of the input that is being told.
    """

    replaying: bool
    current: int


class Comparison:
    """See the module's docstring. Owns what is left out of the record from this session on.

    Args:
        journal: The journal of the run, which says which input is being handled.
        playback: What is recorded.
        heads: Writes the heads of submissions.
        branches: Whether a program that does something else continues from there; otherwise that is an error.

    Attributes:
        recorded_results: Recorded results that the program may still ask for, after a branch.
    """

    def __init__(self, journal: Replay, playback: Playback, heads: SubmissionHeads, *, branches: bool) -> None:
        self.recorded_results: RecordedResults = RecordedResults()
        self.playback: Playback = playback
        self._journal = journal
        self._heads = heads
        self._branches = branches
        self._void: list[int] = []
        self._void_ranges: list[tuple[int, int]] = []

    @shielded
    def is_recorded(self, number: int, task: str, value: bytes) -> bool:
        """Whether this submission by a callback is what is recorded next, byte for byte; if so, that record is taken.

        Args:
            number: The number of the call.
            task: The name of its task.
            value: The pickle of its arguments.
        """
        begin = self._heads.begin(task, self._journal.current)
        return self.playback.take_submission(number, begin, value)

    @shielded
    def refusal(self, task: str, arguments: str) -> Record | None:
        """Take the record that the executor has refused this submission; None if it does not come next.

        Args:
            task: The name of the task.
            arguments: The arguments as a short text.
        """
        record = self.playback.peek_done()
        if record is None or record.kind != Kind.REFUSAL or record.head["by"] != self._journal.current:
            return None
        said = record.head.get("task"), record.head.get("arguments")
        return self.playback.take_done() if said == (task, arguments) else None

    @shielded
    def recorded(self, action: Action) -> Record | None:
        """The record of what a callback does; None if there is none.

        Raises:
            JournalMismatchError: Something else is recorded.
        """
        if not self._journal.replaying:
            return None
        current = self._journal.current
        playback = self.playback
        while True:
            if not playback.submissions_left and action.kind == _SUBMISSION:
                return None  # the program goes further, or the last records were lost
            record = playback.peek_done()
            if record is None:
                return None
            if record.kind == _STOP and action.kind != _STOP and record.head["by"] <= current:
                self._void.append(playback.take_done().number)  # it goes further
                continue
            if (why := self._difference(record, action)) is not None:
                self._differ(description(record), action.label(), max(record.head["by"], current), why=why)
                return None
            return playback.take_done()

    def _difference(self, record: Record, action: Action) -> str | None:
        """None if this is what is recorded; else what is to be said about the difference beside the two."""
        said, head = record.head, action.head
        if record.kind != action.kind or record.call != action.call or said.get("task") != head.get("task"):
            return ""
        if record.kind != _SUBMISSION:
            if said.get("code") != head.get("code"):
                return ""
        elif (value := self.playback.value(record)) != action.value:
            recorded = load(value, lambda: f"what was submitted as call {record.call}")
            if (found := difference_of_arguments(recorded, action.given)) is not None:
                return f" ({found})"
        by, current = said["by"], self._journal.current
        return None if by == current else f" (in answer to record {current}, and not to record {by} as before)"

    def check_all_done(self) -> None:
        """Check that callbacks have done everything that is recorded.

        Raises:
            JournalMismatchError: They have not.
        """
        while (record := self.playback.peek_done()) is not None:
            if record.kind != Kind.STOP:
                self._differ(description(record), "nothing of the kind", max(record.head["by"], self._journal.current))
                return
            self._void.append(self.playback.take_done().number)

    def _differ(self, recorded: str, given: str, at: int, told: RecordedInput | None = None, *, why: str = "") -> None:
        """Go on from here without what is recorded, or raise.

        Args:
            recorded: What is recorded.
            given: What is done instead.
            at: The number of the input that is answered.
            told: An input that cannot be replayed.
            why: What else is to be said about the difference.
        """
        branches = self._branches
        if not branches and self.is_behind_forgotten(at):
            branches = True
            _log.warning(
                "the journal %s: without the failures that were forgotten, the program does something else. Recorded: "
                "%s. Now: %s%s. It goes on from here; recorded results of equal calls are used",
                self._journal,
                recorded,
                given,
                why,
            )
        if branches:
            if told is not None:
                self.playback.put_back(told)
            records, numbers = self.playback.rest()
            self.recorded_results.add(records, self.playback.value)
            self._void_ranges += numbers
            return
        raise JournalMismatchError(
            f"the program does something else than what the journal {self._journal} has recorded. Recorded: {recorded}."
            f" Now: {given}{why}. {REASONS}",
            recorded=recorded,
            given=given,
        )

    @property
    def goes_further(self) -> bool:
        """Whether something recorded was left out in this session."""
        return bool(self._void or self._void_ranges)

    def differ_in_input(self, told: RecordedInput, recorded: str, given: str) -> None:
        """Leave an input out that cannot be replayed, or raise.

        Raises:
            JournalMismatchError: Unless the program may go on from here.
        """
        self._differ(recorded, given, told.frame[0], told)

    def is_behind_forgotten(self, number: int) -> bool:
        """Whether a record is behind a failure that was forgotten, so that the program may do something else there."""
        return number >= self.playback.overview.forgets_from

    def leave_out(self, record: Record) -> None:
        """Leave a record out, from now on and in later sessions: the program goes further."""
        self._void.append(record.number)

    def left_out(self) -> list[tuple[int, int]]:
        """The records that are left out from this session on: ranges, by their first and last numbers."""
        return sorted([*self._void_ranges, *ranges(sorted(self._void))])


def description(record: Record) -> str:
    """What a record of what a callback did says, for people."""
    head = record.head
    if record.kind == Kind.SUBMISSION:
        return f"call {record.call} is {head.get('task')}{head.get('arguments')}"
    if record.kind == Kind.REFUSAL:
        return f"{head.get('task')}{head.get('arguments')} is refused by the executor ({head.get('type')})"
    if record.kind == Kind.CANCELLED:
        return f"call {record.call} is cancelled"
    if record.kind == Kind.EXCEPTION:
        return f"call {record.call} is not computed"
    if record.kind == Kind.NOTE:
        return f"once({head.get('task')}) is called"
    return f"the run is asked to end ({head.get('code')})"
