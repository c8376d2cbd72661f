"""Records which call was computed where and when, while a scheduler runs."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from amltk import _extras
from amltk._checks import check_optional_count
from amltk._process import clock
from amltk.scheduling.timeline.attempts import Attempts
from amltk.scheduling.timeline.record import OUTCOMES, Record

if TYPE_CHECKING:
    import os

    import pandas as pd
    from opentelemetry.trace import TracerProvider

    from amltk.scheduling.scheduler import Scheduler

MAX_RECORDS = 250_000
"""How many attempts are kept by default; they take about 80 MB."""

SHOWN_IN_NOTEBOOK = 20_000
"""How many of the latest records a notebook shows; about 2 MB, which is stored in the notebook file."""


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
        self._attempts = Attempts(scheduler, self._keep)
        self.dropped: int = 0

    def close(self) -> None:
        """Stop recording. What was recorded stays; calls that have not ended are left out. Harmless if repeated."""
        self._attempts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what was recorded

    def records(self) -> list[Record]:
        """The records so far, in order of their ends; then the calls that have not ended, with `ended` None."""
        return [*self._ended, *self._attempts.unended()]

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

    def _keep(self, record: Record, _: BaseException | None) -> None:
        if len(self._ended) == self._ended.maxlen:
            self.dropped += 1
        self._ended.append(record)
