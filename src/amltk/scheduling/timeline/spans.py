"""The records as OpenTelemetry spans. Loaded only when OpenTelemetry is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.trace import TracerProvider

    from amltk.scheduling.timeline.record import Record

FAILURES = frozenset({"failed", "retried"})


def export(records: Iterable[Record], provider: TracerProvider | None) -> int:
    """Export a span for each record that has begun and ended; see `Timeline.export_spans`."""
    tracer = trace.get_tracer("amltk", tracer_provider=provider)
    exported = 0
    for record in records:
        if record.began is None or record.ended is None:
            continue
        span = tracer.start_span(
            record.function, kind=SpanKind.INTERNAL, attributes=attributes(record), start_time=_ns(record.began)
        )
        if record.outcome in FAILURES:
            span.set_status(Status(StatusCode.ERROR, record.error))
        span.end(_ns(record.ended))
        exported += 1
    return exported


def attributes(record: Record) -> dict[str, str | int | float | bool]:
    """The attributes of a span, under OpenTelemetry's own names where it has them."""
    known = {
        "host.name": record.host,
        "process.pid": record.pid,
        "thread.name": record.thread,
        "amltk.cpu": record.cpu,
        "amltk.memory": record.memory,
    }
    return {
        "code.function.name": record.function,
        "amltk.arguments": record.arguments,
        "amltk.outcome": record.outcome,
        "amltk.attempt": record.attempt,
        "amltk.waited": max(0.0, (record.began or record.submitted) - record.submitted),
        "amltk.by_worker": record.by_worker,
        **{name: value for name, value in known.items() if value is not None},
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
