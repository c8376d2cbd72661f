"""The records in the trace format of Chrome, which Perfetto reads.

Its description: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk.scheduling.timeline.lanes import device_lanes, lanes
from amltk.scheduling.timeline.links import links

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from amltk.scheduling.timeline.lanes import Lane
    from amltk.scheduling.timeline.record import Record

Numbered = tuple[tuple[int, int], "Lane"]
"""A lane with the numbers of its process and of its thread."""

COLOURS = {
    "succeeded": "good",
    "failed": "terrible",
    "cancelled": "grey",
    "retried": "bad",
    "running": "thread_state_running",
}
"""For each outcome, a colour name that Chrome knows; Perfetto picks its own colours."""

LARGEST_PID = 1 << 22
"""The largest process ID on Linux."""


def trace(records: Sequence[Record]) -> dict[str, Any]:
    """A trace.

    It has process and thread names (M), slices (X) for calls that began, and again for the devices that they had, a
    counter (C) of running calls, and flows (s, f) from calls to those that needed their results.
    """
    drawn = lanes(records)
    devices = device_lanes(records)
    start = min((record.submitted for lane in drawn for record in lane.records), default=0.0)
    start = min([start, *(lane.records[0].began or start for lane in drawn)])
    now = max((record.ended or 0.0 for lane in drawn for record in lane.records), default=start)
    numbered = list(_numbered([*drawn, *devices]))
    computed = numbered[: len(drawn)]
    events = [*_names(numbered), *_slices(numbered, start, now), *_running(drawn, start), *_flows(computed, start)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"began": start}}


def write(records: Sequence[Record], path: str | os.PathLike[str]) -> None:
    """Write a trace to a file."""
    Path(path).write_text(json.dumps(trace(records), separators=(",", ":")), encoding="utf-8")


def _names(numbered: Iterable[Numbered]) -> Iterator[dict[str, Any]]:
    yield _meta("process_name", 0, 0, name="scheduler")
    named = set()
    for (pid, tid), lane in numbered:
        if pid not in named:
            named.add(pid)
            yield _meta("process_name", pid, tid, name=_process_name(lane, pid))
        yield _meta("thread_name", pid, tid, name=lane.name)
        yield _meta("thread_sort_index", pid, tid, sort_index=tid)


def _process_name(lane: Lane, number: int) -> str:
    if lane.is_device:
        return f"{lane.host or ''} devices".lstrip()
    if not lane.known:
        return "unknown workers"
    return f"{lane.host}" if number == lane.pid else f"{lane.host}, process {lane.pid}"  # viewers add the number


def _meta(kind: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _slices(numbered: Iterable[Numbered], start: float, now: float) -> Iterator[dict[str, Any]]:
    for (pid, tid), lane in numbered:
        for record in lane.records:
            began = record.began or start
            about = {"arguments": record.arguments, "outcome": record.outcome, "attempt": record.attempt}
            if record.error:
                about["error"] = record.error
            if record.cpu is not None:
                about |= {"cpu": record.cpu, "memory": record.memory}
            if record.devices:
                about["devices"] = ", ".join(record.devices)
            yield {
                "ph": "X",
                "name": record.function,
                "cat": record.outcome,
                "cname": COLOURS.get(record.outcome, "grey"),
                "pid": pid,
                "tid": tid,
                "ts": _microseconds(began - start),
                "dur": _microseconds(max(0.0, (record.ended or now) - began)),
                "args": about,
            }


def _flows(numbered: Sequence[Numbered], start: float) -> Iterator[dict[str, Any]]:
    """Arrows, each from the slice of a call that is needed to that of a call that needs it."""
    rows = [(place, record) for place, lane in numbered for record in lane.records]
    for n, (needed, needing) in enumerate(links([record for _, record in rows])):
        for kind, row in (("s", needed), ("f", needing)):
            (pid, tid), record = rows[row]
            began = _microseconds((record.began or start) - start)
            ended = _microseconds((record.ended or record.began or start) - start)
            at = max(began, ended - 0.1) if kind == "s" else began
            yield {
                "ph": kind,
                "name": "result",
                "cat": "dependency",
                "id": n,
                "pid": pid,
                "tid": tid,
                "ts": at,
                **({"bp": "e"} if kind == "f" else {}),
            }


def _running(drawn: Iterable[Lane], start: float) -> Iterator[dict[str, Any]]:
    changes: list[tuple[float, int]] = []
    for lane in drawn:
        for record in lane.records:
            changes.append((record.began or start, 1))
            if record.ended is not None:
                changes.append((record.ended, -1))
    changes.sort()
    level = 0
    for n, (at, change) in enumerate(changes):
        level += change
        if n + 1 == len(changes) or changes[n + 1][0] != at:
            yield {"ph": "C", "name": "running", "pid": 0, "ts": _microseconds(at - start), "args": {"calls": level}}


def _numbered(drawn: Iterable[Lane]) -> Iterator[Numbered]:
    """Each lane with a number for its process and one for its thread.

    Processes on two machines may have the same ID, and the format has no machines: then one of them gets another
    number.
    """
    processes: dict[tuple[str | None, int | None, bool, bool], int] = {}
    others = count(LARGEST_PID + 1)
    taken = set()
    for tid, lane in enumerate(drawn, start=1):
        key = (lane.host, lane.pid, lane.known, lane.is_device)
        if key not in processes:
            number = next(others) if lane.pid is None or lane.pid in taken else lane.pid
            taken.add(number)
            processes[key] = number
        yield (processes[key], tid), lane


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 1)
