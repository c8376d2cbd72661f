"""Values that are too large for a record: each in a file of its own, named after the number of its record.

A file is on the disk before the record that names it is written. So a file that no record names is what a killed
process left, and the next value of that number takes its place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from zlib import crc32

from amltk.exceptions import JournalDamagedError
from amltk.journal.folder import FILE_MODE, value_name
from amltk.journal.format import Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.journal.folder import Folder
    from amltk.journal.format import Record


def write_values(directory: int, values: Iterable[tuple[int, bytes]]) -> None:
    """Write values and have the system put them on the disk.

    Args:
        directory: The descriptor of the folder.
        values: For each its record's number, and what it is.

    Raises:
        OSError: One of them could not be written; what there is of it is removed.
    """
    for number, value in values:
        _write_value(directory, value_name(number), value)
    os.fsync(directory)


def _write_value(directory: int, name: str, value: bytes) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE, dir_fd=directory)
    try:
        rest = memoryview(value)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(file)


def read_value(folder: Folder, record: Record) -> bytes | None:
    """The value of a record as it came; None if it has none. It is never unpickled here.

    Raises:
        JournalDamagedError: Its file is not there, or is not what was written.
    """
    reference = record.reference
    if reference is None:
        return record.behind if record.place == Place.INLINE else None
    path = folder.value(record.number)
    try:
        value = path.read_bytes()
    except OSError as error:
        raise _damaged(record, f"its value cannot be read: {error.strerror} ({path})") from error
    if len(value) != reference.size or crc32(value) != reference.checksum:
        raise _damaged(record, f"its value in {path} is not what was written")
    return value


def _damaged(record: Record, what: str) -> JournalDamagedError:
    return JournalDamagedError(
        f"record {record.number} at byte {record.offset} is damaged: {what}", offset=record.offset, number=record.number
    )
