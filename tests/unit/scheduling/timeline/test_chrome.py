"""The trace is in the format of Perfetto and Chrome: metadata (M), complete slices (X), counters (C)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from amltk.scheduling.timeline import chrome
from tests.unit.scheduling.timeline.making import record

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = [
    record(0.001, 0.003, 7, arguments="x=1"),
    record(0.002, 0.004, 7, host="other", outcome="failed", error="ValueError: no"),
    record(0.003, 0.005, 8),
    record(None, None, 8, outcome="cancelled"),
    record(0.001, 0.002, None),
]


def events(kind: str) -> list[dict[str, Any]]:
    return [event for event in chrome.trace(RECORDS)["traceEvents"] if event["ph"] == kind]


def test_a_slice_for_each_record_that_began() -> None:
    """Times are microseconds from the first submission; the slice includes arguments and outcome."""
    slices = events("X")
    assert len(slices) == 4
    assert all({"name", "cat", "ph", "ts", "dur", "pid", "tid"} <= set(event) for event in slices)
    first = next(event for event in slices if event["args"]["arguments"] == "x=1")
    assert (first["ts"], first["dur"], first["cat"]) == (1000.0, 2000.0, "succeeded")
    (failed,) = (event for event in slices if event["cat"] == "failed")
    assert failed["args"]["error"] == "ValueError: no"


def test_processes_of_two_hosts_are_two_processes() -> None:
    """Equal pids on two machines are different processes; each process has a name, as has each lane."""
    assert {7, 8} < {event["pid"] for event in events("X")}
    slices, names = events("X"), events("M")
    assert len({event["pid"] for event in slices}) == 4
    named = {event["pid"]: event["args"]["name"] for event in names if event["name"] == "process_name"}
    assert {"node", "other, process 7", "unknown workers"} <= set(named.values())
    threads = {(event["pid"], event["tid"]) for event in names if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in slices} == threads


def test_the_counter_tells_how_many_ran() -> None:
    """The counter rises and falls with the slices, and ends at zero."""
    assert [(event["ts"], event["args"]["calls"]) for event in events("C")] == [
        (1000.0, 2),
        (2000.0, 2),
        (3000.0, 2),
        (4000.0, 1),
        (5000.0, 0),
    ]


def test_the_file_is_strict_json(tmp_path: Path) -> None:
    """The file contains no NaN and equals what `trace` returns; an empty recording is a valid trace as well."""
    chrome.write(RECORDS, tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text(), parse_constant=str.upper) == json.loads(
        json.dumps(chrome.trace(RECORDS))
    )
    assert [event["ph"] for event in chrome.trace([])["traceEvents"]] == ["M"]
