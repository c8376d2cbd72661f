"""The folder of one call: what its job is given, and what it leaves behind. All that outlives this program is here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)

FOLDER_MODE = 0o700

NEW = ".new-"
"""The beginning of the names of folders that are being made."""

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ESTALE})
"""What the system says of a file that will not be there a moment later, either."""

TAIL_BYTES = 1500
"""How much of the end of a job's output an error shows, at most."""


class CallFiles:
    """The files of one call, in a folder of its own.

    The folder appears as a whole, before its job is submitted: whoever finds it knows the job by its name, which is
    unique. What the job writes appears as a whole, too.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.call: Path = path / "call"
        self.script: Path = path / "job.sh"
        self.output: Path = path / "output.log"
        self.outcome: Path = path / "outcome"
        self._what = path / "what"
        self._name = path / "name"
        self._number = path / "number"
        self._claim = path / "claim"
        self._lock = path / "lock"

    @classmethod
    def make(cls, path: Path, call: bytes, script: Callable[[Path, str], str], what: bytes = b"") -> CallFiles:
        """Make the folder of a call.

        Args:
            path: Where it is to be.
            call: What the job reads.
            script: Gives the script of the job for the folder and the name of the job.
            what: What it is recognised by, besides its folder.

        Raises:
            OSError: It cannot be made.
        """
        path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        name = f"amltk-{uuid.uuid4().hex[:12]}-{path.name}"
        made = cls(Path(tempfile.mkdtemp(prefix=NEW, dir=path.parent)))
        try:
            made.call.write_bytes(call)
            made.script.write_bytes(os.fsencode(script(path, name)))
            made._what.write_bytes(what)
            made._name.write_text(name)
            made._lock.touch()
            made.path.rename(path)
        except BaseException:
            shutil.rmtree(made.path, ignore_errors=True)
            raise
        return cls(path)

    @cached_property
    def job_name(self) -> str:
        """The name of its job, which no other has. It is needed even if someone has removed the folder."""
        return self._name.read_text()

    @property
    def made_at(self) -> float:
        """When the folder was made, in seconds since the epoch."""
        return self._name.stat().st_mtime

    def what(self) -> bytes | None:
        """What the call is recognised by; None if nothing here is of use any more, such as without the job's name."""
        return _read(self._what) if self._name.exists() else None

    # ------------------------------------------------------------------ the job

    @contextmanager
    def submitting(self) -> Iterator[int | None]:
        """Be the only one who submits the job. Gives a descriptor, which `sbatch` must inherit.

        If this process is killed, `sbatch` still has it until it has ended. Gives None while another has it.
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield descriptor if _locks(descriptor) else None
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has the descriptor, too
        finally:
            os.close(descriptor)

    def note_submitted(self, number: str) -> None:
        """Note that the job was submitted, if that can be written. Else it is found by its name."""
        try:
            _write(self._number, number.encode())
        except OSError as error:
            _log.warning("the number of job %s of Slurm cannot be written: %s", number, error)

    @property
    def number(self) -> str:
        """Slurm's number of the job; empty if it is not known that it was submitted."""
        return (_read(self._number) or b"").decode() or self.claimed_by()

    def awaits(self, job_name: str) -> bool:
        """In the job: whether the call is that of the job of this name, and has no outcome yet."""
        name = _read(self._name)
        return name is not None and name.decode() == job_name and not self.outcome.exists()

    def claim(self, number: str) -> bool:
        """In the job: take the call. Whether this job may compute it: not if another has it."""
        own = self.path / f"claim-{number}"
        own.write_text(number)
        with contextlib.suppress(FileExistsError):
            os.link(own, self._claim)
        own.unlink()
        return self.claimed_by() == number

    def claimed_by(self) -> str:
        """The number of the job that has begun; empty if none has."""
        return (_read(self._claim) or b"").decode()

    # ------------------------------------------------------------------ the outcome

    def write_outcome(self, outcome: bytes) -> None:
        """In the job: leave the outcome."""
        _write(self.outcome, outcome)

    def read_outcome(self) -> bytes | None:
        """The outcome; None if there is none yet."""
        with contextlib.suppress(OSError):
            os.close(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY))  # has NFS look for new names
        return _read(self.outcome)

    def last_words(self) -> str:
        """The end of what the job has printed."""
        with contextlib.suppress(OSError), self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
        return ""

    def close(self) -> None:
        """Keep nothing but what the job has printed: the call is over, and nobody will ask for it."""
        # What it is found by goes first, and the lock last: until then, `left_in` finds what is half cleaned up.
        self._what.unlink(missing_ok=True)
        for path in self._others():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if not self.output.stat().st_size:
                self.output.unlink()
        self._lock.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()  # unless something was printed

    def _others(self) -> list[Path]:
        """All files but the lock and what was printed; with those that a job had begun to write when it was killed."""
        try:
            return [path for path in self.path.iterdir() if path not in {self._lock, self.output}]
        except FileNotFoundError:
            return []

    @property
    def is_closed(self) -> bool:
        """Whether it was cleaned up."""
        return not self._lock.exists()

    def set_aside(self) -> None:
        """Make room for another call in the same place."""
        self.path.rename(self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:6]}"))


def left_in(folder: Path) -> list[CallFiles]:
    """The folders of calls that earlier programs have left; those that were just being made are removed."""
    if not folder.is_dir():
        return []
    for path in folder.glob(f"{NEW}*"):
        shutil.rmtree(path, ignore_errors=True)
    found = (CallFiles(path) for path in folder.iterdir() if re.fullmatch(r"\d+(-\d+)?", path.name))
    return [files for files in found if not files.is_closed]


def _locks(descriptor: int) -> bool:
    """Lock a file; whether nobody else has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: then `claim` alone keeps a call from being computed twice
    return True


def _read(path: Path) -> bytes | None:
    """The content of a file; None if it is not there, or if someone has made it impossible to reach."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears as a whole, and survives a loss of power."""
    new = path.with_name(f".{path.name}-{uuid.uuid4().hex}")  # a job that goes on elsewhere may write it, too
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)  # it may have filled the disk
        raise
