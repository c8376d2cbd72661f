"""A torn end loses only its last record; damage is rejected. Nothing is ever read that was not written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.exceptions import JournalDamagedError, JournalError
from amltk.journal.folder import Folder
from amltk.journal.kinds import Kind
from amltk.journal.reader import Reader
from amltk.journal.upkeep import repair, verify
from amltk.journal.writer import Writer
from tests.unit.journal.making import LARGE, told, write


@pytest.fixture
def without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip syncs: these tests are not about the disk, which is slow."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


@pytest.mark.usefixtures("without_syncs")
def test_cut_at_every_byte_of_the_last_ten_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whole records are read and the rest is reported; a writer cuts it off, logs that, and continues."""
    records = write(tmp_path)
    whole, log, before = told(tmp_path), Folder(tmp_path).log, Folder(tmp_path).log.read_bytes()
    for size in range(records[-10].offset, len(before)):
        log.write_bytes(before[:size])
        kept = [record for record in records if record.end <= size]
        torn = size - kept[-1].end

        reader = Reader(tmp_path)
        assert [record.number for record in reader.records()] == [record.number for record in kept]
        assert reader.torn == torn
        findings = verify(tmp_path)
        assert (findings.sound, findings.torn, findings.end.number) == (True, torn, len(kept))

        if torn > 2 and size % 5:
            continue  # a writer finds the end just as a reader does
        caplog.clear()
        with Writer(tmp_path) as writer:
            assert writer.cut == torn
            assert writer.add(Kind.NOTE, {"again": size}, at=0.0) == len(kept)
        assert [message.levelname for message in caplog.records] == ["WARNING"] * bool(torn)
        assert told(tmp_path) == [*whole[: len(kept)], (len(kept), Kind.NOTE, None, 0.0, {"again": size}, None)]


@pytest.mark.usefixtures("without_syncs")
def test_cut_within_the_first_record(tmp_path: Path) -> None:
    """A process killed while creating a journal leaves one that has no records and is usable."""
    records = write(tmp_path, 0)
    before = Folder(tmp_path).log.read_bytes()
    for size in range(records[0].end):
        Folder(tmp_path).log.write_bytes(before[:size])
        reader = Reader(tmp_path)
        assert list(reader.records()) == []
        assert reader.torn == size
        with Writer(tmp_path) as writer:
            assert (writer.cut, writer.number) == (size, 1)


@pytest.fixture(scope="module")
def journal() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return Folder(folder).log.read_bytes()


@given(data=st.data())
def test_flipped_bits(journal: bytes, data: st.DataObject) -> None:
    """A record with flipped bits is named, unless it is the last one, which counts as torn."""
    with tempfile.TemporaryDirectory() as folder:
        Folder(folder).log.write_bytes(journal)
        records = list(Reader(folder).records())
        record = data.draw(st.sampled_from(records))
        spoilt = bytearray(journal)
        at = data.draw(st.integers(record.offset, record.end - 1))
        for offset, mask in data.draw(
            st.lists(st.tuples(st.integers(0, 3), st.integers(1, 255)), min_size=1, max_size=3)
        ):
            if at + offset < record.end:
                spoilt[at + offset] ^= mask
        if spoilt == journal:
            return
        Folder(folder).log.write_bytes(spoilt)

        reader = Reader(folder)
        read = []
        if record is records[-1]:
            read.extend(reader.records())
            assert reader.torn == record.end - record.offset
        else:
            with pytest.raises(
                JournalDamagedError, match=f"record {record.number}, at byte {record.offset} "
            ) as caught:
                read.extend(reader.records())
            assert (caught.value.number, caught.value.offset) == (record.number, record.offset)
            assert f"amltk repair {folder}" in str(caught.value)
            with pytest.raises(JournalDamagedError):
                Writer(folder)
        assert [r.number for r in read] == list(range(record.number))


@given(data=st.data())
def test_repair_after_any_damage(journal: bytes, data: st.DataObject) -> None:
    """After bytes were overwritten, lost or added, repair keeps a prefix of the records and moves the rest aside."""
    with tempfile.TemporaryDirectory() as folder:
        where = Folder(folder)
        where.make().log.write_bytes(journal)
        whole = told(where.path)
        at = data.draw(st.integers(0, len(journal)))
        new, skipped = data.draw(st.binary(max_size=300)), data.draw(st.integers(0, 300))
        spoilt = journal[:at] + new + journal[at + skipped :]
        where.log.write_bytes(spoilt)
        try:
            cut = repair(folder)
        except JournalError:  # nothing of the beginning is left
            assert at < 4
            return

        left = told(where.path)
        assert left[1:] == whole[1 : len(left)]
        assert (cut.aside is None) == (cut.size == 0)
        if cut.aside is not None:
            aside = (cut.aside / "journal.log").read_bytes()
            assert spoilt.endswith(aside) or spoilt.startswith(aside)
        assert verify(folder).sound
        with Writer(folder) as writer:
            assert not writer.cut
            writer.add(Kind.NOTE, {})


def test_a_block_of_zeros_before_whole_records(journal: bytes, tmp_path: Path) -> None:
    """A power loss, on a system that reorders block writes, leaves damage."""
    Folder(tmp_path).log.write_bytes(journal[:400] + bytes(100) + journal[500:])
    with pytest.raises(JournalDamagedError):
        list(Reader(tmp_path).records())


def test_two_writers_have_written(tmp_path: Path, journal: bytes) -> None:
    """A duplicate record is damage, even at the end: it is unknown which one was delivered."""
    Folder(tmp_path).log.write_bytes(journal)
    records = list(Reader(tmp_path).records())
    Folder(tmp_path).log.write_bytes(journal + journal[records[-1].offset :])
    with pytest.raises(JournalDamagedError) as caught:
        list(Reader(tmp_path).records())
    assert caught.value.number == len(records)


def test_a_torn_value_that_is_a_journal(tmp_path: Path) -> None:
    """Whole records within the value of a torn one are not taken for records, whether of this journal or another."""
    write(tmp_path / "other", 3)
    records = write(tmp_path / "own", 1)
    own, other = Folder(tmp_path / "own").log, Folder(tmp_path / "other").log
    with Writer(own.parent) as writer:
        writer.add(Kind.RESULT, {}, own.read_bytes() + other.read_bytes() + other.read_bytes(), call=1)
    own.write_bytes(own.read_bytes()[:-1])
    reader = Reader(own.parent)
    assert len(list(reader.records())) == len(records)
    assert reader.torn > own.stat().st_size / 2


@pytest.mark.parametrize("harm", ["missing", "shorter", "changed"])
def test_the_file_of_a_value(tmp_path: Path, harm: str) -> None:
    """Reading a missing or changed value file reports it; repair cuts from its record on."""
    records = write(tmp_path, 2, value=LARGE)
    record = records[2]
    file = Folder(tmp_path).value(record.number)
    {
        "missing": file.unlink,
        "shorter": lambda: file.write_bytes(LARGE[:-1]),
        "changed": lambda: file.write_bytes(LARGE[::-1]),
    }[harm]()
    reader = Reader(tmp_path)
    assert len(list(reader.records())) == len(records)
    with pytest.raises(JournalDamagedError, match=f"record {record.number} at byte {record.offset} ") as caught:
        reader.value(record)
    assert str(file) in str(caught.value)
    findings = verify(tmp_path)
    assert ([error.number for error in findings.values], findings.sound) == ([record.number], False)

    cut = repair(tmp_path)
    assert [r.number for r in Reader(tmp_path).records()] == [0, 1]
    assert cut.aside is not None
    assert {path.name for path in (cut.aside / "values").iterdir()} >= {Folder(tmp_path).value(4).name}
    assert list(Folder(tmp_path).values.iterdir()) == []
    assert verify(tmp_path).sound


def test_a_sound_journal_is_left_alone(tmp_path: Path) -> None:
    """Repairing a sound journal changes nothing."""
    write(tmp_path)
    before = Folder(tmp_path).log.read_bytes()
    cut = repair(tmp_path)
    assert (cut.kept, cut.size, cut.aside) == (13, 0, None)
    assert Folder(tmp_path).log.read_bytes() == before
    assert not Folder(tmp_path).cut.exists()


def test_what_is_no_journal(tmp_path: Path) -> None:
    """A file that is not a journal, a folder without one and a missing folder are distinguished from damage."""
    with pytest.raises(JournalError, match=r"there is no journal in .*missing"):
        list(Reader(tmp_path / "missing").records())
    Folder(tmp_path).log.write_text("something else\n" * 100)
    for use in (lambda: list(Reader(tmp_path).records()), lambda: Writer(tmp_path), lambda: repair(tmp_path)):
        with pytest.raises(JournalError, match="is not the log of a journal") as caught:
            use()
        assert not isinstance(caught.value, JournalDamagedError)
    assert Folder(tmp_path).log.read_text() == "something else\n" * 100
