"""Reads a journal as it grows, and notices when it was cut, replaced or removed."""

from __future__ import annotations

import os
import sqlite3
from itertools import islice
from typing import TYPE_CHECKING

from amltk._process import clock
from amltk.exceptions import JournalError
from amltk.journal.folder import Folder
from amltk.journal.format import record_at
from amltk.journal.history.call import PENDING
from amltk.journal.left_out import LeftOut
from amltk.journal.live.status import Status, read_status
from amltk.journal.live.table import CallTable
from amltk.journal.live.tally import Tally
from amltk.journal.lock import owner_of
from amltk.journal.reader import Reader, open_log

if TYPE_CHECKING:
    from amltk.journal.format import Position, Record
    from amltk.journal.live.status import Running
    from amltk.journal.owner import Owner

AT_ONCE = 20_000
"""How many records are read in one step by default."""


class Follower:
    """The state of an experiment according to its journal; each `advance` reads what is new.

    It works for a journal that a program is writing as well as for one whose program has ended or was killed, and costs
    that program nothing. If the journal was cut, replaced or removed, it starts over. On one thread at a time.

    Args:
        folder: The folder of the journal, which need not be there yet.
        table: Whether to keep single calls, which takes a temporary database.

    Attributes:
        folder: The folder.
        tally: What is known of all calls together.
        table: The single calls; None if they are not kept.
        status: The last status that the run reported.
        owner: The process that uses the journal; None if there is none.
        problem: Why it cannot be read any further; empty if it can.
        generation: How often it has started over.
        torn: The size, in bytes, of an incomplete record at the end.
    """

    def __init__(self, folder: str | os.PathLike[str] | Folder, *, table: bool = False) -> None:
        self.folder: Folder = folder if isinstance(folder, Folder) else Folder(folder)
        self._has_table = table
        self.status: Status = Status()
        self.owner: Owner | None = None
        self.problem: str = ""
        self.generation: int = -1
        self.table: CallTable | None = None
        self._size = 0
        self._has_more = False
        self._is_stuck = False
        self._begin(LeftOut())

    def close(self) -> None:
        """Release the table."""
        if self.table is not None:
            self.table.close()

    def _begin(self, left_out: LeftOut) -> None:
        """Forget everything but what does not count."""
        self.close()
        self._left_out, self._is_behind = left_out, False
        self.tally: Tally = Tally()
        self.table = CallTable() if self._has_table else None
        self._reader = Reader(self.folder)
        self._file: tuple[int, int] | None = None  # which file it is
        self._last: Record | None = None
        self.generation += 1

    # ------------------------------------------------------------------ what there is

    @property
    def position(self) -> Position:
        """The position after the last record that was read."""
        return self._reader.position

    @property
    def torn(self) -> int:
        """See the class."""
        return self._reader.torn

    @property
    def share(self) -> float:
        """The share of the log that has been read; below 1 as long as `advance` says that there may be more."""
        return self.position.offset / self._size if self._has_more and self._size else 1.0

    @property
    def version(self) -> tuple[object, ...]:
        """A value that changes whenever there is something new."""
        told = self.generation, self.tally.records, self.state, self.problem, self.status.time
        return *told, self.share if self.share < 1 else self.torn

    @property
    def state(self) -> str:
        """The state of the experiment, in one word.

        "reading" as long as it is not known, "running", "finished", "suspended", "interrupted" if its process has ended
        without recording that, "retried" if failed calls will be computed again, "new" if nothing has happened, or
        "missing".
        """
        if self.owner is not None:
            return "running"
        if self.share < 1:
            return "reading"
        if self.tally.state == "open":
            return "interrupted"
        return "missing" if self._file is None and self.problem else self.tally.state

    def now(self) -> float:
        """The time up to which the state is known: the present, or the time of the last record if nothing runs."""
        latest = self.tally.latest
        return clock.now() if self.owner is not None or latest is None else latest

    def running(self) -> list[Running]:
        """The calls that the run has reported as running, and that have not ended since."""
        return [call for call in self.status.running if self.tally.state_of(call.call) == PENDING]

    def submission(self, call: int) -> Record | None:
        """The record of the latest submission of a call, read again; None if there is none."""
        offset = self.tally.submission_of(call)
        return None if offset is None else self.record(offset)

    def record(self, offset: int) -> Record | None:
        """The record that begins at an offset, read again; None if it is no longer there."""
        try:
            file = open_log(self.folder, os.O_RDONLY)
        except JournalError:
            return None
        try:
            return record_at(file, offset, os.fstat(file).st_size)
        finally:
            os.close(file)

    # ------------------------------------------------------------------ reading

    def advance(self, most: int = AT_ONCE) -> bool:
        """Read what is new, at most `most` records. Returns whether there may be more: then call it again at once.

        `problem` says what went wrong, if anything did; what was read before stays.
        """
        n = 0
        if self._is_stuck:
            return False
        try:
            self.owner = owner_of(self.folder.lock)
            told = read_status(self.folder)
            # A program that has just been started has not written the file yet: it is that of the one before.
            self.status = told if self.owner is None or told.pid == self.owner.pid else Status()
            self._check()
            for record in islice(self._reader.records(), most):
                self._take(record)
                n += 1
            self.problem = ""
            if self._is_behind:
                file = self._file
                self._begin(self._left_out)
                self._file, n = file, most
        except (JournalError, OSError) as error:
            self.problem = str(error)
        try:
            if self.table is not None:
                self.table.flush()
        except sqlite3.Error as error:  # what was to be written is lost
            self._is_stuck = True
            self.problem = f"no more calls can be shown: {error}. Make room for temporary files, and start again"
        self._has_more = n == most
        return self._has_more

    def finish(self) -> None:
        """Read everything that there is."""
        while self.advance():
            pass

    def _take(self, record: Record) -> None:
        self._last = record
        if record.call is None:
            self._is_behind = self._left_out.take(record) or self._is_behind
        elif self._left_out and record.number in self._left_out:
            self.tally.pass_over(record)
            return
        self.tally.take(record)
        if self.table is not None:
            self.table.take(record)

    def _check(self) -> None:
        """Start over if the log is not the one that was read, or does not begin with what was read.

        Raises:
            JournalError: There is no journal.
        """
        file = open_log(self.folder, os.O_RDONLY)
        try:
            told = os.fstat(file)
            found = told.st_dev, told.st_ino
            if self._file is not None and (found != self._file or not self._has_last(file)):
                self._begin(LeftOut())
            self._file, self._size = found, told.st_size
        finally:
            os.close(file)

    def _has_last(self, file: int) -> bool:
        """Whether the last record that was read is still where it was."""
        if self._last is None:
            return True
        was = self._last
        there = record_at(file, was.offset, was.end)
        return there is not None and (there.number, there.time, there.call) == (was.number, was.time, was.call)
