"""What a user says about the journal of a run."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, cast, get_args

Sync: TypeAlias = Literal["process", "machine"]
"""What a record outlives: the end of the process, or a loss of power, too."""

OnMismatch: TypeAlias = Literal["raise", "branch"]
"""What to do about a program that does something else than what is recorded."""


class Journal:
    """The journal of an experiment: `scheduler.run(journal=Journal("search", sync="machine"))`.

    Args:
        folder: Its folder, which is made if it is not there.
        sync: What a record outlives: with `"process"` the end of this process, however it ends; with `"machine"` a loss
            of power, too, which takes as long as the disk needs.
        on_mismatch: What happens if the program, started again, does something else than what is recorded: `"raise"`
            raises a `JournalMismatchError` before anything is computed; `"branch"` keeps what precedes the difference
            and goes on from there. Recorded outcomes of calls that are still the same are used.

    Raises:
        ValueError: `sync` or `on_mismatch` has another value.
        TypeError: `folder` is no path.

    Attributes:
        folder: The folder.
        sync: As given.
        on_mismatch: As given.
    """

    __slots__ = ("folder", "on_mismatch", "sync")

    def __init__(
        self, folder: str | os.PathLike[str], *, sync: Sync = "process", on_mismatch: OnMismatch = "raise"
    ) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"folder={folder!r}: must be the path of a folder, not {type(folder).__name__}")
        if sync not in get_args(Sync):
            raise ValueError(f"sync={sync!r}: must be {' or '.join(map(repr, get_args(Sync)))}")
        if on_mismatch not in get_args(OnMismatch):
            raise ValueError(f"on_mismatch={on_mismatch!r}: must be {' or '.join(map(repr, get_args(OnMismatch)))}")
        self.folder: str = os.fspath(folder)
        self.sync: Sync = sync
        self.on_mismatch: OnMismatch = on_mismatch

    def __repr__(self) -> str:
        return f"Journal({self.folder!r}, sync={self.sync!r}, on_mismatch={self.on_mismatch!r})"


def check_journal(given: object) -> Journal | None:
    """The journal that is given to `run`, or None.

    Raises:
        TypeError: It is neither a path nor a `Journal`.
    """
    if given is None or isinstance(given, Journal):
        return given
    if isinstance(given, str | os.PathLike):
        return Journal(cast("str", given))
    raise TypeError(f"journal={given!r}: must be the path of a folder, a Journal(...) or None")
