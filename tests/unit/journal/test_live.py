"""Following a journal while it grows yields the same as reading all of it afterwards."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amltk.journal import Kind, Writer, retry, rewind
from amltk.journal.folder import Folder
from amltk.journal.live.buckets import MOST, Buckets
from amltk.journal.live.follower import Follower
from amltk.journal.live.series import MOST_POINTS, Point, Series
from amltk.journal.live.status import Status, read_status, write_status
from amltk.journal.live.table import Query
from amltk.journal.live.workers import MOST as MOST_WORKERS
from amltk.journal.live.workers import OTHERS, Workers
from amltk.web import facts

TRACEBACK = (
    'Traceback (most recent call last):\n  File "/home/me/train.py", line {}, in fit\n    step()\nOSError: no room'
)

ENDINGS: tuple[tuple[Kind, dict[str, Any]], ...] = (
    (Kind.RESULT, {"number": 0.5}),
    (Kind.RESULT, {"numbers": {"loss": 1.5, "accuracy": math.nan}, "returned": "{…}"}),
    (Kind.RESULT, {"returned": "'done'"}),
    (Kind.EXCEPTION, {"type": "OSError", "message": "no room", "traceback": TRACEBACK.format(7)}),
    (Kind.LOST, {"type": "WorkerLostError", "message": "signal 9"}),
    (Kind.CANCELLED, {}),
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(["train", "test"])),
        st.tuples(st.just("end"), st.integers(0, 30), st.sampled_from(ENDINGS), st.integers(1, 3)),
        st.tuples(st.just("note"), st.sampled_from([Kind.SESSION, Kind.SUSPEND, Kind.FINISH, Kind.ALIVE])),
        st.tuples(st.just("look"), st.integers(1, 4)),
        st.tuples(st.just("retry"), st.integers(0, 30)),
    ),
    max_size=60,
)


def known(follower: Follower) -> Any:
    """Everything that a page shows."""
    assert follower.table is not None
    told = facts.overview(follower, "search")
    calls = [facts.call(follower, row["number"]) for row in follower.table.rows(Query(limit=1000, descending=False))]
    own = {"now", "version"}
    return json.dumps(facts.plain([{key: value for key, value in told.items() if key not in own}, calls]))


def from_scratch(folder: Path) -> Any:
    """The same for a reader that starts after everything is written."""
    follower = Follower(folder, table=True)
    follower.finish()
    told = known(follower)
    follower.close()
    return told


@given(steps)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_known_does_not_depend_on_when_one_looks(steps: list[Any]) -> None:
    """Reading in pieces during writing and reading all at once give the same result."""
    with tempfile.TemporaryDirectory() as folder:
        follower = Follower(folder, table=True)
        with Writer(folder) as writer:
            calls, at = 0, 1000.0
            for step in steps:
                at += 0.7
                if step[0] == "submit":
                    writer.add(Kind.SUBMISSION, {"task": step[1], "arguments": f"({calls})"}, b"x", call=calls, at=at)
                    calls += 1
                elif step[0] == "end" and calls:
                    kind, head = step[2]
                    ran = {"began": at - step[3], "duration": float(step[3]), "host": "node", "pid": step[3]}
                    writer.add(kind, ran | head, call=step[1] % calls, at=at)
                elif step[0] == "note":
                    writer.add(step[1], {"code": "EXHAUSTED", "reason": "no more"}, at=at)
                elif step[0] == "retry" and calls:
                    writer.add(Kind.SESSION, {"retried": [step[1] % calls]}, at=at)
                elif step[0] == "look":
                    writer.flush()
                    follower.advance(step[1])
        follower.finish()
        try:
            assert follower.generation == 0
            assert follower.problem == ""
            assert known(follower) == from_scratch(Path(folder))
        finally:
            follower.close()


def write(folder: Path, calls: range, *, fail: bool = False) -> None:
    """Write some calls that have ended."""
    with Writer(folder) as writer:
        if not calls.start:
            writer.add(Kind.SESSION, {"program": ["search.py"], "host": "node", "pid": 1}, at=1000.0)
        for call in calls:
            at = 1000.0 + call
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"(lr=0.{call})", "by": 0}, call=call, at=at)
            ran = {"began": at, "duration": 0.5, "host": "node", "pid": call % 3}
            if fail and call % 3 == 0:
                error = {"type": "OSError", "message": "no room", "traceback": TRACEBACK.format(call % 2)}
                writer.add(Kind.EXCEPTION, ran | error, call=call, at=at + 0.5)
            else:
                writer.add(Kind.RESULT, ran | {"number": float(call)}, call=call, at=at + 0.5)


def test_an_incomplete_record_at_the_end_is_left_until_it_is_whole(tmp_path: Path) -> None:
    """A record that is still being written is not damage, and is read once it is complete."""
    write(tmp_path / "search", range(5))
    log = tmp_path / "search" / "journal.log"
    whole = log.read_bytes()
    follower = Follower(tmp_path / "search")
    for size in range(len(whole) - 40, len(whole) + 1):
        log.write_bytes(whole[:size])
        follower.finish()
        assert follower.problem == ""
    assert follower.tally.counts["result"] == 5
    assert follower.generation == 0


def test_a_journal_that_was_cut_is_read_anew(tmp_path: Path) -> None:
    """After `amltk rewind`, even if as much was written again, nothing that was cut off is shown."""
    folder = tmp_path / "search"
    write(folder, range(6), fail=True)
    follower = Follower(folder, table=True)
    follower.finish()
    rewind(folder, call=2)
    write(folder, range(2, 9))
    follower.finish()
    assert follower.generation == 1
    assert known(follower) == from_scratch(folder)
    follower.close()


def test_a_journal_that_was_removed_or_replaced(tmp_path: Path) -> None:
    """What was read stays while the journal is missing; a new journal replaces it once it exists."""
    folder = tmp_path / "search"
    follower = Follower(folder)
    follower.finish()
    assert follower.state == "missing"
    assert "there is no journal" in follower.problem
    write(folder, range(3))
    follower.finish()
    assert follower.problem == ""
    assert follower.state == "interrupted"
    shutil.rmtree(folder)
    follower.finish()
    assert "there is no journal" in follower.problem
    assert follower.tally.submitted == 3
    write(folder, range(2))
    follower.finish()
    assert follower.problem == ""
    assert follower.tally.submitted == 2


def test_damage_is_reported_and_what_precedes_it_stays(tmp_path: Path) -> None:
    """The reader's error, with its remedy, is reported."""
    folder = tmp_path / "search"
    write(folder, range(4))
    log = folder / "journal.log"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    follower = Follower(folder)
    follower.finish()
    assert "amltk repair" in follower.problem
    assert 0 < follower.tally.submitted < 4


def test_forgotten_failures_are_pending_again(tmp_path: Path) -> None:
    """Failures that `amltk retry` has reset are pending again."""
    folder = tmp_path / "search"
    write(folder, range(7), fail=True)
    follower = Follower(folder, table=True)
    follower.finish()
    assert follower.tally.failed == 3
    retry(folder)
    follower.finish()
    assert follower.state == "retried"
    assert follower.tally.pending(10) == [0, 3, 6]
    assert known(follower) == from_scratch(folder)
    follower.close()


def test_failures_of_one_kind_are_counted_together(tmp_path: Path) -> None:
    """The same error raised in the same place counts as one kind."""
    write(tmp_path / "search", range(9), fail=True)
    follower = Follower(tmp_path / "search")
    follower.finish()
    kinds = {(kind.error, kind.where): kind.count for kind in follower.tally.failures.kinds.values()}
    assert kinds == {("OSError", "fit (train.py:0)"): 2, ("OSError", "fit (train.py:1)"): 1}


def test_a_call_takes_few_bytes(tmp_path: Path) -> None:
    """A terminal can show any number of calls: texts stay in the log."""
    folder = tmp_path / "search"
    write(folder, range(8_000))
    tracemalloc.start()
    try:
        follower = Follower(folder)
        follower.advance(2 * 2_000)
        few, _ = tracemalloc.get_traced_memory()
        follower.finish()
        many, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert follower.tally.submitted == 8_000
    assert (many - few) / 6_000 < 30


# ------------------------------------------------------------------------------------------------ the parts


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e4)), min_size=1, max_size=50))
def test_buckets_keep_the_sum(spans: list[tuple[float, float]]) -> None:
    """However often the buckets are widened, they keep the sum of seconds, and their number is bounded."""
    buckets = Buckets()
    buckets.add("first", 1000.0)
    for begin, seconds in spans:
        buckets.spread("busy", 1000.0 + begin, 1000.0 + begin + seconds)
    assert len(buckets.rows["busy"]) <= MOST
    assert sum(buckets.rows["busy"]) == pytest.approx(sum(seconds for _, seconds in spans), rel=1e-6, abs=1e-6)
    assert all(share >= 0 for share in buckets.rows["busy"])


def test_a_series_keeps_few_points_and_all_that_matters() -> None:
    """The best and the last point of millions are kept, even if each is an improvement."""
    series = Series()
    for n in range(10 * MOST_POINTS):
        series.take(Point(float(n), -float(n), n))
    assert series.count == 10 * MOST_POINTS
    assert len(series.points) <= MOST_POINTS
    assert len(series.lowest.steps) <= MOST_POINTS
    assert series.lowest.steps[-1].call == series.count - 1
    assert [point.call for point in series.highest.steps] == [0]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"running": 5, "total": -1, "workers": true}', '{"running": [5, {"call": "x"}]}', "[" * 100_000],
)
def test_a_status_that_is_nonsense_is_none(text: str, tmp_path: Path) -> None:
    """Whatever the file contains, reading it neither fails nor returns any of it."""
    folder = Folder(tmp_path)
    folder.status.write_text(text)
    assert read_status(folder) == Status()


def test_a_status_is_what_was_written(tmp_path: Path) -> None:
    """The calls of a status keep their order."""
    folder = Folder(tmp_path)
    running = [{"call": 3, "began": 10.5, "host": "node", "pid": 7}, {"call": 4}]
    write_status(folder, {"time": 12.0, "pid": 1, "running": running, "more": 2, "total": 9, "workers": 4})
    told = read_status(folder)
    assert (told.time, told.total, told.workers, told.more) == (12.0, 9, 4, 2)
    assert [(call.call, call.worker) for call in told.running] == [(3, "7@node"), (4, "")]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", 4),
        ("TRAIN", 4),
        ("100%", 1),
        ("a_b", 1),
        ("'; DROP TABLE calls; --", 0),
        ("2", 2),
        ("no room", 1),
        ("room 100%", 0),
        ("!", 1),
    ],
)
def test_a_search_takes_every_character_as_it_is(search: str, found: int, tmp_path: Path) -> None:
    """All words must occur, in any order; a number also finds the call with that number."""
    with Writer(tmp_path / "search") as writer:
        for call, arguments in enumerate(["(share='100%')", "(name='a_b')", "(name='axb')", "(2, 'why!')"]):
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": arguments}, call=call)
        writer.add(Kind.EXCEPTION, {"type": "OSError", "message": "no room"}, call=3)
    follower = Follower(tmp_path / "search", table=True)
    follower.finish()
    assert follower.table is not None
    assert follower.table.count(Query(search=search)) == found
    assert len(follower.table.rows(Query(search=search))) == found
    follower.close()


def test_sorting_puts_calls_without_a_value_last(tmp_path: Path) -> None:
    """Calls without a value come last in both directions; an unknown column is rejected."""
    write(tmp_path / "search", range(3))
    with Writer(tmp_path / "search") as writer:
        writer.add(Kind.SUBMISSION, {"task": "train"}, call=3)
    follower = Follower(tmp_path / "search", table=True)
    follower.finish()
    assert follower.table is not None
    for descending, numbers in ((True, [2, 1, 0, 3]), (False, [0, 1, 2, 3])):
        rows = follower.table.rows(Query(sort="result", descending=descending))
        assert [row["number"] for row in rows] == numbers
    with pytest.raises(ValueError, match="must be one of"):
        Query(sort="number; DROP TABLE calls")
    follower.close()


def test_it_is_said_how_much_has_been_read(tmp_path: Path) -> None:
    """The state is unknown until the end is reached; an incomplete record at the end counts as the end."""
    folder = tmp_path / "search"
    write(folder, range(50))
    log = folder / "journal.log"
    log.write_bytes(log.read_bytes()[:-5])
    follower = Follower(folder)
    versions = {follower.version}
    assert follower.advance(40)
    versions.add(follower.version)
    assert follower.state == "reading"
    assert 0.3 < follower.share < 0.5
    follower.finish()
    versions.add(follower.version)
    assert (follower.state, follower.share) == ("interrupted", 1.0)
    assert len(versions) == 3


def test_a_thousand_workers_are_counted_one_by_one() -> None:
    """What takes the place of lost ones as well; only far more than anybody has at a time are counted together."""
    workers = Workers()
    for number in range(MOST_WORKERS + 10):
        workers.take(f"{number}@node", float(number), 1.0, failed=number % 2 == 0)
    assert MOST_WORKERS >= 2000
    assert workers.by_name["1999@node"].calls == 1
    assert len(workers.by_name) == MOST_WORKERS + 1
    assert workers.by_name[OTHERS].calls == 10
