"""The bytes of `journal.log`: whole records in a row, each with a checksum over all of it.

`docs/reference/journal-folder.md` shows them one by one. Nothing here opens a file; `batches` reads from an open one.
"""

from __future__ import annotations

import json
import json.encoder
import os
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

VERSION: tuple[int, int] = (1, 0)
"""Major and minor number of the format. A greater major one cannot be read here; a greater minor one can."""

MARK: bytes = b"\xbdAMJ"
"""What every record begins with. It is no text in any of the usual encodings."""

STAMP_SIZE: int = 4
"""The bytes after the mark, which differ from journal to journal: records of another one are not taken for its own."""

SIGNATURE_SIZE: int = len(MARK) + STAMP_SIZE
"""The size of mark and stamp."""

MAX_INLINE: int = 64 * 1024
"""The largest value, in bytes, that is kept in the record itself."""

MAX_HEAD: int = 16 * 1024 * 1024
"""The largest head, in bytes."""

NO_CALL: int = 2**64 - 1
"""What stands in the place of a call's number in records that are about none."""

CHUNK: int = 64 * 1024
"""How many bytes are read at once: some hundred records, few enough to stay in the processor's caches."""

_FIXED = struct.Struct("<8sBBQQdII")
"""Signature, kind, place, number, call, time, size of what follows without the checksum, size of the head in it."""

_CHECKSUM = struct.Struct("<I")
_REFERENCE = struct.Struct("<QI")  # of a value in a file: its size, its checksum
_RESIDUE = 0x2144DF1C  # what CRC-32 gives for any bytes that their own CRC-32 follows
_MAX_SIZE = MAX_HEAD + MAX_INLINE
_pack, _pack_checksum = _FIXED.pack, _CHECKSUM.pack  # looked up once


def _encoder() -> Callable[[object], str]:
    """The encoder of heads: ASCII, without spaces."""
    plain = json.JSONEncoder(separators=(",", ":"), check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    # `encode` makes one of these each time, which takes three times as long as its work.
    parts = make(None, plain.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)
    return lambda head: "".join(parts(head, 0))


_encode = _encoder()
_decode = json.JSONDecoder().raw_decode


class Place(IntEnum):
    """Where the value of a record is."""

    NOWHERE = 0
    """It has none."""
    INLINE = 1
    """In the record, behind the head."""
    FILE = 2
    """In a file of its own; size and checksum are behind the head."""


class Position(NamedTuple):
    """A place between two records.

    Attributes:
        offset: How many bytes precede it.
        number: How many records precede it, which is the number of the next one.
    """

    offset: int
    number: int


START = Position(0, 0)
"""Before the first record."""


class Reference(NamedTuple):
    """What a record says about a value that is in a file.

    Attributes:
        size: The size of the file, in bytes.
        checksum: The CRC-32 of its content.
    """

    size: int
    checksum: int


Frame: TypeAlias = tuple[int, int, int, float, int, bytes, int, int, int, int]
"""A record as a tuple, still undecoded in a buffer, which takes half the time: number, kind, call (or `NO_CALL`), time,
place; then the buffer, the offsets in it where the head begins, where what follows the head begins, and where that
ends, and the offset of the buffer itself in the log."""


class Record:
    """One record of a journal.

    Attributes:
        number: Its number, counted from 0.
        kind: What it is about; one of `Kind`, or a number that only newer versions know.
        call: The number of the call that it is about; None if it is about none.
        time: When it was recorded, in seconds since the epoch.
        offset: Where it begins, in bytes.
        end: Where it ends.
        place: Where its value is, one of `Place`.
        behind: What is behind its head: the value, or the reference to its file.
    """

    __slots__ = ("_head", "behind", "call", "end", "kind", "number", "offset", "place", "time")

    def __init__(  # noqa: PLR0917 - the fields, and names take time
        self,
        number: int,
        kind: int,
        call: int,
        time: float,
        place: int,
        buffer: bytes,
        head: int,
        behind: int,
        stop: int,
        base: int,
    ) -> None:
        self.number: int = number
        self.kind: int = kind
        self.call: int | None = None if call == NO_CALL else call
        self.time: float = time
        self.place: int = place
        self.offset: int = base + head - _FIXED.size
        self.end: int = base + stop + _CHECKSUM.size
        self._head: bytes | dict[str, Any] = buffer[head:behind]
        self.behind: bytes = buffer[behind:stop]

    def __repr__(self) -> str:
        return f"<record {self.number}: kind={self.kind} call={self.call} {self.head}>"

    @property
    def head(self) -> dict[str, Any]:
        """What it says, without its value. It is decoded when it is first asked for."""
        head = self._head
        if isinstance(head, bytes):
            decoded: dict[str, Any] = _decode(str(head, "ascii"))[0]
            self._head = head = decoded
        return head

    @property
    def reference(self) -> Reference | None:
        """The reference to the value's file; None if there is none."""
        return Reference(*_REFERENCE.unpack(self.behind)) if self.place == Place.FILE else None


def encode(  # noqa: PLR0917 - the fields, and names take time
    signature: bytes,
    number: int,
    kind: int,
    call: int,
    time: float,
    head: bytes,
    place: int,
    behind: bytes,
) -> bytes:
    """The bytes of a record; see `Frame` for the arguments, and `encode_head` for the head.

    Raises:
        ValueError: The head is larger than `MAX_HEAD`.
    """
    size = len(head)
    if size > MAX_HEAD:
        raise ValueError(
            f"the head of a record has {size:,} bytes: at most {MAX_HEAD:,} are allowed; put it in the value"
        )
    body = _pack(signature, kind, place, number, call, time, size + len(behind), size) + head + behind
    return body + _pack_checksum(crc32(body))


def encode_head(head: Mapping[str, Any]) -> bytes:
    """The bytes of a head in a record.

    Raises:
        TypeError: It contains something that JSON cannot represent.
    """
    return _encode(head).encode("ascii")


def encode_reference(value: bytes) -> bytes:
    """The reference to a file with this value."""
    return _REFERENCE.pack(len(value), crc32(value))


def batches(
    file: int, signature: bytes, position: Position, limit: int, *, checksums: bool = True
) -> Generator[list[Frame], None, Position]:
    """The frames of records from `position` on, until `limit` or the first incomplete one.

    They come in lists, one for each piece of the log that is read: several generators within one another, each resumed
    for every single record, would take about as long as all of the work that is done here.

    Args:
        file: The descriptor of the log. Its current offset does not matter.
        signature: What its records begin with.
        position: Where to begin.
        limit: Up to where to read, in bytes.
        checksums: Whether to compare checksums; otherwise only the sequence of whole records is checked.

    Returns:
        The offset after the last one.
    """
    base, expected = position
    buffer, wanted, is_sound = b"", 0, True
    unpack, fixed, tail = _FIXED.unpack_from, _FIXED.size, _CHECKSUM.size
    while is_sound and (
        more := os.pread(file, min(max(CHUNK, wanted), limit - base - len(buffer)), base + len(buffer))
    ):
        buffer, at, wanted = buffer + more, 0, 0
        available = len(buffer)
        batch: list[Frame] = []
        while (start := at + fixed) <= available:
            found, kind, place, number, call, time, size, head_size = unpack(buffer, at)
            if found != signature or number != expected or head_size > size:
                is_sound = False
                break
            stop = start + size
            end = stop + tail
            if end > available:
                is_sound = size <= _MAX_SIZE  # else no such record was written, and there may be gigabytes to read
                wanted = end - available
                break
            if checksums and crc32(buffer[at:end]) != _RESIDUE:
                is_sound = False
                break
            batch.append((number, kind, call, time, place, buffer, start, start + head_size, stop, base))
            at, expected = end, number + 1
        if batch:
            yield batch
        base, buffer = base + at, buffer[at:]
    return Position(base, expected)


def position_after(frame: Frame) -> Position:
    """The place behind a record."""
    return Position(frame[9] + frame[8] + _CHECKSUM.size, frame[0] + 1)


def read_signature(file: int) -> bytes:
    """What the records of this log begin with, as its first bytes say; shorter if the log is."""
    return os.pread(file, SIGNATURE_SIZE, 0)


def record_at(file: int, offset: int, limit: int) -> Record | None:
    """The record that begins at `offset`, of whatever number and journal; None if there is no whole one."""
    fixed = os.pread(file, min(_FIXED.size, limit - offset), offset)
    if len(fixed) < _FIXED.size or not fixed.startswith(MARK):
        return None
    signature, _, _, number, _, _, size, _ = _FIXED.unpack(fixed)
    end = min(limit, offset + _FIXED.size + size + _CHECKSUM.size)  # nothing behind it is read
    found = next(batches(file, signature, Position(offset, number), end), None)
    return None if found is None else Record(*found[0])


def record_with_head(file: int, head: int, limit: int) -> Record | None:
    """The same for a record whose head begins at `head`."""
    return record_at(file, head - _FIXED.size, limit) if head >= _FIXED.size else None


def find_record(file: int, mark: bytes, position: Position, limit: int) -> Record | None:
    """The first whole record behind `position`, whose number is not below that of the position; None if there is none.

    Args:
        file: The descriptor of the log.
        mark: What it begins with: a signature; or `MARK`, where the signature is not known.
        position: Behind where to search.
        limit: Up to where.
    """
    offset = position.offset + 1
    while more := os.pread(file, min(CHUNK, limit - offset), offset):
        at = more.find(mark)
        while at >= 0:
            record = record_at(file, offset + at, limit)
            if record is not None and record.number >= position.number:
                return record
            at = more.find(mark, at + 1)
        offset += max(1, len(more) - len(mark) + 1)  # a mark may begin in one piece and end in the next
    return None
