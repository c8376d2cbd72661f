"""Records now and then that a run is alive, so that its timeout counts the time in which nothing else happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk.exceptions import JournalError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling._journal.run_journal import RunJournal

SECONDS = 30.0
"""How often it is looked whether anything was recorded. A killed process loses at most twice this time."""


class Heartbeat:
    """Writes a record, while calls are pending, whenever nothing was recorded for a while. On the loop's thread.

    Args:
        loop: The loop of the run.
        journal: The journal.
        is_needed: Whether calls are pending.
        on_error: Called with the error if the journal cannot be written.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: RunJournal,
        is_needed: Callable[[], bool],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._is_needed = is_needed
        self._on_error = on_error
        self._handle: asyncio.TimerHandle | None = None
        self._n_records = 0  # at the last look

    def keep(self) -> None:
        """Go on, or begin; called whenever everything that has happened was told."""
        if self._handle is None and self._is_needed():
            self._n_records = self._journal.n_records
            self._handle = self._loop.call_later(SECONDS, self._beat)

    def stop(self) -> None:
        """Write nothing more."""
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self) -> None:
        self._handle = None
        if not self._journal.recording or self._journal.replaying:
            return
        try:
            if self._journal.n_records == self._n_records:
                self._journal.note_alive()
        except JournalError as error:
            self._on_error(error)
        else:
            self.keep()
