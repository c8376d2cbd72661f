"""Small journals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk.journal.format import MAX_INLINE
from amltk.journal.kinds import Kind
from amltk.journal.reader import Reader
from amltk.journal.writer import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from amltk.journal.format import Record

LARGE = bytes(range(256)) * (MAX_INLINE // 256) + b"!"
"""A value large enough to get its own file."""


def write(folder: Path, calls: int = 6, *, value: bytes = b"value") -> list[Record]:
    """A journal of some calls that have returned; returns its records."""
    with Writer(folder) as writer:
        for call in range(calls):
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"(depth={call})"}, call=call)
            writer.add(Kind.RESULT, {"duration": call / 8}, value, call=call)
            writer.flush()
    return list(Reader(folder).records())


def told(folder: Path) -> list[tuple[int, int, int | None, float, dict[str, object], bytes | None]]:
    """The content of all records of a journal."""
    reader = Reader(folder)
    return [
        (record.number, record.kind, record.call, record.time, record.head, reader.value(record))
        for record in reader.records()
    ]
