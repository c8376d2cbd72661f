"""Where the jobs of a batch system write, and what they have written last."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

SHOWN_LINES = 20
"""How many lines of a log an error shows, at most."""

READ_BYTES = 16_384
"""How much of the end of a log is read."""

_IN_SCRIPTS = re.compile(r"[\w./+,:@=~-]+")
"""What the path of a folder may consist of, so that batch systems take it in a job's script as it is."""


class JobLogs:
    """The folder of the logs of a cluster's jobs.

    Attributes:
        folder: The folder, once it is decided; None while it is not, or where jobs write elsewhere.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._is_own = False

    def decide(self, wanted: Path | None) -> None:
        """Decide on the folder.

        Args:
            wanted: The folder that the run has for them; None for a new one below the working directory.
        """
        here = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        folder = (wanted or Path("amltk-jobs", here)).absolute()
        self._is_own = wanted is None
        if _IN_SCRIPTS.fullmatch(str(folder)):  # else a batch system would misread it: leave it to its own default
            self.folder = folder

    def said(self) -> str:
        """Where they are, for messages."""
        if self.folder is None:
            return "the logs of the jobs are where the batch system puts them"
        return f"the logs of the jobs are in {self.folder}, unless log_directory= says otherwise"

    def release(self) -> None:
        """Remove the folder if no job has written into it."""
        if self.folder is not None:
            with contextlib.suppress(OSError):  # it is not empty, or was not made
                self.folder.rmdir()
                if self._is_own:
                    self.folder.parent.rmdir()


def files_of(folder: str | None, job: str) -> list[Path]:
    """The logs of a job that have something in them."""
    if folder is None or not job:
        return []
    number = re.compile(rf"(?<!\d){re.escape(job)}(?!\d)")
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in entries if number.search(entry.name) and entry.stat().st_size]
    except OSError:
        return []
    return sorted(found)


def end_of(path: Path, n_lines: int | None = SHOWN_LINES) -> str:
    """The last lines of a log; all that is read of it if `n_lines` is None."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - READ_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(it cannot be read: {error})"
    lines = text.rstrip().splitlines()
    return "\n".join(lines if n_lines is None else lines[-n_lines:])


def quote_logs(folder: str | None, job: str) -> str:
    """The ends of the logs of a job, indented, for messages; says so if there is none."""
    files = files_of(folder, job)
    if not files:
        return "it has left no log" if folder is not None else "its log is where the batch system puts it"
    quoted = []
    for path in files:
        lines = "\n".join(f"    {line}" for line in end_of(path).splitlines())
        quoted.append(f"the end of its log {path}:\n{lines}")
    return "\n".join(quoted)
