"""What a user says about the journal of a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from amltk._checks import check_optional_seconds

if TYPE_CHECKING:
    from amltk.types import Duration

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
        suspend_before: Suspend the run this long before the end of the batch job in which the program itself runs:
            seconds, a text such as `"5 min"`, or a `timedelta`. `run` then returns an `ExitState` with the code
            STOPPED, and the next job goes on. Slurm tells its jobs their end (`SLURM_JOB_END_TIME`); elsewhere this
            has no effect. None to run until something else ends the run.

    Raises:
        ValueError: `folder` is empty, `sync` or `on_mismatch` has another value, or `suspend_before` is negative or not
            finite.
        TypeError: `folder` is no path, or `suspend_before` no duration.

    Attributes:
        folder: The folder.
        sync: As given.
        on_mismatch: As given.
        suspend_before: In seconds.
    """

    __slots__ = ("folder", "on_mismatch", "suspend_before", "sync")

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        sync: Sync = "process",
        on_mismatch: OnMismatch = "raise",
        suspend_before: Duration | None = None,
    ) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"folder={folder!r}: must be the path of a folder, not {type(folder).__name__}")
        if not os.fspath(folder):
            raise ValueError(f"folder={folder!r}: must be the path of a folder; '.' is the current one")
        if sync not in get_args(Sync):
            raise ValueError(f"sync={sync!r}: must be {' or '.join(map(repr, get_args(Sync)))}")
        if on_mismatch not in get_args(OnMismatch):
            raise ValueError(f"on_mismatch={on_mismatch!r}: must be {' or '.join(map(repr, get_args(OnMismatch)))}")
        self.folder: str = os.fspath(folder)
        self.sync: Sync = sync
        self.on_mismatch: OnMismatch = on_mismatch
        self.suspend_before: float | None = check_optional_seconds("suspend_before", suspend_before)

    def __repr__(self) -> str:
        more = "" if self.suspend_before is None else f", suspend_before={self.suspend_before:g}"
        return f"Journal({self.folder!r}, sync={self.sync!r}, on_mismatch={self.on_mismatch!r}{more})"


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
