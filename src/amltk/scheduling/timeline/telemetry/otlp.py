"""Makes spans and metrics, and sends them by OTLP over HTTP. Loaded only when OpenTelemetry is installed."""

from __future__ import annotations

import logging
import os
import re
import secrets
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, set_span_in_context

from amltk._process.program import arguments
from amltk.scheduling.executors.execution_info import this_host
from amltk.scheduling.timeline.spans import FAILURES, attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeAlias

    from opentelemetry.metrics import CallbackOptions
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

    from amltk.scheduling.timeline.record import Record
    from amltk.scheduling.timeline.telemetry.telemetry import Levels
    from amltk.scheduling.timeline.telemetry.told import EndedCall, EndOfRun, Ids

    Report: TypeAlias = Callable[[str], object]

DURATIONS = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""The bounds of the buckets of durations, in seconds: from a millisecond to a day."""

LONGEST = 200
"""How many characters are told of a problem."""

_ERRNO = re.compile(r"\[Errno -?\d+\] ([\w ]+)")


class _GivenIds(IdGenerator):  # type: ignore[misc] # mypy does not read the library
    """Gives spans the numbers that were set before."""

    trace: int = 0
    span: int = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class _Collector(SpanProcessor):  # type: ignore[misc] # as above
    """Keeps the spans that have ended until they are taken."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class _Overheard(logging.Filter):
    """Hears what a library logs on this thread, in place of the log.

    Args:
        report: Called with what it says, in a few words.
    """

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report
        self._thread = get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self._report(_in_short(record.getMessage()))
        return False


class Receiver:
    """A receiver of OTLP. May be used from several threads: that of a run may still send when the next run begins.

    Args:
        endpoint: As in `Telemetry`.
        metrics: Whether to send metrics.
        service_name: As in `Telemetry`.
        levels: What the metrics are read from.
    """

    def __init__(self, endpoint: str | None, *, metrics: bool, service_name: str | None, levels: Levels) -> None:
        base = None if endpoint is None else endpoint.rstrip("/")
        self._spans_to = OTLPSpanExporter(None if base is None else f"{base}/v1/traces")
        resource = _resource(service_name)
        self._lock = Lock()  # guards the two that follow, while spans are made
        self._ids = _GivenIds()
        self._ended = _Collector()
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(self._ended)
        self._tracer = provider.get_tracer("amltk")
        self._metrics = _Metrics(base, resource, levels) if metrics else None

    def begin_run(self, began: float, ids: Ids) -> RunSpan:
        """Begin the span of a run, within the span that is current here where it joins one."""
        context = None if ids.joins else Context()
        with self._lock:
            self._ids.trace, self._ids.span = ids.trace, secrets.randbits(64) or 1
            return RunSpan(ids, self._tracer.start_span("run", context=context, start_time=_ns(began)))

    def end_run(self, run: RunSpan, end: EndOfRun) -> None:
        """End the span of a run; it is sent with the next calls."""
        run.span.set_attributes({"amltk.end": end.code, "amltk.reason": end.reason})
        if end.code == "EXCEPTION":
            run.span.set_status(Status(StatusCode.ERROR, end.reason))
        with self._lock:
            run.span.end(_ns(end.at))

    def send_calls(self, run: RunSpan, calls: Iterable[EndedCall], report: Report) -> bool:
        """Send the spans of calls, and of the run if it has ended.

        Args:
            run: The run.
            calls: The calls.
            report: Called with each problem that there is, in a few words, as soon as there is one.

        Returns:
            Whether they were taken.
        """
        with self._lock:
            for call in calls:
                self._make_span(run, call)
                if self._metrics is not None:
                    self._metrics.take(call)
            spans, self._ended.spans = self._ended.spans, []
        if not spans:
            return True
        with _overhearing(self._spans_to, report):
            return self._spans_to.export(spans) is SpanExportResult.SUCCESS

    def send_metrics(self, report: Report) -> bool:
        """Send the metrics as they are now, as `send_calls` does."""
        return self._metrics is None or self._metrics.send(report)

    def shutdown(self) -> None:
        """Give up what is being sent, as far as the library can do that, and send nothing more."""
        self._spans_to.shutdown()
        if self._metrics is not None:
            self._metrics.exporter.shutdown()

    def _make_span(self, run: RunSpan, call: EndedCall) -> None:
        last, attempts = call.last, (*call.earlier, call.last)
        self._ids.span = run.ids.call(last.call)
        about: dict[str, Any] = {**attributes(last), "amltk.call": last.call, "amltk.devices": last.devices}
        span = self._tracer.start_span(
            last.function,
            context=run.context,
            kind=SpanKind.INTERNAL,
            attributes=about,
            links=[Link(run.context_of(number)) for number in last.needs],
            start_time=_ns(attempts[0].submitted),
        )
        for attempt in attempts:
            _add_events(span, attempt)
        end = _end_of(last)
        if call.failure is not None:
            told = {f"exception.{name}": value for name, value in call.failure._asdict().items()}
            told["exception.stacktrace"] = told.pop("exception.traceback")
            span.add_event("exception", told, timestamp=_ns(end))
        if last.outcome in FAILURES:
            span.set_status(Status(StatusCode.ERROR, last.error))
        span.end(_ns(end))


class RunSpan:
    """The span of a run, which those of its calls are within.

    Args:
        ids: The numbers of the spans.
        span: The span.

    Attributes:
        context: The parent of the spans of calls.
    """

    def __init__(self, ids: Ids, span: Span) -> None:
        self.ids: Ids = ids
        self.span: Span = span
        self._told = span.get_span_context()
        self.context: Context = set_span_in_context(NonRecordingSpan(self._told), Context())

    def context_of(self, call: int) -> SpanContext:
        """What refers to the span of a call."""
        return SpanContext(self._told.trace_id, self.ids.call(call), False, self._told.trace_flags)


class _Metrics:
    """The metrics, and where they are sent to."""

    def __init__(self, base: str | None, resource: Resource, levels: Levels) -> None:
        self.exporter = OTLPMetricExporter(None if base is None else f"{base}/v1/metrics")
        self._reader = InMemoryMetricReader()
        buckets = ExplicitBucketHistogramAggregation(DURATIONS)
        provider = MeterProvider(
            [self._reader],
            resource,
            shutdown_on_exit=False,
            views=[View(instrument_name="amltk.call.duration", aggregation=buckets)],
        )
        meter = provider.get_meter("amltk")
        self._durations = meter.create_histogram("amltk.call.duration", "s", "For how long calls were computed.")

        def ended(_: CallbackOptions) -> Iterator[Observation]:
            for (task, outcome), n in list(levels.ended.items()):
                yield Observation(n, {"amltk.task": task, "amltk.outcome": outcome})

        def in_flight(_: CallbackOptions) -> Iterator[Observation]:
            yield Observation(levels.in_flight())

        def waiting(_: CallbackOptions) -> Iterator[Observation]:
            if (n := levels.waiting()) is not None:
                yield Observation(n)

        meter.create_observable_counter("amltk.calls", [ended], "{call}", "Calls that have ended.")
        meter.create_observable_gauge("amltk.calls.in_flight", [in_flight], "{call}", "Calls that have not ended.")
        meter.create_observable_gauge(
            "amltk.calls.waiting", [waiting], "{call}", "Calls in flight that no worker has begun."
        )

    def take(self, call: EndedCall) -> None:
        for attempt in (*call.earlier, call.last):
            if attempt.began is not None and attempt.ended is not None:
                about: Mapping[str, str] = {"amltk.task": attempt.function, "amltk.outcome": attempt.outcome}
                self._durations.record(attempt.ended - attempt.began, about)

    def send(self, report: Report) -> bool:
        read = self._reader.get_metrics_data()
        if read is None:
            return True
        with _overhearing(self.exporter, report):
            return self.exporter.export(read) is MetricExportResult.SUCCESS


@contextmanager
def _overhearing(exporter: object, report: Report) -> Iterator[None]:
    """Keep what an exporter logs meanwhile out of the log: it repeats itself, and at length."""
    log = logging.getLogger(type(exporter).__module__)
    overheard = _Overheard(report)
    log.addFilter(overheard)
    try:
        yield
    finally:
        log.removeFilter(overheard)


def _in_short(text: str) -> str:
    """What the library says, in a few words."""
    found = _ERRNO.search(text)
    return found[1].strip() if found else text[:LONGEST]


def _resource(service_name: str | None) -> Resource:
    """What is told of the program once: its name, its process, and what the environment says."""
    resource = Resource.create({"host.name": this_host(), "process.pid": os.getpid()})
    if service_name is None and str(resource.attributes["service.name"]).startswith("unknown_service"):
        given = arguments()
        service_name = Path(str(given[0])).name if given and given[0] else "python"
    return resource if service_name is None else resource.merge(Resource({"service.name": service_name}))


def _add_events(span: Span, attempt: Record) -> None:
    number = {"amltk.attempt": attempt.attempt}
    span.add_event("queued", number, _ns(attempt.submitted))
    if attempt.began is not None:
        where = {"host.name": attempt.host, "process.pid": attempt.pid, "thread.name": attempt.thread}
        known: dict[str, Any] = {name: value for name, value in where.items() if value is not None}
        span.add_event("started", number | known, _ns(attempt.began))
    if attempt.outcome == "retried":
        span.add_event("retried", {**number, "exception.message": attempt.error}, _ns(_end_of(attempt)))


def _end_of(attempt: Record) -> float:
    """When it ended; a call that was cancelled before it began has no time of its own."""
    return attempt.submitted if attempt.ended is None else max(attempt.ended, attempt.submitted)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
