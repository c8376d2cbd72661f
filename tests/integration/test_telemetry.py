"""Spans and metrics arrive at a receiver of OpenTelemetry while a run goes on, and a bad receiver disturbs nothing."""

from __future__ import annotations

import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.plugins import Retry
from amltk.scheduling.timeline import Telemetry
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import run_script

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="!!! NOT TESTED: no exporter of OpenTelemetry")

from tests.helpers.otlp_receiver import OtlpReceiver, values

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOGGER = "amltk.scheduling.timeline.telemetry.sender"


def halve(n: int) -> float:
    if n == 3:
        raise ValueError("3 is not liked")
    return n / 2


def add(*numbers: float) -> float:
    return sum(numbers)


def fail_once(flag: str) -> str:
    if not os.path.exists(flag):
        open(flag, "w").close()
        raise ConnectionError("not yet")
    return "at last"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    """A receiver that takes everything."""
    with OtlpReceiver() as receiver:
        yield receiver


def by_name(spans: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for span in spans:
        found.setdefault(span.name, []).append(span)
    return found


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_each_call_is_a_span_within_that_of_its_run(receiver: OtlpReceiver, method: Any) -> None:
    """With worker, attempt, outcome, times of its parts, its exception, and links to the calls that it depends on."""
    scheduler = Scheduler.with_processes(2, mp_context=method)

    @scheduler.on_start
    def start() -> None:
        halves = [scheduler.submit(halve, n) for n in (1, 2, 3)]
        scheduler.submit(add, halves[0], halves[1])

    with Telemetry(scheduler, receiver.endpoint, service_name="halving"):
        scheduler.run(on_exception="continue")
    spans = by_name(receiver.spans)
    assert {name: len(found) for name, found in spans.items()} == {"halve": 3, "add": 1, "run": 1}
    (run,), (add_span,), halves = spans["run"], spans["add"], spans["halve"]
    assert {span.trace_id for span in receiver.spans} == {run.trace_id}
    assert not run.parent_span_id
    assert {span.parent_span_id for span in [*halves, add_span]} == {run.span_id}
    assert run.start_time_unix_nano <= min(span.start_time_unix_nano for span in halves)
    assert run.end_time_unix_nano >= max(span.end_time_unix_nano for span in halves)
    assert values(run.attributes)["amltk.end"] == "EXHAUSTED"
    assert receiver.resources[0]["service.name"] == "halving"

    by_call = {values(span.attributes)["amltk.call"]: span for span in [*halves, add_span]}
    assert [link.span_id for link in add_span.links] == [by_call[0].span_id, by_call[1].span_id]
    told = values(by_call[0].attributes)
    assert (told["amltk.outcome"], told["amltk.attempt"], told["amltk.arguments"]) == ("succeeded", 1, "1")
    assert told["process.pid"] != os.getpid()
    queued, started = by_call[0].events
    assert (queued.name, started.name) == ("queued", "started")
    assert queued.time_unix_nano == by_call[0].start_time_unix_nano <= started.time_unix_nano
    assert started.time_unix_nano <= by_call[0].end_time_unix_nano
    assert values(started.attributes)["process.pid"] == told["process.pid"]

    failed = by_call[2]
    assert (failed.status.code, failed.status.message) == (2, "ValueError: 3 is not liked")
    raised = values(failed.events[-1].attributes)
    assert (failed.events[-1].name, raised["exception.type"]) == ("exception", "ValueError")
    assert raised["exception.message"] == "3 is not liked"
    assert "in halve" in raised["exception.stacktrace"]


def test_metrics_count_calls_by_outcome_and_time_them(receiver: OtlpReceiver) -> None:
    """At the end nothing is in flight or waits, and the histogram has each call that was computed."""
    scheduler = Scheduler.with_threads(2)
    scheduler.on_start(lambda: [scheduler.submit(halve, n) for n in range(10)])
    with Telemetry(scheduler, receiver.endpoint):
        scheduler.run(on_exception="continue")
    counts = {
        values(point.attributes)["amltk.outcome"]: point for point in receiver.metrics["amltk.calls"].sum.data_points
    }
    assert {outcome: point.as_int for outcome, point in counts.items()} == {"succeeded": 9, "failed": 1}
    assert {values(point.attributes)["amltk.task"] for point in counts.values()} == {"halve"}
    for name in ("amltk.calls.in_flight", "amltk.calls.waiting"):
        assert [point.as_int for point in receiver.metrics[name].gauge.data_points] == [0]
    durations = receiver.metrics["amltk.call.duration"]
    assert durations.unit == "s"
    assert sum(point.count for point in durations.histogram.data_points) == 10


def test_a_run_that_goes_on_is_sent_already(receiver: OtlpReceiver) -> None:
    """A call's span arrives while another one is being computed; the run's own span when the run has ended."""
    scheduler = Scheduler.with_threads(2)
    with Gate() as gate, Telemetry(scheduler, receiver.endpoint):
        scheduler.on_start(lambda: scheduler.submit(halve, 2))
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
        seen: list[str] = []

        @scheduler.on_future_result(max_calls=1)
        def look(*_: Any) -> None:
            gate.wait_begun()
            scheduler.call_later(0.01, check)

        def check() -> None:
            if receiver.spans and receiver.metrics:
                seen.extend(span.name for span in receiver.spans)
                in_flight = receiver.metrics["amltk.calls.in_flight"].gauge.data_points
                seen.extend(str(point.as_int) for point in in_flight)
                gate.open()
            elif time.monotonic() < give_up:
                scheduler.call_later(0.01, check)

        give_up = time.monotonic() + GUARD
        scheduler.run()
    assert seen == ["halve", "1"]
    assert sorted(span.name for span in receiver.spans) == ["halve", "pass_gate", "run"]


def test_a_call_that_was_retried_is_one_span(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """Its attempts are events of it, and it is counted once."""
    scheduler = Scheduler.with_threads(1)
    task = scheduler.task(fail_once, plugins=Retry(attempts=2, wait=0))
    scheduler.on_start(lambda: task.submit(str(tmp_path / "flag")))
    with Telemetry(scheduler, receiver.endpoint):
        scheduler.run()
    (span,) = by_name(receiver.spans)["fail_once"]
    assert [event.name for event in span.events] == ["queued", "started", "retried", "queued", "started"]
    assert values(span.events[2].attributes)["exception.message"] == "ConnectionError: not yet"
    assert (values(span.attributes)["amltk.attempt"], span.status.code) == (2, 0)
    assert [point.as_int for point in receiver.metrics["amltk.calls"].sum.data_points] == [1]


def test_a_stopped_run_says_why(receiver: OtlpReceiver) -> None:
    """Its span has the reason, and the calls that the end took away are told as cancelled."""
    scheduler = Scheduler.with_processes(1)
    with Gate() as gate:
        scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(3)])
        gate.when_begun(1, lambda: scheduler.stop("enough"))
        with Telemetry(scheduler, receiver.endpoint):
            scheduler.run(wait=False)
    spans = by_name(receiver.spans)
    assert [values(span.attributes)["amltk.outcome"] for span in spans["pass_gate"]] == ["cancelled"] * 3
    told = values(spans["run"][0].attributes)
    assert told["amltk.end"] == "STOPPED"
    assert "enough" in told["amltk.reason"]


def test_a_run_joins_the_trace_that_the_program_has_begun(receiver: OtlpReceiver) -> None:
    """The run's span is a child of the span that is current where `run` is called."""
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    scheduler = Scheduler.with_threads(1)
    scheduler.on_start(lambda: scheduler.submit(halve, 2))
    with Telemetry(scheduler, receiver.endpoint), tracer.start_as_current_span("request") as request:
        scheduler.run()
    run, call = (by_name(receiver.spans)[name][0] for name in ("run", "halve"))
    mine = request.get_span_context()
    assert int.from_bytes(run.trace_id, "big") == int.from_bytes(call.trace_id, "big") == mine.trace_id
    assert int.from_bytes(run.parent_span_id, "big") == mine.span_id


SEARCH = """
    import os, sys
    from amltk.scheduling import Scheduler
    from amltk.scheduling.timeline import Telemetry

    def work(n):
        return n

    scheduler = Scheduler.with_threads(1)
    task = scheduler.task(work)
    scheduler.on_start(lambda: task.submit(0))

    @task.on_result
    def more(future, n):
        if n == 3 and not scheduler.replaying and os.environ["KILLED"] == "yes":
            telemetry.close()  # what was told so far is sent, and the program is killed
            os.kill(os.getpid(), 9)
        if n < 5:
            task.submit(n + 1)

    telemetry = Telemetry(scheduler, os.environ["RECEIVER"])
    scheduler.run(journal=os.environ["FOLDER"])
"""


def test_all_sessions_of_a_journal_have_one_trace(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """What a killed session has told is not told again by the next one, and all calls have one trace."""
    variables = {"RECEIVER": receiver.endpoint, "FOLDER": str(tmp_path / "search")}
    assert run_script(SEARCH, env={**variables, "KILLED": "yes"}).code == -9
    assert run_script(SEARCH, env={**variables, "KILLED": "no"}).code == 0
    spans = by_name(receiver.spans)
    assert sorted(values(span.attributes)["amltk.call"] for span in spans["work"]) == [0, 1, 2, 3, 4, 5]
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert len({span.span_id for span in spans["work"]}) == 6
    assert len(spans["run"]) == 1  # a killed session has no end to tell

    assert run_script(SEARCH, env={**variables, "KILLED": "no"}).code == 0
    assert len(by_name(receiver.spans)["work"]) == 6
    assert len({span.trace_id for span in receiver.spans}) == 1


def test_a_receiver_that_is_down_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The run ends as ever; the log has one warning, with the address and the reason, and nothing of the library."""
    scheduler = Scheduler.with_threads(2)
    scheduler.on_start(lambda: [scheduler.submit(halve, 2) for _ in range(100)])
    with OtlpReceiver() as gone:
        endpoint = gone.endpoint
    with caplog.at_level(logging.INFO), Telemetry(scheduler, endpoint):
        state = scheduler.run()
    assert state.code.name == "EXHAUSTED"
    said = [record.getMessage() for record in caplog.records if record.name.startswith(("opentelemetry", LOGGER))]
    assert len(said) == 1, said
    assert re.fullmatch(rf"{re.escape(endpoint)} does not take .*: Connection refused", said[0])


def test_a_receiver_that_does_not_answer_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The run ends, and closing gives up, while the receiver has the first request and does not answer it."""
    scheduler = Scheduler.with_threads(2)
    scheduler.on_start(lambda: scheduler.submit(halve, 2))
    with OtlpReceiver(answers=False) as silent:
        with Telemetry(scheduler, silent.endpoint):
            assert scheduler.run().code.name == "EXHAUSTED"
        assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["no answer for 2 seconds"]
        silent.wait_for_request("/v1/traces")


def test_a_receiver_without_metrics_gets_none(receiver: OtlpReceiver) -> None:
    """`metrics=False`, for Jaeger."""
    scheduler = Scheduler.with_threads(1)
    scheduler.on_start(lambda: scheduler.submit(halve, 2))
    with Telemetry(scheduler, receiver.endpoint, metrics=False):
        scheduler.run()
    assert set(receiver.requests) == {"/v1/traces"}


def test_the_environment_says_where_and_by_which_name(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own variables hold, and two runs are two traces."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-outside")
    scheduler = Scheduler.with_threads(1)
    scheduler.on_start(lambda: scheduler.submit(halve, 2))
    with Telemetry(scheduler):
        scheduler.run()
        scheduler.run()
    assert {resource["service.name"] for resource in receiver.resources} == {"from-outside"}
    assert len({span.trace_id for span in by_name(receiver.spans)["run"]}) == 2


def test_the_port_of_another_protocol_is_refused() -> None:
    """An endpoint without http:// is an error that says what it must be."""
    with pytest.raises(ValueError, match=r"endpoint='localhost:4317': must begin with http://"):
        Telemetry(Scheduler.with_sequential(), "localhost:4317")


def test_a_run_whose_sender_cannot_start_goes_on(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no more threads are allowed, a warning says that nothing is sent."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("amltk.scheduling.timeline.telemetry.telemetry.Sender", refuse)
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: scheduler.submit(halve, 2))
    with Telemetry(scheduler, receiver.endpoint):
        assert scheduler.run().code.name == "EXHAUSTED"
    (record,) = caplog.records
    assert record.getMessage() == f"nothing of this run is sent to {receiver.endpoint}: can't start new thread"
