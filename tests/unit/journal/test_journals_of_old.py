"""Journals written by earlier versions are read correctly.

`python -m tests.unit.journal.test_journals_of_old` adds one in a new version of the format to `tests/data`.
"""

from __future__ import annotations

import pickle
import shutil
import zlib
from pathlib import Path

import pytest

import amltk.journal
from amltk.journal import Kind, Writer, verify
from amltk.journal.format import VERSION
from tests.unit.journal.making import LARGE, told

DATA = Path(__file__).parents[2] / "data"
TIME = 1_789_012_345.25
ENTRIES = [
    (
        Kind.SESSION,
        {"program": ["search.py", "--n", "3"], "host": "node-1", "pid": 4711, "python": "3.11.7"},
        None,
        None,
    ),
    (Kind.SUBMISSION, {"task": "train", "arguments": "(0.1, layers=[64])", "digest": "00ff", "attempt": 0}, None, 0),
    (Kind.SUBMISSION, {"task": "train", "arguments": "('Größe \\udcff',)", "digest": "01ff", "attempt": 0}, None, 1),
    (
        Kind.RESULT,
        {"began": TIME, "duration": 1.5, "host": "node-2", "pid": 12, "number": 0.5},
        pickle.dumps(0.5, 5),
        0,
    ),
    (Kind.EXCEPTION, {"type": "ValueError", "message": "no", "duration": 2.0}, pickle.dumps(ValueError("no"), 5), 1),
    (Kind.TIMER, {"timer": 3}, None, None),
    (Kind.MESSAGE, {}, b"message", 1),
    (Kind.WAKEUP, {}, None, None),
    (Kind.SUBMISSION, {"task": "train", "attempt": 1}, None, 1),
    (Kind.RESULT, {}, LARGE, 1),
    (Kind.CANCELLED, {}, None, 2),
    (Kind.LOST, {"pid": 13}, None, 3),
    (Kind.STOP, {"reason": "enough"}, None, None),
    (Kind.NOTE, {}, b"note", None),
    (Kind.SUSPEND, {}, None, None),
    (Kind.FINISH, {"code": "EXHAUSTED"}, None, None),
    (99, {"of": "the future", "nested": [1, {"x": None}]}, b"?", 2**40),
]


def make(folder: Path) -> None:
    """Write the entries to a new journal."""
    with Writer(folder) as writer:
        for n, (kind, head, value, call) in enumerate(ENTRIES):
            writer.add(kind, head, value, call=call, at=TIME + n / 4)


@pytest.mark.parametrize("version", sorted(path.name for path in DATA.glob("journal-*")))
def test_every_version_is_read(version: str, tmp_path: Path) -> None:
    """All records of a journal of each version are read as written, and it can be continued."""
    folder = tmp_path / version
    shutil.copytree(DATA / version, folder)
    expected = [(n + 1, kind, call, TIME + n / 4, head, value) for n, (kind, head, value, call) in enumerate(ENTRIES)]
    assert told(folder)[1:] == expected
    assert verify(folder).sound
    assert [(call.number, call.state, call.attempt) for call in amltk.journal.open(folder).calls()] == [
        (0, "result", 0),
        (1, "result", 1),
        (2, "cancelled", 0),
        (3, "lost", 0),
    ]
    with Writer(folder) as writer:
        assert writer.add(Kind.NOTE, {}) == len(ENTRIES) + 1


def test_there_is_one_of_this_version() -> None:
    """Whoever changes the format adds a journal of the new version."""
    assert (DATA / "journal-{}.{}".format(*VERSION)).is_dir()


def test_the_bytes_are_those_that_the_page_shows(tmp_path: Path) -> None:
    """The bytes that this version writes are exactly those in docs/reference/journal-folder.md."""
    make(tmp_path)
    log = (tmp_path / "journal.log").read_bytes()
    assert log.startswith(b"\xbdAMJ")
    stamp, offset = log[4:8], 0
    for number in range(len(ENTRIES) + 1):
        record = log[offset:]
        assert record[:8] == b"\xbdAMJ" + stamp
        kind, place = record[8], record[9]
        fields = [int.from_bytes(record[at : at + size], "little") for at, size in ((10, 8), (18, 8), (34, 4), (38, 4))]
        size, head_size = fields[2:]
        assert fields[0] == number
        assert zlib.crc32(record[: 42 + size]) == int.from_bytes(record[42 + size : 46 + size], "little")
        if number:
            expected_kind, _, value, call = ENTRIES[number - 1]
            assert (kind, fields[1]) == (expected_kind, 2**64 - 1 if call is None else call)
            assert place == (0 if value is None else 2 if value is LARGE else 1)
            behind = record[42 + head_size : 42 + size]
            if place == 2:
                assert (tmp_path / "values" / f"{number:012d}").read_bytes() == LARGE
                assert behind == len(LARGE).to_bytes(8, "little") + zlib.crc32(LARGE).to_bytes(4, "little")
            else:
                assert behind == (value or b"")
        else:
            assert record[42 : 42 + head_size] == b'{"format":[1,0]}'
        offset += 46 + size
    assert offset == len(log)


if __name__ == "__main__":
    made = DATA / "journal-{}.{}".format(*VERSION)
    make(made)
    (made / "lock").unlink()
