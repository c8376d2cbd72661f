"""What the page shows of an experiment, as data that JSON can represent.

Texts of users stay texts: the page never takes them for markup.
"""

from __future__ import annotations

import math
import os
import re
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from amltk._process import clock
from amltk.journal.history.call import PENDING
from amltk.journal.live.buckets import MOST, Buckets
from amltk.journal.live.text import writable
from amltk.scheduling._admission.words import pool_text, waits_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from amltk.journal.format import Record
    from amltk.journal.live.follower import Follower
    from amltk.journal.live.series import Point, Series
    from amltk.journal.live.status import Running
    from amltk.journal.live.workers import Worker

MOST_RUNNING = 100
"""How many running calls are listed."""

MOST_POINTS = 400
"""How many points of a series are sent."""

MOST_WORKERS = 64
"""How many workers are listed, those with the latest calls."""

MOST_BARS = 2000
"""A part of the timeline with more calls than this shows sums instead."""

MOST_ADDED = 300_000
"""How many calls are added up at most."""

LONGEST_OUTPUT = 64 * 1024
"""How many bytes of what a call has printed are shown, from the end."""

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Escape sequences of terminals, and control characters other than tabs and ends of lines."""


def overview(follower: Follower, name: str) -> dict[str, Any]:
    """Everything but single calls.

    Args:
        follower: The experiment.
        name: Its name.
    """
    tally, status, now = follower.tally, follower.status, follower.now()
    running = _running(follower)
    total = status.total if follower.state == "running" else None
    left = tally.counts[PENDING] if total is None else max(0, total - tally.ended)
    live = follower.owner is not None
    return {
        "name": name,
        "folder": str(follower.folder),
        "version": [follower.generation, tally.records],
        "state": follower.state,
        "reason": ", ".join(map(writable, tally.reasons)),
        "problem": follower.problem,
        "reading": None if follower.share >= 1 else follower.share,
        "now": clock.now(),
        "until": now,
        "began": tally.began,
        "latest": tally.latest,
        "alive": tally.alive(now),
        "owner": None if follower.owner is None else {"host": follower.owner.host, "pid": follower.owner.pid},
        "counts": tally.counts,
        "running": running,
        "n_running": len(follower.running()) + status.more if running else 0,
        "total": total,
        "deadline": status.deadline if live else None,
        "n_workers": status.workers if live else None,
        "pools": [pool_text(use.name, use.used, use.total) for use in status.pools] if live else [],
        "waits": waits_text(status.waiting.calls, status.waiting.pools, status.waiting.dependencies) if live else "",
        "rate": tally.pace.rate(now),
        "to_go": tally.pace.to_go(now, left, is_total=total is not None) if live else None,
        "tasks": [_task(task) for task in tally.tasks],
        "failures": _failures(follower),
        "series": [
            _series(task, key, series, many=len(tally.tasks) > 1)
            for (task, key), series in tally.series.by_name.items()
        ],
        "timeline": timeline(follower),
        "workers": _workers(follower),
        "sessions": [
            {"began": s.began, "program": s.program, "host": s.host, "pid": s.pid, "python": s.python}
            for s in tally.sessions[-20:]
        ],
        "n_sessions": tally.n_sessions,
        "torn": follower.torn if not live else 0,
    }


def _running(follower: Follower) -> list[dict[str, Any]]:
    """The calls that run, or ran when the process was killed; where the run does not say, those that have not ended."""
    tally, status = follower.tally, follower.status
    if follower.state not in {"running", "interrupted"}:
        return []
    told = follower.running()
    if told:
        return [_call_that_runs(follower, call) for call in told[:MOST_RUNNING]]
    if status.time is not None:
        return []
    return [{**_named(follower, call), "began": None, "worker": ""} for call in tally.pending(MOST_RUNNING)]


def _call_that_runs(follower: Follower, call: Running) -> dict[str, Any]:
    known = {"began": call.began, "worker": call.worker, "devices": call.devices}
    return {**_named(follower, call.call), **known, **measures(call)}


def measures(call: Running) -> dict[str, Any]:
    """What a worker on this machine uses now: memory in bytes, and seconds of CPU time; empty for any other worker."""
    if call.pid is None or call.host != os.uname().nodename:
        return {}
    import psutil

    try:
        process = psutil.Process(call.pid)
        with process.oneshot():
            times = process.cpu_times()
            return {"memory": process.memory_info().rss, "cpu": times.user + times.system}
    except psutil.Error:
        return {}


def _named(follower: Follower, call: int) -> dict[str, Any]:
    record = follower.submission(call)
    head = {} if record is None else record.head
    return {
        "call": call,
        "task": follower.tally.task_of(call),
        "arguments": writable(head.get("arguments")),
        "submitted": None if record is None else record.time,
        "attempt": head.get("attempt", 0),
        "resources": _resources(head),
    }


def _resources(head: Mapping[str, Any]) -> str:
    """What a call asks for, in words; empty if nothing."""
    told = head.get("resources")
    return ", ".join(f"{writable(name)} {amount}" for name, amount in told.items()) if isinstance(told, dict) else ""


def _task(task: Any) -> dict[str, Any]:
    mean = task.seconds / task.computed if task.computed else None
    return {"name": task.name, "counts": task.counts, "mean": mean, "longest": task.longest, "computed": task.computed}


def _failures(follower: Follower) -> dict[str, Any]:
    kinds = sorted(follower.tally.failures.kinds.values(), key=lambda kind: -kind.count)
    return {
        "count": follower.tally.failures.count,
        "kinds": [
            {
                "error": kind.error,
                "where": kind.where,
                "count": kind.count,
                "first": kind.first,
                "last": kind.last.call,
                "time": kind.last.time,
                "message": kind.last.message,
            }
            for kind in kinds
        ],
    }


def _series(task: str, key: str, series: Series, *, many: bool) -> dict[str, Any]:
    name = " ".join(part for part in ((task if many else ""), key or "result") if part)
    return {
        "id": f"{task}\n{key}",
        "name": name,
        "key": key,
        "count": series.count,
        "points": thinned(series.points),
        "lowest": thinned(series.lowest.steps),
        "highest": thinned(series.highest.steps),
    }


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS` of the points, evenly, with the last one."""
    step = math.ceil(len(points) / MOST_POINTS) or 1
    return [*points[:-1:step], points[-1]] if points else []


def _workers(follower: Follower) -> list[dict[str, Any]]:
    busy = {call.worker for call in follower.running()} if follower.owner is not None else set()
    return [
        {
            "name": worker.name,
            "calls": worker.calls,
            "failed": worker.failed,
            "seconds": worker.seconds,
            "last": worker.last,
            "busy": worker.name in busy,
        }
        for worker in _listed(follower)
    ]


def _listed(follower: Follower) -> list[Worker]:
    """The workers with the latest calls, in the order in which they came: "worker 2" is before "worker 10"."""
    workers = follower.tally.workers.by_name.values()
    latest = {worker.name for worker in nlargest(MOST_WORKERS, workers, key=lambda worker: worker.last)}
    return [worker for worker in workers if worker.name in latest]


def timeline(follower: Follower) -> dict[str, Any]:
    """When calls ended and when workers were busy, over the whole experiment."""
    workers = follower.tally.workers.by_name.values()
    shown = {worker.row for worker in _listed(follower)}
    lanes = {worker.row: worker.name for worker in workers if worker.row in shown}
    return _lanes(follower.tally.buckets, lanes) | {"more": len(workers) - len(lanes)}


def _lanes(buckets: Buckets, lanes: dict[str, str]) -> dict[str, Any]:
    ends = {
        state: _rounded(buckets.rows[state]) for state in ("result", "failed", "cancelled") if state in buckets.rows
    }
    return {
        "start": buckets.start,
        "width": buckets.width,
        "size": max(map(len, buckets.rows.values()), default=0),
        "ends": ends,
        "lanes": [
            {"name": name, "busy": _rounded(share / buckets.width for share in buckets.rows[row])}
            for row, name in lanes.items()
            if row in buckets.rows
        ],
    }


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [int(number) if number.is_integer() else round(number, 3) for number in numbers]


def part_of_timeline(follower: Follower, begin: float, end: float) -> dict[str, Any]:
    """A part of the timeline: its calls one by one, if they are not too many, or added up.

    Args:
        follower: The experiment, with a table.
        begin: Its beginning, in seconds since the epoch.
        end: Its end.
    """
    assert follower.table is not None
    calls = follower.table.computed(begin, end, MOST_BARS + 1)
    if len(calls) <= MOST_BARS:
        order = {name: place for place, name in enumerate(follower.tally.workers.by_name)}
        names = sorted({call[2] for call in calls}, key=lambda name: order.get(name, len(order)))
        places = {name: place for place, name in enumerate(names)}
        rows = [(number, state, places[worker], began, seconds) for number, state, worker, began, seconds in calls]
        return {"begin": begin, "end": end, "lanes": names[:MOST_WORKERS], "calls": rows}
    buckets = Buckets()
    buckets.start, buckets.width = begin, (end - begin) / MOST
    lanes: dict[str, str] = {}
    latest = end - buckets.width / 2
    for _, state, worker, began, seconds in follower.table.computed(begin, end, MOST_ADDED):
        ended = began + seconds
        if ended <= latest:
            buckets.add("failed" if state in {"exception", "lost"} else state, ended)
        row = lanes.setdefault(worker, f"worker {len(lanes)}")
        buckets.spread(row, max(began, begin), min(ended, latest))
    shown = {row: name for name, row in list(lanes.items())[:MOST_WORKERS]}
    return {"begin": begin, "end": end, "added": _lanes(buckets, shown)}


# ----------------------------------------------------------------------------------------------------------- one call


def call(follower: Follower, number: int) -> dict[str, Any] | None:
    """Everything that is known about a call; None if there is none of this number."""
    assert follower.table is not None
    row = follower.table.row(number)
    if row is None:
        return None
    for name in ("submission", "outcome"):
        offset = row.pop(name)
        record = None if offset is None else follower.record(offset)
        if record is not None and record.call == number:
            row |= _of_outcome(record) if name == "outcome" else _of_submission(record)
    running = [told for told in follower.status.running if told.call == number]
    if running and row["state"] == PENDING:
        row |= _call_that_runs(follower, running[0]) | {"is_running": True}
    place = row.pop("place", None)
    if type(place) is int:  # nothing else becomes a part of a path
        row |= output(follower.folder.calls / str(place) / "output.log")
    return row


def _of_submission(record: Record) -> dict[str, Any]:
    head = record.head
    return {
        "arguments": writable(head.get("arguments")),
        "after": head.get("after", []),
        "place": head.get("place"),
        "resources": _resources(head),
    }


def _of_outcome(record: Record) -> dict[str, Any]:
    head = record.head
    told = {key: plain_text(writable(head.get(key))) for key in ("message", "traceback", "returned") if head.get(key)}
    devices = head.get("devices")
    names = list(map(writable, devices)) if isinstance(devices, list) else []
    return told | {"numbers": head.get("numbers", {}), "devices": names}


def output(path: Path) -> dict[str, Any]:
    """What a call has printed: the end of it, without the control characters of terminals."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LONGEST_OUTPUT))
            text = file.read(LONGEST_OUTPUT).decode("utf-8", "replace")
    except OSError:
        return {}
    return {"output": plain_text(text), "output_size": size, "output_cut": size > LONGEST_OUTPUT}


def plain_text(text: str) -> str:
    """A text without the escape sequences of terminals.

    Of a line that was overwritten, such as that of a progress bar, it keeps the last state.
    """
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(_CONTROL.sub("", line) for line in lines)


def plain(value: Any) -> Any:
    """The same data with texts in place of the numbers that JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
