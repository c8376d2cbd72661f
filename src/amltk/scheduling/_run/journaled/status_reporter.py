"""Reports now and then, in a file beside the journal, what is running and how many calls there will be."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from amltk.journal.live.status import write_status
from amltk.scheduling._run.calls.status import status_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from amltk.journal.folder import Folder
    from amltk.scheduling._run.journaled.run import JournaledRun

_log = logging.getLogger(__name__)

FIRST = 1.0
"""How many seconds after something has happened the file is written. Shorter calls never appear in it."""

LAST = 32.0
"""A call may also begin while nothing happens: the next look is after twice the time, up to this many seconds."""


class StatusReporter:
    """Replaces a small file while the run goes on, at most once a second. On the loop's thread.

    The file is not part of the journal: it is not needed to continue, and is removed when the run ends in order.

    Args:
        run: The run, which has its loop and its calls.
        folder: The folder of its journal.
        tasks: The scheduler's tasks, from a layer above; more may be added.
    """

    def __init__(self, run: JournaledRun, folder: Folder, tasks: Sequence[Any]) -> None:
        self._run = run
        self._folder = folder
        self._tasks = tasks
        self._delay = FIRST
        self._handle: asyncio.TimerHandle | None = None
        self._is_written = False

    def keep(self) -> None:
        """Write the status soon, since something has happened."""
        if self._handle is not None:
            if self._delay == FIRST:
                return
            self._handle.cancel()
        self._wait(FIRST)

    def stop(self) -> None:
        """Stop reporting: the run has ended."""
        if self._handle is not None:
            self._handle.cancel()
        if self._is_written:
            self._folder.status.unlink(missing_ok=True)

    def _wait(self, delay: float) -> None:
        self._delay = delay
        self._handle = self._run.loop.call_later(delay, self._report)

    def _report(self) -> None:
        self._handle = None
        if not self._run.pending_calls and not self._is_written:
            return
        try:
            write_status(self._folder, self._told())
        except OSError as error:  # the run continues without it
            _log.warning("%s cannot be written, so tools do not see what is running: %s", self._folder.status, error)
            return
        self._is_written = True
        if self._run.pending_calls and self._delay < LAST:
            self._wait(self._delay * 2)

    def _told(self) -> dict[str, Any]:
        run = self._run
        pools = run.submissions.pools
        return {"pid": os.getpid(), **status_of(run, self._tasks, pools, run.journal.time(), run.n_workers)}
