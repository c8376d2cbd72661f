"""A journal's folder shared by processes, disks and users."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amltk.exceptions import JournalError, JournalLockedError, JournalWriteError
from amltk.journal.folder import Folder
from amltk.journal.kinds import Kind
from amltk.journal.lock import owner_of
from amltk.journal.reader import Reader
from amltk.journal.upkeep import verify
from amltk.journal.writer import Writer
from tests.helpers.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRITES = """
    import sys
    from amltk.journal.kinds import Kind
    from amltk.journal.writer import Writer

    writer = Writer({folder!r})
    print("open", flush=True)
    while True:
        for value in (b"x" * 200, b"y" * {large}):
            number = writer.add(Kind.RESULT, {{"number": writer.number}}, value)
        writer.flush()
        print(f"written {{number}}\\n", end="", flush=True)  # in one piece
    """
"""Writes endlessly, and prints what was written."""


def writes(folder: Path, large: int) -> str:
    return WRITES.format(folder=str(folder), large=large)


@pytest.mark.parametrize("large", [60_000, 200_000], ids=["record", "value's file"])
def test_killed_while_it_writes(tmp_path: Path, large: int) -> None:
    """What a process has asked to write survives its death; the next one gets the lock at once and appends to it."""
    said = 0
    for n in range(4):
        with Script(writes(tmp_path, large)) as script:
            script.wait_for("open", *["written"] * (1 + 7 * n))
            script.send(signal.SIGKILL)
            ended = script.end()
        said = int(ended.lines[-1].split()[-1])
        reader = Reader(tmp_path)
        records = list(reader.records())
        assert len(records) > said
        assert [record.head for record in records[1:]] == [{"number": number} for number in range(1, len(records))]
        findings = verify(tmp_path)
        assert findings.sound
        with Writer(tmp_path) as writer:
            assert (writer.number, writer.cut) == (len(records), findings.torn)
    assert said >= 2 * 22


def test_two_processes(tmp_path: Path) -> None:
    """The second process gets an error with the first one's host and pid, and can read what the first one writes."""
    with Script(writes(tmp_path, 1000)) as script:
        script.wait_for("written")
        with pytest.raises(
            JournalLockedError, match=f"is in use by process {script.pid} on {os.uname().nodename}"
        ) as caught:
            Writer(tmp_path)
        assert (caught.value.pid, caught.value.host) == (script.pid, os.uname().nodename)
        owner = owner_of(Folder(tmp_path).lock)
        assert owner is not None
        assert owner.pid == script.pid
        reader = Reader(tmp_path)
        read = []
        while len(read) < 300:
            read += [record.number for record in reader.records()]
        assert read == list(range(len(read)))
        script.send(signal.SIGKILL)
        script.end()
    assert owner_of(Folder(tmp_path).lock) is None
    Writer(tmp_path).close()


def test_a_forked_child_holds_no_lock(tmp_path: Path) -> None:
    """A child that outlives its killed parent does not lock others out, and cannot write."""
    source = f"""
        import os, sys, time
        from amltk.journal.writer import Writer

        writer = Writer({str(tmp_path)!r})
        parent = os.getpid()
        reading, writing = os.pipe()
        if os.fork():
            os.read(reading, 1)
            os.kill(parent, 9)
        writer.add(11, {{}})
        try:
            writer.flush()
        except Exception as error:
            print(type(error).__name__, error, flush=True)
        os.write(writing, b"x")
        os.close(reading)
        time.sleep(600)
        """
    with Script(source) as script:
        script.wait_for("JournalError")
        script.process.wait(60)
        assert script.session()
        with Writer(tmp_path) as writer:
            assert writer.number == 1
        assert "fork of the process" in script.lines[-1]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of its own, of `size` bytes."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk, which needs root, for the mount of a small one")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a full disk, since none can be mounted here: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(writer: Writer, value: bytes) -> None:
    """Write until the disk is full."""
    while True:
        writer.add(Kind.RESULT, {}, value)
        writer.flush()


@pytest.mark.parametrize("large", [1000, 100_000], ids=["record", "value's file"])
def test_a_full_disk(tmp_path: Path, large: int) -> None:
    """The error names the folder, the reason and the remedy; earlier writes are intact; then writing continues."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(1 << 18))
        writer = Writer(disk / "search")
        with pytest.raises(JournalWriteError, match="No space left on device") as caught:
            fill(writer, b"x" * large)
        assert str(disk / "search") in str(caught.value)
        assert "make room" in str(caught.value)
        findings = verify(disk / "search")
        assert (findings.sound, findings.torn, findings.end.number) == (True, 0, writer.number - 1)
        filler.unlink()
        writer.close()
        with Writer(disk / "search") as again:
            assert again.number == writer.number
        assert verify(disk / "search").sound


def test_a_disk_that_is_full_from_the_beginning(tmp_path: Path) -> None:
    """If nothing can be created on the disk, there is one error, and the lock is free."""
    with small_disk(tmp_path / "disk", 1 << 14) as disk:
        (disk / "search").mkdir()
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(bytes(1 << 20))
        with pytest.raises(JournalError, match=f"{disk}/search cannot be .*: No space left on device"):
            Writer(disk / "search")
        (disk / "filler").unlink()
        Writer(disk / "search").close()


def test_values_on_another_file_system(tmp_path: Path) -> None:
    """Large values may live on another disk, by a link in place of their folder."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (tmp_path / "search").mkdir()
        (tmp_path / "search" / "values").symlink_to(disk)
        with Writer(tmp_path / "search") as writer:
            writer.add(Kind.RESULT, {}, b"x" * 100_000)
        assert [path.stat().st_size for path in disk.iterdir()] == [100_000]
        assert verify(tmp_path / "search").sound


def test_a_read_only_folder(tmp_path: Path) -> None:
    """It can be read; opening it for writing raises an error that says why not."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        with Writer(disk / "search") as writer:
            writer.add(Kind.NOTE, {})
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert len(list(Reader(disk / "search").records())) == 2
        assert verify(disk / "search").sound
        with pytest.raises(JournalError, match=f"{disk}/search cannot be opened for writing: Read-only file system"):
            Writer(disk / "search")
        with pytest.raises(JournalError, match=f"{disk}/new cannot be made: Read-only file system"):
            Writer(disk / "new")


def test_a_folder_of_another_user() -> None:
    """A user without permission gets that error, not one that there is no journal."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: another user's folder, which needs root")
    with tempfile.TemporaryDirectory(prefix="amltk-journal-") as parent:
        os.chmod(parent, 0o755)
        folder = f"{parent}/search"
        Writer(folder).close()
        os.seteuid(65534)
        try:
            told = [str(refusal(use)) for use in (lambda: list(Reader(folder).records()), lambda: Writer(folder))]
        finally:
            os.seteuid(0)
    assert all(f"{folder} cannot be" in line and "Permission denied" in line for line in told)


def refusal(use: Callable[[], object]) -> JournalError:
    """Return the error that `use` raises."""
    with pytest.raises(JournalError) as caught:
        use()
    return caught.value
