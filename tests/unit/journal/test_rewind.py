"""Rewinding an experiment to an earlier point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from amltk.exceptions import JournalDamagedError, JournalError, JournalLockedError
from amltk.journal import Reader, Writer, repair, rewind, verify
from amltk.journal.folder import Folder
from tests.unit.journal.making import LARGE, told, write

if TYPE_CHECKING:
    from pathlib import Path


def test_to_a_record_and_to_a_call(tmp_path: Path) -> None:
    """Later records and values are moved aside, to a new folder each time; numbering continues from there."""
    write(tmp_path, 6, value=LARGE)
    whole, log = told(tmp_path), Folder(tmp_path).log
    before = log.read_bytes()
    for n, (options, kept) in enumerate([({"to": 11}, 11), ({"call": 3}, 7), ({"to": 1}, 1)], 1):
        cut = rewind(tmp_path, **options)
        assert told(tmp_path) == whole[:kept]
        assert verify(tmp_path).sound
        assert (cut.kept, cut.size) == (kept, len(before) - log.stat().st_size)
        assert cut.aside is not None
        assert log.read_bytes() + (cut.aside / "journal.log").read_bytes() == before
        before = log.read_bytes()
        assert len(list(Folder(tmp_path).cut.iterdir())) == n
        assert all(int(path.name) < kept for path in Folder(tmp_path).values.iterdir())
        assert all(int(path.name) >= kept for path in (cut.aside / "values").iterdir())
    with Writer(tmp_path) as writer:
        assert writer.number == 1


def test_places_of_calls(tmp_path: Path) -> None:
    """Files in a call's folder are not visible to the next call with the same number."""
    write(tmp_path, 6)
    folder = Folder(tmp_path)
    for call in (0, 2, 3, 5):
        (folder.call(call) / "checkpoint").write_text(str(call))
    (folder.calls / "notes").touch()
    cut = rewind(tmp_path, call=3)
    assert cut.aside is not None
    assert sorted(path.name for path in folder.calls.iterdir()) == ["0", "2", "notes"]
    assert (cut.aside / "calls" / "5" / "checkpoint").read_text() == "5"
    rewind(tmp_path, to=6)  # the submission of call 2 stays, without its outcome
    assert sorted(path.name for path in folder.calls.iterdir()) == ["0", "2", "notes"]


@pytest.mark.parametrize("options", [{}, {"to": 3, "call": 1}])
def test_one_of_two(tmp_path: Path, options: dict[str, int]) -> None:
    """A rewind needs exactly one of a record and a call."""
    write(tmp_path)
    with pytest.raises(ValueError, match="give one of to= and call="):
        rewind(tmp_path, **options)


@pytest.mark.parametrize("options", [{"to": 13}, {"to": 0}, {"to": -1}, {"call": 6}, {"call": -1}])
def test_to_nowhere(tmp_path: Path, options: dict[str, int]) -> None:
    """A number that does not exist changes nothing."""
    write(tmp_path)
    whole = told(tmp_path)
    with pytest.raises(ValueError, match=r"has no such (record|call)"):
        rewind(tmp_path, **options)
    assert told(tmp_path) == whole


def test_not_while_it_is_used(tmp_path: Path) -> None:
    """A journal in use by a process is neither rewound nor repaired."""
    write(tmp_path)
    with Writer(tmp_path):
        for use in (repair, lambda folder: rewind(folder, to=3)):
            with pytest.raises(JournalLockedError):
                use(tmp_path)
    assert len(told(tmp_path)) == 13


def test_before_and_behind_damage(tmp_path: Path) -> None:
    """It is possible to rewind to a point before damage, but not to one after it."""
    records = write(tmp_path)
    log = bytearray(Folder(tmp_path).log.read_bytes())
    log[records[6].offset + 30] ^= 1
    Folder(tmp_path).log.write_bytes(log)
    with pytest.raises(JournalDamagedError):
        rewind(tmp_path, to=9)
    assert rewind(tmp_path, to=5).kept == 5
    assert verify(tmp_path).sound


def test_nothing_is_made_where_there_is_no_journal(tmp_path: Path) -> None:
    """A wrong path is reported and left unchanged."""
    for use in (verify, repair, lambda folder: rewind(folder, to=3)):
        with pytest.raises(JournalError, match="there is no journal in"):
            use(tmp_path / "wrong")
        with pytest.raises(JournalError, match="there is no journal in"):
            use(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_first_record_is_made_anew(tmp_path: Path) -> None:
    """A damaged first record is rewritten: it contains only the version, and the old one is moved aside."""
    records = write(tmp_path)
    whole = told(tmp_path)
    for at in range(0, records[0].end, 5):
        log = bytearray(Folder(tmp_path).log.read_bytes())
        log[at] ^= 0x10
        Folder(tmp_path).log.write_bytes(log)
        cut = repair(tmp_path)
        assert cut.kept == len(whole)
        assert told(tmp_path)[1:] == whole[1:]
        assert next(record.kind for record in Reader(tmp_path).records()) == 0
