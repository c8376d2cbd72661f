"""Each worker has a lane; calls of unknown workers are spread so that none overlap."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from amltk.scheduling.timeline.lanes import apart, lanes
from tests.unit.scheduling.timeline.making import record


def test_a_worker_is_a_lane() -> None:
    """Records are sorted by worker and time, workers by their first record; calls that never started are in no lane."""
    drawn = lanes([record(5, 6, 1), record(1, 2, 2), record(3, 4, 1), record(None, None, 1)])
    assert [(lane.name, [r.began for r in lane.records]) for lane in drawn] == [
        ("pid 2", [record(1, 2).began]),
        ("pid 1", [record(3, 4).began, record(5, 6).began]),
    ]


def test_names_say_as_much_as_is_needed() -> None:
    """A lane's name has the host only if there are several, and the thread only if a process has several."""
    two_hosts = lanes([record(1, 2), record(1, 2, host="other"), record(1, 2, 3, host=None)])
    assert [lane.name for lane in two_hosts] == ["?, pid 3", "node, pid 1", "other, pid 1"]
    threads = lanes([record(1, 2, thread="a"), record(1, 2, thread="b")])
    assert [lane.name for lane in threads] == ["a", "b"]
    mixed = lanes([record(1, 2, thread="a"), record(1, 2, thread="b"), record(1, 2, 2, thread="a")])
    assert [lane.name for lane in mixed] == ["pid 1, a", "pid 1, b", "pid 2"]


def test_lanes_of_unknown_workers_say_so() -> None:
    """Lanes of unknown workers come last, are marked unknown, and are as many as calls overlap."""
    drawn = lanes([record(0, 4, None), record(1, 2, None), record(2, 3, None), record(0, 1)])
    assert [(lane.name, lane.known, len(lane.records)) for lane in drawn] == [
        ("pid 1", True, 1),
        ("any worker, 1", False, 1),
        ("any worker, 2", False, 2),
    ]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10))))
def test_nothing_overlaps_and_no_lane_is_too_much(times: list[tuple[int, int]]) -> None:
    """In no lane does a record start before the previous one has ended; there are at most as many lanes as overlaps."""
    records = [record(began, began + length, None) for began, length in times]
    spread = apart(records)
    for lane in spread:
        assert all((one.ended or 0) <= (other.began or 0) for one, other in pairwise(lane))
    most = max((sum(b <= at < b + length for b, length in times) for at, _ in times), default=0)
    empty = any(length == 0 for _, length in times)  # takes a lane for no time
    assert most <= len(spread) <= (len(times) if empty else most)
    assert sum(map(len, spread)) == len(records)


def test_what_has_not_ended_keeps_its_lane() -> None:
    """No call follows a running call."""
    assert list(map(len, apart([record(0, None, None), record(100, 101, None)]))) == [1, 1]
