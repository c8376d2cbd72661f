"""Checks a journal, and cuts it: at damage, or where an experiment is to be gone on with once more.

What is cut off is put aside, in a folder of its own below `cut/`. Nothing here unpickles a value.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from amltk._process import clock
from amltk.exceptions import JournalDamagedError, JournalError
from amltk.journal.folder import FILE_MODE, FOLDER_MODE, Folder, sync_folder
from amltk.journal.format import (
    CHUNK,
    MARK,
    NO_CALL,
    SIGNATURE_SIZE,
    START,
    VERSION,
    Place,
    Position,
    encode,
    encode_head,
    find_record,
)
from amltk.journal.kinds import Header, Kind
from amltk.journal.left_out import LeftOut
from amltk.journal.lock import Lock
from amltk.journal.reader import Reader, open_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@dataclass(slots=True)
class Findings:
    """What `verify` has found.

    Attributes:
        end: Where the whole records end, before any damage.
        torn: The size, in bytes, of an incomplete record at the end. It is no damage.
        damage: The damage to the log, if there is any; nothing behind it is checked.
        values: The damage to each file in `values/` that a record names.
    """

    end: Position = START
    torn: int = 0
    damage: JournalDamagedError | None = None
    values: list[JournalDamagedError] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether there is no damage."""
        return self.damage is None and not self.values


@dataclass(frozen=True, slots=True)
class Cut:
    """What `repair` or `rewind` has done.

    Attributes:
        kept: How many records the journal has now.
        size: How many bytes of the log were cut off.
        aside: The folder with a copy of them, with the files of their values, and with the places of calls that were
            submitted there; None if nothing was cut off.
    """

    kept: int
    size: int
    aside: Path | None


def verify(folder: str | os.PathLike[str]) -> Findings:
    """Check all of a journal, also while another process writes to it.

    Raises:
        JournalError: There is no journal, or it cannot be read.
        JournalVersionError: It has a newer format.
    """
    reader, findings = Reader(folder), Findings()
    try:
        for record in reader.records():
            if record.place == Place.FILE:
                try:
                    reader.value(record)
                except JournalDamagedError as error:
                    findings.values.append(error)
    except JournalDamagedError as error:
        findings.damage = error
    findings.end, findings.torn = reader.position, reader.torn
    return findings


def repair(folder: str | os.PathLike[str]) -> Cut:
    """Make a damaged journal usable: keep the records before the damage, put all that is behind it aside.

    The order of records is what a replay goes by, so none behind a lost one can stay. If only the first record is
    damaged, which says no more than the version, it is made anew, and the others stay. An incomplete record at the
    end is cut off as well. Nothing happens to a sound journal.

    Raises:
        JournalLockedError: A process uses the journal.
        JournalError: There is no journal, or it cannot be read or written.
    """
    with _locked(folder) as where:
        findings = verify(where.path)
        if findings.damage is not None and findings.damage.number == 0 and _renew_header(where):
            findings = verify(where.path)
        positions = [findings.end, *(Position(error.offset, error.number) for error in findings.values)]
        return _cut(where, min(positions))


def rewind(folder: str | os.PathLike[str], *, to: int | None = None, call: int | None = None) -> Cut:
    """Go back to an earlier moment of an experiment; the program, started again, goes on from there.

    Args:
        folder: The folder of the journal.
        to: Keep the records whose numbers are below this.
        call: Keep what precedes the first submission of the call of this number that counts: a program that did
            something else has left out what was recorded behind that. Give one of the two.

    Raises:
        ValueError: Neither or both are given, or the journal has no such record or call.
        JournalLockedError: A process uses the journal.
        JournalDamagedError: It is damaged before that.
        JournalError: There is no journal, or it cannot be read or written.
    """
    if (to is None) == (call is None):
        raise ValueError("give one of to= and call=: the number of a record, or that of a call")
    with _locked(folder) as where:
        left_out = LeftOut()
        if call is not None:
            for record in Reader(where).records():
                if record.call is None:
                    left_out.take(record)
        for record in Reader(where).records():
            is_it = record.number == to if call is None else record.call == call and record.number not in left_out
            if record.number and is_it:
                return _cut(where, Position(record.offset, record.number))
    wanted = f"to={to}" if call is None else f"call={call}"
    raise ValueError(
        f"{wanted}: the journal {folder} has no such {'record' if call is None else 'call'} that can be cut off"
    )


@contextmanager
def _locked(path: str | os.PathLike[str]) -> Iterator[Folder]:
    """The folder of a journal that is there, while its lock is held."""
    folder = Folder(path)
    os.close(open_log(folder, os.O_RDWR))
    folder.make()
    try:
        lock = Lock(folder.lock)
        try:
            yield folder
        finally:
            lock.release()
    except OSError as error:
        raise JournalError(
            f"the journal {folder} cannot be changed: {error.strerror}. Nothing of it is lost"
        ) from error


def _cut(folder: Folder, position: Position) -> Cut:
    """Cut the log off at a position, after what is behind it was copied."""
    with folder.log.open("r+b") as log:
        size = os.fstat(log.fileno()).st_size - position.offset
        if not size:
            return Cut(position.number, 0, None)
        aside = _aside(folder)
        log.seek(position.offset)
        with _new(aside / folder.log.name) as copy:
            shutil.copyfileobj(log, copy, CHUNK)
        log.truncate(position.offset)
        os.fsync(log.fileno())
    _move_from(position.number, folder.values, aside / folder.values.name)
    if folder.calls.exists():  # what a call has kept there is nothing to the other one that gets its number
        _move_from(_next_call(folder, position), folder.calls, aside / folder.calls.name)
    return Cut(position.number, size, aside)


def _aside(folder: Folder) -> Path:
    """A new folder for what is cut off, named after the time."""
    folder.cut.mkdir(FOLDER_MODE, exist_ok=True)
    now, n = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), 1
    while True:
        aside = folder.cut / (now if n == 1 else f"{now}-{n}")
        try:
            aside.mkdir(FOLDER_MODE)
        except FileExistsError:
            n += 1
        else:
            return aside


def _move_from(number: int, source: Path, target: Path) -> None:
    """Move what is named after numbers, from this one on."""
    found = [path for path in source.iterdir() if path.name.isdecimal() and int(path.name) >= number]
    if found:
        target.mkdir(FOLDER_MODE)
    for path in found:
        path.rename(target / path.name)


def _next_call(folder: Folder, position: Position) -> int:
    """The number of the first call that is submitted behind a position."""
    kept = islice(Reader(folder).frames(), position.number)
    return max((frame[2] for frame in kept if frame[1] == Kind.SUBMISSION), default=-1) + 1


def _renew_header(folder: Folder) -> bool:
    """Put a new first record in the place of a damaged one; whether the second one is whole, so that this helps."""
    with folder.log.open("rb") as log:
        limit = os.fstat(log.fileno()).st_size
        second = find_record(log.fileno(), MARK, START, limit)
        if second is None or second.number != 1:
            return False
        damaged = log.read(second.offset)
        signature = log.read(SIGNATURE_SIZE)
        log.seek(second.offset)
        renewed = folder.log.with_suffix(".new")
        with _new(_aside(folder) / folder.log.name) as copy:
            copy.write(damaged)
        with _new(renewed) as file:
            head = encode_head(Header(format=VERSION))
            file.write(encode(signature, 0, Kind.HEADER, NO_CALL, clock.now(), head, Place.NOWHERE, b""))
            shutil.copyfileobj(log, file, CHUNK)
    renewed.replace(folder.log)
    sync_folder(folder.path)
    return True


@contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when it is left."""
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
