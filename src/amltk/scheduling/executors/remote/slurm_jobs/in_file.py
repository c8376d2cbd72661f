"""Shared objects in files, for jobs on nodes that share a file system."""

from __future__ import annotations

import hashlib
import mmap
import uuid
from typing import TYPE_CHECKING, NamedTuple

from amltk.scheduling.executors.remote.slurm_jobs.call_files import FOLDER_MODE

if TYPE_CHECKING:
    from pathlib import Path


class InFile(NamedTuple):
    """The contents of a shared object, in a file that is named after them: a later program has the same.

    Attributes:
        path: The path of the file.
    """

    path: Path

    @classmethod
    def make(cls, folder: Path, contents: memoryview) -> InFile:
        """Write the file, unless it is there.

        Raises:
            OSError: It cannot be written.
        """
        path = folder / hashlib.sha256(contents).hexdigest()
        if not path.exists():
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            new = path.with_suffix(f".{uuid.uuid4().hex}")
            new.write_bytes(contents)
            new.rename(path)
        return cls(path)

    def fetch(self) -> memoryview:
        """Map the contents."""
        with self.path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
