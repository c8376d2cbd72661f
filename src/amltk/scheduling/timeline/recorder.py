"""Records which call was computed where and when, while a scheduler runs."""

from __future__ import annotations

from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from amltk import _extras
from amltk._checks import check_optional_count
from amltk._process import clock
from amltk.scheduling.executors.execution_info import ExecutionInfo, execution_info
from amltk.scheduling.future import task_name
from amltk.scheduling.timeline.record import OUTCOMES, Record, arguments_of, error_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import pandas as pd
    from opentelemetry.trace import TracerProvider

    from amltk.scheduling.call import Outcome
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler

MAX_RECORDS = 250_000
"""How many attempts are kept by default; they take about 80 MB."""

SHOWN_IN_NOTEBOOK = 20_000
"""How many of the latest records a notebook shows; about 2 MB, which is stored in the notebook file."""


class _Open:
    """A call that has not ended."""

    __slots__ = ("arguments", "function", "needs", "reviewed", "submitted")

    def __init__(self, function: str, arguments: str, submitted: float, needs: tuple[int, ...]) -> None:
        self.function: str = function
        self.arguments: str = arguments
        self.submitted: float = submitted
        self.needs: tuple[int, ...] = needs
        self.reviewed: Record | None = None  # its last attempt; its outcome depends on whether another follows


class Timeline:
    """Records the calls that a scheduler computes: on which worker, when, and how each ended.

    ```python
    timeline = Timeline(scheduler)
    scheduler.run()
    timeline.write_html("timeline.html")
    ```

    In a notebook, the last expression of a cell shows it.

    Create it before the run; it records all runs of the scheduler. Each attempt to compute a call is one record; a call
    has several only if the plugin `Retry` has tried it again.

    Durations are true, even if the clock is set during the run. The times are those of the worker, where
    the executor tells them; what a clock of another machine says to be before the submission or after the end ends
    when this program heard of it. All executors that are made by `Scheduler.with_...` tell them. Of any other executor
    the timeline knows what this program sees, the time from the submission to the end with all waiting in it, and not
    the worker; `Record.by_worker` says so.

    It records until it is closed, for instance by the end of a block: `with Timeline(scheduler) as timeline:`.

    Args:
        scheduler: The scheduler whose calls are recorded.
        max_records: How many of the latest records are kept, at least 1; None for all. A record takes about 300 bytes.

    Raises:
        ValueError: `max_records` is below 1.
        TypeError: `max_records` is not a whole number.

    Attributes:
        dropped: How many records were dropped in favour of later ones.
    """

    def __init__(self, scheduler: Scheduler, *, max_records: int | None = MAX_RECORDS) -> None:
        self._ended: deque[Record] = deque(maxlen=check_optional_count("max_records", max_records))
        self._open: dict[Future[Any], _Open] = {}
        self.dropped: int = 0
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
        """Stop recording. What was recorded stays; calls that have not ended are left out. Harmless if repeated."""
        if self._submitted in self._scheduler.observers:
            self._scheduler.observers.remove(self._submitted)
        for subscription in self._subscriptions:
            subscription.end()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what was recorded

    def records(self) -> list[Record]:
        """The records so far, in order of their ends; then the calls that have not ended, with `ended` None."""
        unended = []
        for future, call in self._open.items():
            where = None if future.work is None else execution_info(future.work)
            outcome = "pending" if where is None or where.began is None else "running"
            unended.append(_record(future, call, outcome, where, ended=None))
        return [*self._ended, *unended]

    def df(self) -> pd.DataFrame:
        """The records as a DataFrame, one row each. Needs pandas.

        The columns are those of `Record`, with times in UTC, plus `worker`, a name for host, process and thread, and
        `waited` and `duration`, the seconds from submission to beginning and from there to the end.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        load = _extras.load("amltk.scheduling.timeline.frame", needs="pandas", extra="monitor")
        frame: pd.DataFrame = load.frame(self.records())
        return frame

    def chrome_trace(self) -> dict[str, Any]:
        """The records in Chrome's trace format, for `json.dump`; Perfetto, Speedscope and others show it."""
        from amltk.scheduling.timeline.chrome import trace

        return trace(self._up_to_now())

    def write_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write `chrome_trace()` to a file; open it at ui.perfetto.dev or in `chrome://tracing`."""
        from amltk.scheduling.timeline.chrome import write

        write(self._up_to_now(), path)

    def html(self, *, title: str = "Timeline") -> str:
        """The records as one HTML page, which loads nothing from the network.

        Args:
            title: The heading of the page.
        """
        from amltk.scheduling.timeline.page import page

        return page(self._up_to_now(), title=title, dropped=self.dropped)

    def write_html(self, path: str | os.PathLike[str], *, title: str = "Timeline") -> None:
        """Write `html()` to a file."""
        Path(path).write_text(self.html(title=title), encoding="utf-8")

    def _repr_html_(self) -> str:
        """The page in a frame, for notebooks."""
        from amltk.scheduling.timeline.page import frame

        records = self._up_to_now()
        shown = records[-SHOWN_IN_NOTEBOOK:]
        title = "Timeline"
        if len(shown) < len(records):
            title = f"Timeline of the last {len(shown):,} of {len(records):,} records"
        return frame(shown, title=title, dropped=self.dropped)

    def __repr__(self) -> str:
        counts = Counter(record.outcome for record in self.records())
        told = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
        return f"<Timeline: {', '.join(told) or 'nothing was recorded'}>"

    def export_spans(self, provider: TracerProvider | None = None) -> int:
        """Export the records to OpenTelemetry, one span each, with the times at which they were computed.

        Call it once, after the run: each call exports everything again. Calls that never began are left out.

        Args:
            provider: Receives the spans; None for the program's current provider.

        Returns:
            The number of spans.

        Raises:
            MissingExtraError: OpenTelemetry is not installed.
        """
        load = _extras.load("amltk.scheduling.timeline.spans", needs="opentelemetry", extra="otel")
        exported: int = load.export(self.records(), provider)
        return exported

    def _up_to_now(self) -> list[Record]:
        """The records as pictures show them: what is running has been computed until now."""
        now = clock.now()
        return [
            record._replace(ended=max(now, record.began or now)) if record.outcome == "running" else record
            for record in self.records()
        ]

    # ------------------------------------------------------------------ what happens, on the loop's thread

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
            self._keep(call.reviewed._replace(outcome="retried"))
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
            return  # submitted before this timeline was created
        if call.reviewed is not None:
            self._keep(call.reviewed._replace(outcome=outcome))
        else:
            where = execution_info(future.work)
            self._keep(_record(future, call, outcome, where, ended=clock.now(), error=error_of(error)))

    def _keep(self, record: Record) -> None:
        if len(self._ended) == self._ended.maxlen:
            self.dropped += 1
        self._ended.append(record)


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
    granted = () if future.call is None else future.call.devices
    links: dict[str, Any] = {"call": future.number, "needs": call.needs, "devices": granted}
    if where is None:
        # It is unknown whether a cancelled call had begun.
        began = None if outcome in {"cancelled", "pending"} else call.submitted
        return Record(*about, began, None if began is None else ended, None, None, None, by_worker=False, **links)
    if where.began is None:
        return Record(*about, None, None, where.host, where.pid, where.thread, by_worker=True, **links)
    if where.devices:
        links["devices"] = (*granted, *where.devices)
    ended = where.ended or ended
    if ended is not None:
        ended = max(ended, where.began)  # where a worker was lost, this is the program's word against the worker's
    return Record(*about, where.began, ended, where.host, where.pid, where.thread, by_worker=True, **links)
