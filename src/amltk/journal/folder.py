"""The folder of an experiment: where its files are. Their names never come from data."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from amltk._process.limits import reason_of
from amltk.exceptions import JournalError

if TYPE_CHECKING:
    from typing import Self

FOLDER_MODE: int = 0o700
FILE_MODE: int = 0o600

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room."""


class Folder:
    """The folder of an experiment.

    Args:
        path: Where it is. What it means does not change when the program changes its working directory.

    Attributes:
        path: Its absolute path.
        log: The file with the records.
        lock: The file whose lock the writing process has.
        values: The folder with values that are too large for a record.
        calls: The folder with the folders of calls.
        jobs: The folder with what batch jobs of calls are given and leave behind.
        cut: The folder with what `repair` and `rewind` have cut off.
        status: The file in which a run reports what is running.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(os.path.abspath(os.path.expanduser(os.fspath(path))))  # noqa: PTH100, PTH111 - not resolve()
        self.log: Path = self.path / "journal.log"
        self.lock: Path = self.path / "lock"
        self.values: Path = self.path / "values"
        self.calls: Path = self.path / "calls"
        self.jobs: Path = self.path / "jobs"
        self.cut: Path = self.path / "cut"
        self.status: Path = self.path / "status.json"

    def __str__(self) -> str:
        return str(self.path)

    def make(self) -> Self:
        """Make it if it is not there, readable by its owner only; a folder that is there stays as it is.

        Raises:
            JournalError: It cannot be made, or cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(FOLDER_MODE, exist_ok=True)
            self.values.mkdir(FOLDER_MODE, exist_ok=True)
        except FileExistsError as error:
            raise JournalError(f"the journal {self} is a file: give a folder, or the name of one to be made") from error
        except OSError as error:
            raise unusable(self, "made", error) from error
        return self

    def value(self, number: int) -> Path:
        """The file with the value of the record of this number."""
        return self.values / value_name(number)

    def call(self, number: int) -> Path:
        """The place of the call of this number, which stays the same over attempts and restarts; made if need be."""
        path = self.calls / str(int(number))
        path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        return path


def value_name(number: int) -> str:
    """The name, within its folder, of the file with the value of the record of this number."""
    return f"{number:012d}"


def sync_folder(path: Path) -> None:
    """Have the system keep the names in a folder, over a loss of power, too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unusable(folder: Folder, what: str, error: OSError) -> JournalError:
    """The error that says that a folder cannot be made, opened or read."""
    where = f" ({error.filename})" if error.filename is not None and Path(error.filename) != folder.path else ""
    remedy = "Make room" if error.errno in NO_ROOM else "Give a folder that this user may read and write"
    return JournalError(f"the journal {folder} cannot be {what}: {reason_of(error)}{where}. {remedy}")
