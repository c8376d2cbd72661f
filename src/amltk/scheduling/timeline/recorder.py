"""Notes what was computed where and when, while a scheduler runs."""

from __future__ import annotations

from collections import Counter, deque
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Self

from amltk import _extras
from amltk._checks import check_optional_count
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.whereabouts import Whereabouts, whereabouts
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
"""How many attempts are kept by default; about 80 MB."""

SHOWN_IN_NOTEBOOK = 20_000
"""How many records, the latest, a notebook shows; about 2 MB, which it keeps in its file."""


class _Open:
    """A call that has not ended."""

    __slots__ = ("arguments", "function", "reviewed", "submitted")

    def __init__(self, function: str, arguments: str, submitted: float) -> None:
        self.function: str = function
        self.arguments: str = arguments
        self.submitted: float = submitted
        self.reviewed: Record | None = None  # its last attempt, whose meaning depends on whether there is another


class Timeline:
    """Records what a scheduler has computed: which call, on which worker, from when to when, and how it ended.

    ```python
    timeline = Timeline(scheduler)
    scheduler.run()
    timeline.write_html("timeline.html")
    ```

    In a notebook it shows itself, as the last expression of a cell.

    Make it before the run; it goes on through all runs of the scheduler. One attempt to compute a call is one record;
    a call has several only where the plugin `Retry` has tried it again.

    The times are those of the worker, where the executor tells them, on the clock of the worker's machine: on another
    host it may differ from this one's. All executors that are made by `Scheduler.with_...` tell them. Of any other
    executor the timeline knows what this program sees, the time from the submission to the end with all waiting in
    it, and not the worker; `Record.by_worker` says so.

    It records until it is closed, for instance by the end of a block: `with Timeline(scheduler) as timeline:`.

    Args:
        scheduler: Whose calls are recorded.
        max_records: How many records are kept, the latest, at least 1; None for all. A record takes about 300 bytes.

    Raises:
        ValueError: `max_records` is below 1.
        TypeError: `max_records` is no whole number.

    Attributes:
        dropped: How many records were given up for later ones.
    """

    def __init__(self, scheduler: Scheduler, *, max_records: int | None = MAX_RECORDS) -> None:
        self._ended: deque[Record] = deque(maxlen=check_optional_count("max_records", max_records))
        self._open: dict[Future[Any], _Open] = {}
        self.dropped: int = 0
        self._scheduler = scheduler
        scheduler.witnesses.append(self._submitted)
        endings: tuple[tuple[Any, Callable[..., None]], ...] = (
            (scheduler.FUTURE_RESULT, self._succeeded),
            (scheduler.FUTURE_EXCEPTION, self._failed),
            (scheduler.FUTURE_CANCELLED, self._cancelled),
        )
        self._subscriptions: list[Subscription] = [
            scheduler.emitter.register(event, note, hidden=True) for event, note in endings
        ]

    def close(self) -> None:
        """Record no more. What was recorded stays; calls that have not ended are left out. Harmless if repeated."""
        if self._submitted in self._scheduler.witnesses:
            self._scheduler.witnesses.remove(self._submitted)
        for subscription in self._subscriptions:
            subscription.end()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what was recorded

    def records(self) -> list[Record]:
        """What was recorded so far, in order of the endings; then what has not ended, with `ended` None."""
        unended = []
        for future, call in self._open.items():
            where = None if future.work is None else whereabouts(future.work)
            outcome = "pending" if where is None or where.began is None else "running"
            unended.append(_record(future, call, outcome, where, ended=None))
        return [*self._ended, *unended]

    def df(self) -> pd.DataFrame:
        """The records as a DataFrame, a row each. Needs pandas.

        The columns are those of `Record`, with times in UTC, and besides: `worker` is a name for host, process and
        thread; `waited` and `duration` are seconds, from the submission to the beginning and from there to the end.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        load = _extras.load("amltk.scheduling.timeline.frame", needs="pandas", extra="monitor")
        frame: pd.DataFrame = load.frame(self.records())
        return frame

    def chrome_trace(self) -> dict[str, Any]:
        """The records in Chrome's trace format, for `json.dump`: Perfetto, Speedscope and others show it."""
        from amltk.scheduling.timeline.chrome import trace

        return trace(self._up_to_now())

    def write_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write `chrome_trace()` into a file, which opens at ui.perfetto.dev or in `chrome://tracing`."""
        from amltk.scheduling.timeline.chrome import write

        write(self._up_to_now(), path)

    def html(self, *, title: str = "Timeline") -> str:
        """The records as one HTML page, which needs nothing from the network.

        Args:
            title: Its heading.
        """
        from amltk.scheduling.timeline.page import page

        return page(self._up_to_now(), title=title, dropped=self.dropped)

    def write_html(self, path: str | os.PathLike[str], *, title: str = "Timeline") -> None:
        """Write `html()` into a file."""
        Path(path).write_text(self.html(title=title), encoding="utf-8")

    def _repr_html_(self) -> str:
        """What a notebook shows: the page, in a frame."""
        from amltk.scheduling.timeline.page import frame

        records = self._up_to_now()
        shown = records[-SHOWN_IN_NOTEBOOK:]
        title = "Timeline"
        if len(shown) < len(records):
            title = f"Timeline of the latest {len(shown):,} of {len(records):,} records"
        return frame(shown, title=title, dropped=self.dropped)

    def __repr__(self) -> str:
        counts = Counter(record.outcome for record in self.records())
        told = [f"{counts[outcome]:,} {outcome}" for outcome in OUTCOMES if counts[outcome]]
        return f"<Timeline: {', '.join(told) or 'nothing was recorded'}>"

    def export_spans(self, provider: TracerProvider | None = None) -> int:
        """Give the records to OpenTelemetry, a span each, with the times at which they were computed.

        Call it once, after the run: what was exported before is exported again. What never began is left out.

        Args:
            provider: Where the spans go; None for the provider that the program has set.

        Returns:
            How many spans.

        Raises:
            MissingExtraError: OpenTelemetry is not installed.
        """
        load = _extras.load("amltk.scheduling.timeline.spans", needs="opentelemetry", extra="otel")
        exported: int = load.export(self.records(), provider)
        return exported

    def _up_to_now(self) -> list[Record]:
        """The records as pictures show them: what is running has been computed until now."""
        now = time()
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
        task = future.task
        name = callback_name(future.function) if task is None else task.name
        self._open[future] = _Open(name, arguments_of(args, kwargs), time())
        if call is not None:
            call.on_outcome(partial(self._reviewed, future))

    def _retried(self, call: _Open) -> None:
        """Another attempt of it was handed over."""
        if call.reviewed is not None:
            self._keep(call.reviewed._replace(outcome="retried"))
            call.reviewed = None
        call.submitted = time()

    def _reviewed(self, future: Future[Any], outcome: Outcome) -> None:
        """An attempt has ended, though not the call, perhaps."""
        call = self._open.get(future)
        if call is not None:
            how = "cancelled" if outcome.cancelled else "succeeded" if outcome.error is None else "failed"
            where = whereabouts(future.work)
            call.reviewed = _record(future, call, how, where, ended=time(), error=error_of(outcome.error))

    def _succeeded(self, future: Future[Any], _: Any) -> None:
        self._end(future, "succeeded", None)

    def _failed(self, future: Future[Any], error: BaseException) -> None:
        self._end(future, "failed", error)

    def _cancelled(self, future: Future[Any]) -> None:
        self._end(future, "cancelled", None)

    def _end(self, future: Future[Any], outcome: str, error: BaseException | None) -> None:
        call = self._open.pop(future, None)
        if call is None:
            return  # submitted before there was this timeline
        if call.reviewed is not None:
            self._keep(call.reviewed._replace(outcome=outcome))
        else:
            where = whereabouts(future.work)
            self._keep(_record(future, call, outcome, where, ended=time(), error=error_of(error)))

    def _keep(self, record: Record) -> None:
        if len(self._ended) == self._ended.maxlen:
            self.dropped += 1
        self._ended.append(record)


def _record(
    future: Future[Any], call: _Open, outcome: str, where: Whereabouts | None, *, ended: float | None, error: str = ""
) -> Record:
    """What is to be kept of an attempt.

    Args:
        future: What `submit` returned.
        call: What is known about it.
        outcome: How it ended.
        where: What its executor tells.
        ended: When this program saw the end; what is lost with its worker has no other. None if it has not ended.
        error: What it has raised.
    """
    attempt = 1 if future.call is None else future.call.attempt
    about = (call.function, call.arguments, outcome, error, attempt, call.submitted)
    if where is None:
        # Nobody knows whether what was cancelled had begun.
        began = None if outcome in {"cancelled", "pending"} else call.submitted
        return Record(*about, began, None if began is None else ended, None, None, None, by_worker=False)
    if where.began is None:
        return Record(*about, None, None, where.host, where.pid, where.thread, by_worker=True)
    ended = where.ended or ended
    if ended is not None:
        ended = max(ended, where.began)  # this program's clock may be behind, and a worker's may have been set back
    return Record(*about, where.began, ended, where.host, where.pid, where.thread, by_worker=True)
