"""Reads a journal, also while another process writes to it."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from amltk.exceptions import JournalDamagedError, JournalError, JournalVersionError
from amltk.journal.folder import Folder, unusable
from amltk.journal.format import (
    MARK,
    START,
    VERSION,
    Position,
    Record,
    batches,
    find_record,
    position_after,
    read_signature,
    record_at,
)
from amltk.journal.kinds import Kind
from amltk.journal.values import read_value

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from amltk.journal.format import Frame


class Reader:
    """Reads the records of a journal in their order.

    Nothing is kept open between two calls of `records`, each of which goes on where the last one ended.

    Args:
        folder: The journal's folder.
        position: Where to begin: the `position` of an earlier reader; None for the beginning.

    Attributes:
        folder: The folder.
        torn: How many bytes there were at the end, when `records` came there, that are no whole record: what a process
            was writing when it was killed, or is writing now. They are left out.
    """

    def __init__(self, folder: str | os.PathLike[str] | Folder, *, position: Position | None = None) -> None:
        self.folder: Folder = folder if isinstance(folder, Folder) else Folder(folder)
        self._begin = position or START
        self._last: Frame | None = None
        self.torn: int = 0

    @property
    def position(self) -> Position:
        """Behind the last record that was read."""
        return self._begin if self._last is None else position_after(self._last)

    def records(self) -> Iterator[Record]:
        """The records from `position` to the present end; more may be there when it is called once more.

        Raises:
            JournalError: There is no journal, it cannot be read, or it has become shorter meanwhile.
            JournalVersionError: It has a newer format.
            JournalDamagedError: A record is not what was written. The position stays before it.
        """
        for frame in self.frames():
            self._last = frame
            yield Record(*frame)

    def frames(self) -> Iterator[Frame]:
        """The same as `records`, but as tuples, for code that reads millions of them; raises the same.

        If it is stopped before the end, `position` stays where it was.
        """
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[Frame]]:
        """The same as `frames`, but in lists of some hundred each."""
        file = open_log(self.folder, os.O_RDONLY)
        try:
            limit = os.fstat(file).st_size
            if limit < self.position.offset:
                raise JournalError(
                    f"the journal {self.folder} has become shorter since it was last read: open it again"
                )
            self._begin, self._last = (yield from whole_batches(file, self.folder, self.position, limit)), None
            self.torn = limit - self._begin.offset
        except OSError as error:
            raise unusable(self.folder, "read", error) from error
        finally:
            os.close(file)

    def value(self, record: Record) -> bytes | None:
        """The value of a record, as its pickle came from a worker; None if it has none.

        Raises:
            JournalDamagedError: It is in a file that is missing, or is not what was written.
        """
        return read_value(self.folder, record)


def open_log(folder: Folder, flags: int) -> int:
    """Open the log that is in a folder.

    Raises:
        JournalError: There is none, or it cannot be opened.
    """
    try:
        return os.open(folder.log, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise JournalError(f"there is no journal in {folder}: it has no file {folder.log.name}") from error
    except OSError as error:
        raise unusable(folder, "opened", error) from error


def read_record(folder: Folder, offset: int, end: int) -> Record:
    """Read a record once more, of which it is known where it is.

    Raises:
        JournalError: It is not there any more.
    """
    file = open_log(folder, os.O_RDONLY)
    try:
        record = record_at(file, offset, end)
    finally:
        os.close(file)
    if record is None:
        raise JournalError(f"the journal {folder} has become shorter since it was last read: open it again")
    return record


def checked_batches(folder: Folder, end: Position) -> Iterator[list[Frame]]:
    """The frames of the log up to a position, which are not checked again, since they were checked a moment ago.

    They come in lists, as from `batches`.

    Raises:
        JournalError: They are no longer there.
    """
    file = open_log(folder, os.O_RDONLY)
    try:
        if (yield from batches(file, read_signature(file), START, end.offset, checksums=False)) != end:
            raise JournalError(f"the journal {folder} was changed while it was read: let only one process write to it")
    finally:
        os.close(file)


def whole_batches(file: int, folder: Folder, position: Position, limit: int) -> Generator[list[Frame], None, Position]:
    """The frames from `position` on, until `limit` or where the last whole one ends; returns the place behind that.

    They come in lists, as from `batches`.

    Raises:
        JournalError: It is no journal.
        JournalVersionError: It has a newer format.
        JournalDamagedError: There are whole records behind one that is not.
    """
    signature = read_signature(file)
    if not signature.startswith(MARK[: len(signature)]) and find_record(file, MARK, START, limit) is None:
        raise JournalError(f"{folder.log} is not the log of a journal: pass the folder of a journal, or a new one")
    if position == START and (first := record_at(file, 0, limit)) is not None and not first.number:
        _check_version(folder, first)
    end = yield from batches(file, signature, position, limit)
    if end.offset < limit:
        check_end(file, folder, end, limit)
    return end


def check_end(file: int, folder: Folder, position: Position, limit: int) -> None:
    """Check that what is behind `position`, which is no whole record, is the end of what a process was writing.

    Raises:
        JournalDamagedError: It is not: whole records are behind it, or one of another number is there.
    """
    # The signature is in the first record: where that is damaged, any record will do.
    mark = read_signature(file) if position.number else MARK
    if record_at(file, position.offset, limit) is None and find_record(file, mark, position, limit) is None:
        return
    raise JournalDamagedError(
        f"the journal {folder} is damaged: record {position.number}, at byte {position.offset} of {folder.log.name}, "
        f"is damaged, and whole records follow it. `amltk repair {folder}` keeps what precedes it, and "
        "moves the rest to cut/",
        offset=position.offset,
        number=position.number,
    )


def _check_version(folder: Folder, record: Record) -> None:
    major, minor = record.head.get("format", VERSION) if record.kind == Kind.HEADER else (0, 0)
    if major != VERSION[0]:
        raise JournalVersionError(
            f"the journal {folder} has format {major}.{minor}, and this version of amltk reads {VERSION[0]}.x: "
            "use the version that wrote it, or a newer one"
        )
