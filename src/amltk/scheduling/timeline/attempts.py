"""Observes the attempts to compute calls while a scheduler runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._process import clock
from amltk.scheduling.executors.execution_info import ExecutionInfo, execution_info
from amltk.scheduling.future import devices_of, task_name
from amltk.scheduling.timeline.record import Record, arguments_of, error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Outcome
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler


class _Open:
    """A call that has not ended."""

    __slots__ = ("arguments", "function", "needs", "reviewed", "submitted")

    def __init__(self, function: str, arguments: str, submitted: float, needs: tuple[int, ...]) -> None:
        self.function: str = function
        self.arguments: str = arguments
        self.submitted: float = submitted
        self.needs: tuple[int, ...] = needs
        self.reviewed: Record | None = None  # its last attempt; its outcome depends on whether another follows


class Attempts:
    """Passes on the record of each attempt that has ended. On the loop's thread.

    Args:
        scheduler: The scheduler whose calls are observed, over all runs.
        keep: Called with the record, and with the exception that the call ended with; None for other endings, and for
            an attempt that was not the last.
    """

    def __init__(self, scheduler: Scheduler, keep: Callable[[Record, BaseException | None], object]) -> None:
        self._keep = keep
        self._open: dict[Future[Any], _Open] = {}
        self._scheduler = scheduler
        scheduler.observers.append(self._submitted)
        endings: tuple[tuple[Any, Callable[..., None]], ...] = (
            (scheduler.FUTURE_RESULT, self._succeeded),
            (scheduler.FUTURE_EXCEPTION, self._failed),
            (scheduler.FUTURE_CANCELLED, self._cancelled),
        )
        self._subscriptions: list[Subscription] = [
            scheduler.emitter.register(event, note, hidden=True) for event, note in endings
        ]

    def close(self) -> None:
        """Observe no more; calls that have not ended are left out. Harmless if repeated."""
        if self._submitted in self._scheduler.observers:
            self._scheduler.observers.remove(self._submitted)
        for subscription in self._subscriptions:
            subscription.end()
        self._open.clear()

    def unended(self) -> list[Record]:
        """The records of the calls that have not ended."""
        found = []
        for future, call in self._open.items():
            where = None if future.work is None else execution_info(future.work)
            outcome = "pending" if where is None or where.began is None else "running"
            found.append(_record(future, call, outcome, where, ended=None))
        return found

    def _submitted(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = future.call
        known = None if call is None else self._open.get(future)
        if known is not None:
            self._retried(known)
            return
        needs = tuple(other.number for other in future.dependencies) if future.is_dependent else ()
        self._open[future] = _Open(task_name(future), arguments_of(args, kwargs), clock.now(), needs)
        if call is not None:
            call.on_outcome(partial(self._reviewed, future))

    def _retried(self, call: _Open) -> None:
        """Another attempt was submitted."""
        if call.reviewed is not None:
            self._keep(call.reviewed._replace(outcome="retried"), None)
            call.reviewed = None
        call.submitted = clock.now()

    def _reviewed(self, future: Future[Any], outcome: Outcome) -> None:
        """An attempt has ended; the call may not have."""
        call = self._open.get(future)
        if call is not None:
            how = "cancelled" if outcome.cancelled else "succeeded" if outcome.error is None else "failed"
            where = execution_info(future.work)
            call.reviewed = _record(future, call, how, where, ended=clock.now(), error=error_of(outcome.error))

    def _succeeded(self, future: Future[Any], _: Any) -> None:
        self._end(future, "succeeded", None)

    def _failed(self, future: Future[Any], error: BaseException) -> None:
        self._end(future, "failed", error)

    def _cancelled(self, future: Future[Any]) -> None:
        self._end(future, "cancelled", None)

    def _end(self, future: Future[Any], outcome: str, error: BaseException | None) -> None:
        call = self._open.pop(future, None)
        if call is None:
            return  # submitted before this began to observe
        if call.reviewed is not None:
            self._keep(call.reviewed._replace(outcome=outcome), error)
        else:
            where = execution_info(future.work)
            self._keep(_record(future, call, outcome, where, ended=clock.now(), error=error_of(error)), error)


def _record(
    future: Future[Any], call: _Open, outcome: str, where: ExecutionInfo | None, *, ended: float | None, error: str = ""
) -> Record:
    """Make the record of an attempt.

    Args:
        future: The future that `submit` returned.
        call: The details noted at submission.
        outcome: How it ended.
        where: The worker and times that its executor reports.
        ended: When this program saw the end, the only end time if the worker was lost; None if it has not ended.
        error: The exception that it raised.
    """
    attempt = 1 if future.call is None else future.call.attempt
    submitted = call.submitted
    if where is not None and where.began is not None:
        submitted = min(submitted, where.began)  # a worker may be faster than who notes the submission
    about = (call.function, call.arguments, outcome, error, attempt, submitted)
    links: dict[str, Any] = {"call": future.number, "needs": call.needs, "devices": devices_of(future)}
    if where is None:
        # It is unknown whether a cancelled call had begun.
        began = None if outcome in {"cancelled", "pending"} else call.submitted
        return Record(*about, began, None if began is None else ended, None, None, None, by_worker=False, **links)
    if where.began is None:
        return Record(*about, None, None, where.host, where.pid, where.thread, by_worker=True, **links)
    if where.cpu is not None:
        links |= {"cpu": where.cpu, "memory": where.memory}
    ended = where.ended or ended
    if ended is not None:
        ended = max(ended, where.began)  # where a worker was lost, this is the program's word against the worker's
    return Record(*about, where.began, ended, where.host, where.pid, where.thread, by_worker=True, **links)
