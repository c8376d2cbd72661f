"""Threads against processes, with an interpreter lock and without one."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.subjects import FREE_THREADED, OURS, Subject
from benchmarks.table import Better, Line

BUILDS = {"with the GIL": OURS, "free-threaded": FREE_THREADED}
CALLS = {"nothing": "no-op calls/s", "millisecond": "calls/s of 1 ms of pure Python"}


def measure(setting: Setting) -> list[Line]:
    return [line for build, subject in BUILDS.items() for line in _lines(setting, build, subject)]


def _lines(setting: Setting, build: str, subject: Subject) -> list[Line]:
    figures = {key: f"{calls} in 2 threads, {build}" for key, calls in CALLS.items()}
    if not subject.python.exists():
        return [Line("threads", figure, theirs="NOT MEASURED: see make free") for figure in figures.values()]
    calls = setting.either(20_000, 2_000)
    cases = {kind: Case("threads", (kind, "--calls", calls), subject) for kind in ("threads", "processes")}
    samples = interleave(cases, setting.rounds(5, 1))
    if subject is FREE_THREADED and samples.first("threads")["has_gil"]:
        raise RuntimeError("something has enabled the GIL again")
    return [
        Line(
            "threads",
            figure,
            ours=samples.spread("threads", key).show(),
            peer="2 processes",
            theirs=samples.spread("processes", key).show(),
            ratio=samples.ratio(key, "threads", "processes"),
            better=Better.MORE,
        )
        for key, figure in figures.items()
    ]
