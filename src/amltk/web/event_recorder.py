"""Records for the page what happens in a run that has no journal. Nothing can be replayed from it: it has no values."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from amltk._labels import arguments_in_short
from amltk._process import clock
from amltk.exceptions import JournalError
from amltk.journal.kinds import Finish, Kind
from amltk.journal.live.status import write_status
from amltk.journal.session import this_session
from amltk.journal.writer import Writer
from amltk.scheduling._journal.values import told_of
from amltk.scheduling._run.calls.status import status_of
from amltk.scheduling.call import Outcome
from amltk.scheduling.future import task_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._run.run import Run
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler

_log = logging.getLogger(__name__)

EVERY = 1.0
"""How many seconds pass between two reports of what is running."""


class EventRecorder:
    """Writes records of calls, without their arguments and results, for a reader beside the run. On the loop's thread.

    Args:
        scheduler: The scheduler.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._writer: Writer | None = None
        self._told = 0.0
        self._first: int | None = None  # the number of the run's first call: numbers go on from run to run
        self._subscriptions: list[Subscription] = []

    def open(self, folder: str) -> None:
        """Begin to record to this folder."""
        self._writer = Writer(folder)
        self._writer.add(Kind.SESSION, this_session())
        self._writer.flush()
        scheduler = self._scheduler
        scheduler.observers.append(self._submitted)
        endings: tuple[tuple[Any, Callable[..., None]], ...] = (
            (scheduler.FUTURE_RESULT, lambda future, result: self._ended(future, Outcome(result, None, False))),
            (scheduler.FUTURE_EXCEPTION, lambda future, error: self._ended(future, Outcome(None, error, False))),
            (scheduler.FUTURE_CANCELLED, lambda future: self._ended(future, Outcome(None, None, True))),
        )
        self._subscriptions = [scheduler.emitter.register(event, note, hidden=True) for event, note in endings]

    def refresh(self) -> None:
        """Write what has happened, and now and then what is running."""
        if self._writer is None:
            return
        try:
            self._writer.flush()
            run = self._scheduler.find_run()
            if run is not None and clock.now() - self._told >= EVERY:
                self._told = clock.now()
                write_status(self._writer.folder, self._status(run))
        except (JournalError, OSError) as error:  # the run goes on; what is recorded must not pile up in memory
            _log.warning("the page shows nothing more of this run: %s", error)
            self._detach()

    def close(self) -> None:
        """Record that the run has ended."""
        writer = self._detach()
        if writer is None:
            return
        writer.add(Kind.FINISH, Finish())
        writer.close()
        writer.folder.status.unlink(missing_ok=True)

    def _detach(self) -> Writer | None:
        """Record nothing more."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._scheduler.observers.remove(self._submitted)
            for subscription in self._subscriptions:
                subscription.end()
        return writer

    def _submitted(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attempt = 0 if future.call is None else future.call.attempt - 1
        head = {"task": task_name(future), "arguments": arguments_in_short(args, kwargs), "attempt": attempt}
        if self._writer is not None:
            self._writer.add(Kind.SUBMISSION, head, call=self._number(future))

    def _ended(self, future: Future[Any], ending: Outcome) -> None:
        if self._writer is not None and self._first is not None:
            kind, head = told_of(ending, future.work, future)
            self._writer.add(kind, head, call=self._number(future))

    def _number(self, future: Future[Any]) -> int:
        if self._first is None:
            self._first = future.number
        return future.number - self._first

    def _status(self, run: Run) -> dict[str, Any]:
        scheduler = self._scheduler
        first = self._first or 0
        told = status_of(run, scheduler.tasks, scheduler.pools, clock.now(), scheduler.n_workers, first)
        return {"pid": os.getpid(), **told}
