"""All calls of an experiment, for programs that look at it while it goes on or afterwards."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from amltk import _extras
from amltk.journal.format import START
from amltk.journal.history.call import STATES, Call, can_end
from amltk.journal.history.summary import Summary, summarize
from amltk.journal.kinds import Kind
from amltk.journal.left_out import LeftOut
from amltk.journal.reader import Reader, read_record

if TYPE_CHECKING:
    import os

    import pandas as pd

    from amltk.journal.folder import Folder
    from amltk.journal.format import Record


def open(folder: str | os.PathLike[str]) -> History:  # noqa: A001 - as `gzip.open` and its like
    """Read what is known of an experiment, also while another process goes on with it.

    ```python
    history = amltk.journal.open("search")
    slowest = max(history.calls(), key=lambda call: call.duration or 0)
    ```

    Args:
        folder: The folder of its journal.

    Raises:
        JournalError: There is no journal, or it cannot be read; see its subclasses.
    """
    history = History(folder)
    history.calls()
    return history


class History:
    """What the journal of an experiment says. Nothing is kept open, and values stay pickles.

    Args:
        folder: The folder of the journal.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._reader = Reader(folder)
        self._left_out = LeftOut()
        self._calls: dict[int, Call] = {}
        self._ends: dict[int, tuple[int, int]] = {}  # where the records of ends begin and end, in bytes

    @property
    def folder(self) -> Folder:
        """The folder of the journal."""
        return self._reader.folder

    def calls(self) -> list[Call]:
        """All calls so far, in the order of their numbers. Only what is new is read.

        Raises:
            JournalError: The journal cannot be read; see its subclasses.
        """
        while self._read():
            self._reader, self._calls, self._ends = Reader(self.folder), {}, {}
        return [self._calls[number] for number in sorted(self._calls)]

    def _read(self) -> bool:
        """Read what is new; whether that leaves out what was read before, so that all is to be read once more."""
        left_out, is_behind = self._left_out, False
        for record in self._reader.records():
            if record.call is None:
                is_behind = left_out.take(record) or is_behind
                if record.kind == Kind.SESSION:
                    self._forget(record)
                continue
            if left_out and record.number in left_out:
                continue
            if record.kind == Kind.SUBMISSION:
                self._calls[record.call] = Call.submitted_by(record)
                self._ends.pop(record.call, None)
            elif record.kind in STATES:
                call = self._calls.setdefault(record.call, Call(record.call))
                if can_end(call.state, record.kind):
                    call.end(record)
                    self._ends[record.call] = record.offset, record.end
        return is_behind

    def _forget(self, record: Record) -> None:
        """Take back the ends of calls that are retried."""
        for call in record.head.get("retried", ()):
            if call in self._calls:
                self._calls[call] = self._calls[call].retried()
                self._ends.pop(call, None)

    def value(self, number: int) -> bytes | None:
        """The pickle of what a call returned or raised; None if it has none.

        Loading a pickle runs what its writer wanted: do it with journals of your own only.

        Args:
            number: The number of the call.

        Raises:
            KeyError: No end of such a call has been read.
            JournalDamagedError: The value is not there, or is not what was written.
            JournalError: It was cut off since it was read.
        """
        return self._reader.value(read_record(self.folder, *self._ends[number]))

    def df(self) -> pd.DataFrame:
        """The calls as a DataFrame, one row each, with times in UTC. Needs pandas.

        Raises:
            MissingExtraError: pandas is not installed.
            JournalError: The journal cannot be read; see its subclasses.
        """
        load: Any = _extras.load("amltk.journal.history.frame", needs="pandas", extra="monitor")
        frame: pd.DataFrame = load.frame(self.calls())
        return frame

    def summary(self) -> Summary:
        """How the experiment stands. It reads all of the journal, but much faster than `calls` does.

        Raises:
            JournalError: The journal cannot be read; see its subclasses.
        """
        return summarize(Reader(self.folder, position=START))

    def _repr_html_(self) -> str:
        """The page of the experiment in a frame, for notebooks."""
        page: Any = importlib.import_module("amltk.web.report")  # of a layer above
        html: str = page.frame(self.folder.path)
        return html
