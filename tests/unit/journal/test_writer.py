"""What a writer guarantees, and what it reports when it cannot."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import (
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    JournalVersionError,
    JournalWriteError,
)
from amltk.journal import format as journal_format
from amltk.journal.folder import Folder
from amltk.journal.format import MAX_HEAD, MAX_INLINE, Place
from amltk.journal.kinds import Kind
from amltk.journal.reader import Reader
from amltk.journal.upkeep import verify
from amltk.journal.writer import Writer
from tests.unit.journal.making import LARGE, told, write

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Numbers, kinds, calls, times, heads of any text and values of any size survive the round trip."""
    head = {
        "text": 'quotes ", a \udcff that is no text, 日本',
        "list": [1, None, True, 2.5, -1e300],
        "nested": {"": {}},
    }
    values = [None, b"", b"x", b"x" * MAX_INLINE, b"x" * (MAX_INLINE + 1), bytearray(LARGE), memoryview(LARGE)]
    with Writer(tmp_path / "new" / "folder") as writer:
        for number, value in enumerate(values, 1):
            assert writer.add(Kind.NOTE, head, value, call=2**40 + number, at=number / 3) == number
    read = told(tmp_path / "new" / "folder")[1:]
    assert read == [(n, Kind.NOTE, 2**40 + n, n / 3, head, value) for n, value in enumerate(values, 1)]
    records = list(Reader(tmp_path / "new" / "folder").records())
    assert [record.place for record in records[1:]] == [Place.NOWHERE] + [Place.INLINE] * 3 + [Place.FILE] * 3


def test_modes(tmp_path: Path) -> None:
    """Only its owner can read a journal; an existing folder keeps its mode."""
    write(tmp_path / "new", 1, value=LARGE)
    folder = Folder(tmp_path / "new")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder.path, *folder.path.rglob("*")]}
    assert {path.name for path in modes} == {"new", "journal.log", "lock", "values", folder.value(2).name}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())
    assert stat.S_IMODE(folder.call(7).stat().st_mode) == 0o700
    (tmp_path / "old").mkdir(0o755)
    write(tmp_path / "old")
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o755


def test_a_flush_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records were added, one write appends them to the log; with sync="machine" one sync follows."""
    calls: list[str] = []
    for name in ("write", "fsync", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))[1])
    with Writer(tmp_path / "a") as writer:
        calls.clear()
        for call in range(100):
            writer.add(Kind.SUBMISSION, {}, b"x" * MAX_INLINE, call=call)
        writer.flush()
        writer.flush()
        assert calls == ["write"]
    with Writer(tmp_path / "b", sync="machine") as writer:
        calls.clear()
        writer.add(Kind.SUBMISSION, {})
        writer.add(Kind.SUBMISSION, {})
        writer.flush()
        assert calls == ["write", "fdatasync"]


def test_a_value_is_on_the_disk_before_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a value and its directory entry are synced before the record that names it is written."""
    calls: list[tuple[str, str]] = []

    def noting(name: str) -> Any:
        real = getattr(os, name)

        def note(descriptor: int, *args: Any) -> Any:
            calls.append((name, Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
            return real(descriptor, *args)

        return note

    with Writer(tmp_path) as writer:
        writer.add(Kind.RESULT, {}, LARGE)
        for name in ("write", "fsync"):
            monkeypatch.setattr(os, name, noting(name))
        writer.flush()
        monkeypatch.undo()
    file = Folder(tmp_path).value(1).name
    assert calls == [("write", file), ("fsync", file), ("fsync", "values"), ("write", "journal.log")]


@pytest.mark.parametrize("room", range(0, 550, 23))
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Whole records of a partial write stay, the rest is cut off, and a flush writes it once there is space."""
    real = os.write

    def write_some(descriptor: int, data: Any) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = real(descriptor, bytes(data)[:room])
        room -= done
        return done

    write(tmp_path, 2)
    before = told(tmp_path)
    with Writer(tmp_path) as writer:
        for n in range(6):
            writer.add(Kind.NOTE, {"n": n}, b"x" * 40, at=0.0)
        monkeypatch.setattr(os, "write", write_some)
        with pytest.raises(JournalWriteError, match="No space left on device") as caught:
            writer.flush()
        assert str(tmp_path) in str(caught.value)
        assert "make room" in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        reader = Reader(tmp_path)
        read = len(list(reader.records()))
        assert (reader.torn, told(tmp_path)[:5]) == (0, before)
        monkeypatch.undo()
        writer.flush()
        assert [entry[4].get("n") for entry in told(tmp_path)[5:]] == list(range(6))
        assert 5 <= read < 11


def test_a_full_disk_for_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value without disk space leaves neither a record nor part of a file; it is written later."""

    def write_nothing(*_: Any) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with Writer(tmp_path) as writer:
        writer.add(Kind.RESULT, {}, LARGE, call=0)
        monkeypatch.setattr(os, "write", write_nothing)
        with pytest.raises(JournalWriteError, match="make room"):
            writer.flush()
        monkeypatch.undo()
        assert list(Folder(tmp_path).values.iterdir()) == []
        assert len(told(tmp_path)) == 1
    assert told(tmp_path)[1][5] == LARGE


def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the content of the disk is unknown: nothing more is written."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = Writer(tmp_path, sync="machine")
    writer.add(Kind.NOTE, {})
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(JournalWriteError, match="check the disk"):
        writer.flush()
    monkeypatch.undo()
    writer.add(Kind.NOTE, {})
    with pytest.raises(JournalWriteError, match="Input/output error"):
        writer.flush()
    with pytest.raises(JournalWriteError):
        writer.close()
    assert len(told(tmp_path)) == 2
    Writer(tmp_path).close()  # the lock is free


@pytest.mark.parametrize("after", [0, 50, 10**6])
def test_an_exception_in_the_midst_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """If a signal handler raises before a flush knows what was written, all of it is there later, exactly once."""
    real = os.write

    def interrupted(descriptor: int, data: Any) -> int:
        real(descriptor, bytes(data)[:after])
        raise KeyboardInterrupt

    with Writer(tmp_path) as writer:
        writer.add(Kind.NOTE, {"n": 0})
        writer.add(Kind.NOTE, {"n": 1})
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
        monkeypatch.undo()
        writer.add(Kind.NOTE, {"n": 2})
    assert [entry[4].get("n") for entry in told(tmp_path)[1:]] == [0, 1, 2]


def test_an_exception_anywhere(tmp_path: Path) -> None:
    """Wherever a signal handler raises, what was added is there later: once, in order, with its value."""

    def work(writer: Writer, added: list[int], first: int) -> None:
        for n in range(first, first + 3):
            writer.add(Kind.NOTE, {"n": n}, LARGE if n % 3 == 1 else b"x")
            added.append(n)
        writer.flush()

    at, done = 0, False
    while not done:
        at += 1
        with Writer(tmp_path / str(at)) as writer:
            added: list[int] = []
            done = not raises_at_line(at, lambda writer=writer, added=added: work(writer, added, 0))
            n, sure = writer.number, len(added)
            work(writer, added, 10)
        entries = told(tmp_path / str(at))
        numbers = [entry[4]["n"] for entry in entries[1:]]
        assert numbers == [*range(n - 1), 10, 11, 12]
        assert n - 1 >= sure
        assert [entry[5] for entry in entries[1:]] == [LARGE if m in (1, 10) else b"x" for m in numbers]
        assert verify(tmp_path / str(at)).sound
    assert at > 50
    close_files_in(tmp_path)


def close_files_in(folder: Path) -> None:
    """Close files left open if the exception comes between opening a file and the line that ensures its closing."""
    for name in os.listdir("/proc/self/fd"):
        link = f"/proc/self/fd/{name}"
        if os.path.islink(link) and os.readlink(link).startswith(f"{folder}/"):
            os.close(int(name))


def raises_at_line(at: int, work: Callable[[], object]) -> bool:
    """Raise `KeyboardInterrupt` before the journal's line number `at` to run; whether that many lines ran."""
    lines = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_globals["__name__"].startswith("amltk.journal") and event == "line":
            lines += 1
            if lines == at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_somebody_else_writes(tmp_path: Path) -> None:
    """Where locks do not work, as on some network file systems, a writer notices another writer before it writes."""
    with Writer(tmp_path) as writer:
        with Folder(tmp_path).log.open("ab") as other:
            other.write(b"something")
        writer.add(Kind.NOTE, {})
        with pytest.raises(JournalWriteError, match="another process has changed the journal"):
            writer.flush()
        Folder(tmp_path).log.write_bytes(Folder(tmp_path).log.read_bytes()[:20])
        with pytest.raises(JournalWriteError, match="another process has changed the journal"):
            writer.flush()
        Folder(tmp_path).log.unlink()
        with pytest.raises(JournalWriteError, match="was removed"):
            writer.flush()
        with pytest.raises(JournalWriteError, match="was removed"):
            writer.close()


def test_a_folder_that_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer stays with its folder when that is renamed or the program changes its working directory."""
    monkeypatch.chdir(tmp_path)
    with Writer("before") as writer:
        os.rename("before", "after")
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        writer.add(Kind.RESULT, {}, LARGE)
    assert told(tmp_path / "after")[1][5] == LARGE
    assert not os.listdir(tmp_path / "other")


def test_a_newer_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer major version is rejected, naming the version that wrote it; a newer minor one is read."""
    monkeypatch.setattr("amltk.journal.writer.VERSION", (1, 7))
    with Writer(tmp_path / "minor") as writer:
        writer.add(200, {"unknown": True}, b"value", call=3)
        writer.add(Kind.NOTE, {"new key": True})
    assert [entry[:3] for entry in told(tmp_path / "minor")[1:]] == [(1, 200, 3), (2, Kind.NOTE, None)]
    monkeypatch.setattr("amltk.journal.writer.VERSION", (2, 0))
    Writer(tmp_path / "major").close()
    monkeypatch.undo()
    for use in (lambda: told(tmp_path / "major"), lambda: Writer(tmp_path / "major")):
        with pytest.raises(JournalVersionError, match=r"has format 2\.0, and this version of amltk reads 1\.x"):
            use()
    Writer(tmp_path / "minor").close()


def test_what_cannot_be_in_a_head(tmp_path: Path) -> None:
    """A head that JSON cannot represent or that is too large is rejected, and leaves nothing behind."""
    with Writer(tmp_path) as writer:
        with pytest.raises(TypeError, match="not JSON serializable"):
            writer.add(Kind.NOTE, {"x": object()})
        with pytest.raises(ValueError, match="at most 16,777,216 are allowed; put it in the value"):
            writer.add(Kind.NOTE, {"x": "x" * MAX_HEAD})
        assert writer.add(Kind.NOTE, {"x": "x" * (MAX_HEAD - 100)}) == 1
    assert len(told(tmp_path)) == 2


def test_a_head_needs_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is the same if Python lacks the C encoder."""
    head = {"a": [1.5, None, "ä", {"b": float("nan")}]}
    fast = journal_format._encoder()(head)
    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    assert journal_format._encoder()(head) == fast == '{"a":[1.5,null,"\\u00e4",{"b":NaN}]}'


def test_a_bad_sync(tmp_path: Path) -> None:
    """An invalid `sync` raises an error that lists the valid values, and creates no folder."""
    with pytest.raises(ValueError, match='sync=\'disk\': must be "process" or "machine"'):
        Writer(tmp_path / "new", sync="disk")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A file in place of the folder, or a folder in place of a file, is reported."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="is a file: give a folder"):
        Writer(tmp_path / "file")
    (tmp_path / "folder" / "journal.log").mkdir(parents=True)
    with pytest.raises(JournalError, match="cannot be read: Is a directory"):
        list(Reader(tmp_path / "folder").records())
    with pytest.raises(JournalError, match="cannot be opened for writing: Is a directory"):
        Writer(tmp_path / "folder")


def test_closing_twice(tmp_path: Path) -> None:
    """A second close does nothing; records added after the first one cannot be written."""
    writer = Writer(tmp_path)
    writer.close()
    writer.close()
    writer.add(Kind.NOTE, {})
    with pytest.raises(JournalError, match="it was closed"):
        writer.flush()


def test_one_process_opens_it_twice(tmp_path: Path) -> None:
    """The second writer is rejected, and the first one continues."""
    with Writer(tmp_path) as writer:
        with pytest.raises(JournalLockedError, match="is in use by this process") as caught:
            Writer(tmp_path)
        assert (caught.value.host, caught.value.pid) == (os.uname().nodename, os.getpid())
        writer.add(Kind.NOTE, {})
    assert len(told(tmp_path)) == 2


def test_following(tmp_path: Path) -> None:
    """A reader continues where it stopped; a record still being written is left for the next time."""
    log = Folder(tmp_path).log
    with Writer(tmp_path) as writer:
        reader = Reader(tmp_path)
        assert [record.number for record in reader.records()] == [0]
        assert list(reader.records()) == []
        writer.add(Kind.NOTE, {"n": 1})
        writer.flush()
        whole = log.read_bytes()
        log.write_bytes(whole[:-1])
        assert list(reader.records()) == []
        assert reader.torn > 0
        log.write_bytes(whole)
        assert [record.head for record in reader.records()] == [{"n": 1}]
        assert reader.torn == 0
        writer.add(Kind.NOTE, {"n": 2})
        writer.flush()
        assert [record.head for record in Reader(tmp_path, position=reader.position).records()] == [{"n": 2}]
    log.write_bytes(whole[:-20])
    with pytest.raises(JournalError, match="has become shorter since it was last read"):
        list(reader.records())


def test_a_reader_stays_before_damage(tmp_path: Path) -> None:
    """Reading again resumes at the damage: over a network file system a later attempt may succeed."""
    records = write(tmp_path)
    log, whole = Folder(tmp_path).log, Folder(tmp_path).log.read_bytes()
    spoilt = bytearray(whole)
    spoilt[records[4].offset + 20] ^= 1
    log.write_bytes(spoilt)
    reader = Reader(tmp_path)
    read = []
    with pytest.raises(JournalDamagedError):
        read.extend(record.number for record in reader.records())
    log.write_bytes(whole)
    assert read + [record.number for record in reader.records()] == list(range(13))


def test_times_are_now(tmp_path: Path) -> None:
    """A record without an explicit time gets the time at which it was added."""
    before = time.time()
    write(tmp_path, 1)
    assert all(abs(entry[3] - before) < 3600 for entry in told(tmp_path))
