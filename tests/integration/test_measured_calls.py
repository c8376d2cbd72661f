"""What calls have used is measured in the worker, where something records it, and shown wherever calls are listed."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.cli.main import main
from amltk.journal.live.table import CallTable, Query
from amltk.journal.reader import Reader
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.execution_info import execution_info
from amltk.scheduling.timeline import Timeline

if TYPE_CHECKING:
    from pathlib import Path

MB = 10**6
HAS_PEAKS = os.access("/proc/self/clear_refs", os.W_OK)
METHODS = pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])


def compute(seconds: float) -> float:
    """Use CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def allocate(size: int) -> int:
    """Use memory, for longer than what is too short to be measured."""
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(0.005)
    return len(held)


def rest(seconds: float) -> None:
    time.sleep(seconds)


def fail(seconds: float) -> None:
    compute(seconds)
    raise ValueError("no")


@METHODS
def test_a_timeline_has_cpu_time_and_peak_memory_of_each_call(method: Any) -> None:
    """Of each call alone, in the order in which one worker has computed them, and of those that fail."""
    scheduler = Scheduler.with_processes(1, mp_context=method)

    @scheduler.on_start
    def start() -> None:
        scheduler.submit(compute, 0.2)
        scheduler.submit(rest, 0.2)
        scheduler.submit(allocate, 200 * MB)
        scheduler.submit(allocate, 20 * MB)
        scheduler.submit(fail, 0.2)

    with Timeline(scheduler) as timeline:
        scheduler.run(on_exception="continue")
        busy, idle, large, small, failed = sorted(timeline.records(), key=lambda record: record.call)
    assert busy.cpu is not None
    assert failed.cpu is not None
    assert idle.cpu is not None
    assert busy.cpu >= 0.2
    assert failed.cpu >= 0.2
    assert idle.cpu < 0.2
    assert large.memory is not None
    assert large.memory > 200 * MB
    if HAS_PEAKS:  # else it is not known what the later ones had
        assert small.memory is not None
        assert 20 * MB < small.memory < large.memory - 150 * MB
    frame = timeline.df().set_index("function")
    assert frame.loc["compute", "cpu"] == busy.cpu
    assert f'"used":{{"0":[{round(busy.cpu, 6)},' in timeline.html()
    slices = [event for event in timeline.chrome_trace()["traceEvents"] if event["ph"] == "X"]
    assert slices[0]["args"]["cpu"] == busy.cpu


def test_nothing_is_measured_unless_something_records_it() -> None:
    """A plain run has no numbers, nor has a run after one with a timeline; very short calls have none either."""
    told: list[Any] = []
    with Scheduler.with_processes(1) as scheduler:
        scheduler.on_start(lambda: scheduler.submit(rest, 0.01))
        scheduler.on_future_done(lambda future: told.append(execution_info(future.work)))
        scheduler.run()
        with Timeline(scheduler):
            scheduler.run()
        scheduler.run()
    assert [info.cpu is not None for info in told] == [False, True, False]

    with Timeline(short := Scheduler.with_processes(1)) as timeline:
        short.on_start(lambda: short.task(len).map([()] * 50))
        short.run()
    quick = [record for record in timeline.records() if record.began and record.ended - record.began < 0.001]  # type: ignore[operator]
    assert {record.cpu for record in quick} == {None}


def test_a_pool_measures_when_it_is_told_to() -> None:
    """`ProcessPool.measure_calls`: the executor's future tells what the call used."""
    with ProcessPool(1) as pool:
        plain = pool.submit(rest, 0.01)
        plain.result()
        pool.measure_calls(True)
        measured = pool.submit(allocate, 50 * MB)
        measured.result()
    assert plain.execution_info.cpu is plain.execution_info.memory is None  # type: ignore[attr-defined]
    assert measured.execution_info.memory > 50 * MB  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The journal of a run of two calls, one that uses CPU time and one that uses memory."""
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: [scheduler.submit(compute, 0.2), scheduler.submit(allocate, 100 * MB)])
    scheduler.run(journal=tmp_path / "search")
    return tmp_path / "search"


def test_a_journal_records_it_for_all_tools(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The history, its DataFrame, exports, `amltk calls` and the table of the page have the same numbers."""
    busy, large = amltk.journal.open(folder).calls()
    assert busy.cpu is not None
    assert busy.cpu >= 0.2
    assert large.memory is not None
    assert large.memory > 100 * MB
    frame = amltk.journal.open(folder).df()
    assert list(frame["cpu"]) == [busy.cpu, large.cpu]
    assert list(frame["memory"]) == [busy.memory, large.memory]

    assert main(["calls", str(folder), "--sort", "cpu", "--reverse"]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:5] == ["call", "state", "duration", "cpu", "memory"]
    assert (first.split()[0], second.split()[0]) == ("0", "1")
    assert f"  {large.memory / MB:.0f} MB  " in second
    assert main(["calls", str(folder), "--json"]) == 0
    assert [call["memory"] for call in json.loads(capsys.readouterr().out)] == [busy.memory, large.memory]
    for ending in ("csv", "sqlite"):
        assert main(["export", str(folder), str(folder.parent / f"calls.{ending}")]) == 0

    table = CallTable()
    for record in Reader(folder).records():
        table.take(record)
    table.flush()
    rows = table.rows(Query(sort="memory"))
    table.close()
    assert [(row["number"], row["cpu"], row["memory"]) for row in rows] == [
        (1, large.cpu, large.memory),
        (0, busy.cpu, busy.memory),
    ]


def test_where_nothing_is_measured_there_are_no_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal of calls of threads is shown as before."""
    scheduler = Scheduler.with_threads(1)
    scheduler.on_start(lambda: scheduler.submit(rest, 0.01))
    scheduler.run(journal=tmp_path / "threads")
    (call,) = amltk.journal.open(tmp_path / "threads").calls()
    assert call.cpu is call.memory is None
    assert main(["calls", str(tmp_path / "threads")]) == 0
    assert capsys.readouterr().out.split()[:4] == ["call", "state", "duration", "worker"]
