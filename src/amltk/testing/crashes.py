"""Shows whether a program that has a journal survives a crash at any moment."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from amltk.journal.folder import Folder
from amltk.journal.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class CrashError(AssertionError):
    """A program does not survive a crash: started again, it comes to know something else.

    Attributes:
        record: How many records had been written when it crashed.
    """

    def __init__(self, message: str = "", *, record: int = 0) -> None:
        super().__init__(message)
        self.record = record


def crash_everywhere(program: Callable[[Path], T], *, every: int = 1) -> T:
    """Run a program to its end, and then again as if it had been killed after each record of its journal.

    Each time it is started on what had been written until then, and goes on to its end. Started once more on what is
    written then, it must come to know the same, and compute nothing.

    ```python
    def program(folder):
        executor = SimulatedExecutor(4, outcome=operator.call)
        search = Search(Scheduler(executor))  # subscribes its callbacks
        run_in_virtual_time(search.scheduler.async_run(journal=folder, display=False))
        return search.scores

    crash_everywhere(program)
    ```

    Args:
        program: Makes everything anew: the scheduler, its executor and its callbacks; runs them with the journal in the
            folder that it is given; and returns what its callbacks know at the end, which is compared with `==`. In
            virtual time that takes no time; see `run_in_virtual_time`.
        every: Crash after every n-th record only, for long programs.

    Returns:
        What the program knows at the end of a run that is not disturbed.

    Raises:
        CrashError: Started again, it came to know something else, or computed something.
        JournalError: It cannot be replayed; see its subclasses.
    """
    with tempfile.TemporaryDirectory(prefix="amltk-crash-") as place:
        folder, whole = Path(place, "journal"), Path(place, "whole")
        undisturbed = program(folder)
        _check_replay(program, folder, undisturbed, "was not disturbed", 0)
        shutil.copytree(folder, whole)
        for record, end in list(_ends(whole))[::every]:
            shutil.rmtree(folder)
            shutil.copytree(whole, folder)
            os.truncate(Folder(folder).log, end)  # what a killed process has left
            how = f"was killed after record {record}"
            try:
                _check_replay(program, folder, program(folder), how, record)
            except Exception as error:
                error.add_note(f"the program {how}, and was started again")
                raise
    return undisturbed


def _check_replay(program: Callable[[Path], T], folder: Path, known: T, how: str, record: int) -> None:
    """Check that replaying the journal of a run that has ended gives the same, and that nothing is added."""
    log = Folder(folder).log
    size = log.stat().st_size
    again = program(folder)
    if again != known:
        raise CrashError(f"the program {how}, and came to know {known!r}; its journal tells {again!r}", record=record)
    if log.stat().st_size != size:
        raise CrashError(f"the program {how}, and its replay has not ended where the journal does", record=record)


def _ends(folder: Path) -> Iterator[tuple[int, int]]:
    """The numbers of the records, and where they end."""
    return ((record.number, record.end) for record in Reader(folder).records())
