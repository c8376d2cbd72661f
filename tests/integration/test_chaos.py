"""Short versions of `make chaos`: calls while processes are killed and stopped, and programs that end."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.chaos.checking import check_ledgers
from tests.chaos.deaths import WAYS, die
from tests.chaos.siege import besiege
from tests.chaos.work import Place
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what calls leave behind is found on Linux only")


@pytest.mark.parametrize(("method", "calls"), [("forkserver", 120), ("fork", 120), ("spawn", 50)])
def test_nothing_is_lost_or_done_twice_or_left(method: str, calls: int) -> None:
    """Whatever is done to workers and to what starts them, each call has one end, and nothing is left."""
    report = besiege(calls, seed=1, method=method, patience=GUARD)
    assert report.problems == []
    assert report.counts["calls"] >= calls / 2
    assert report.counts["begun"] > 0


@pytest.mark.parametrize("way", WAYS)
def test_no_process_is_left_of_a_program_that_ends(way: str) -> None:
    """Killed, or with its terminal closed, at some moment: all of its processes end."""
    assert die(way, "forkserver", seed=1, patience=GUARD).problems == []


def test_what_was_recorded_of_a_call_is_told_if_it_was_computed_twice(tmp_path: Path) -> None:
    """Its kind, where it was made, each beginning and end with its process, and the attacks on these."""
    place = Place(str(tmp_path), "mark")
    place.note("events", "W", "plain", "run")
    place.note("attacks", "stop worker", 11)
    place.note("attacks", "kill worker", 13)  # which has nothing to do with it
    for number, *ends in ((7, 12, 11), (8, 13)):
        place.note("events", "S", number, "quick")
        for pid in ends:
            place.note("calls", "B", number, pid)
            place.note("calls", "E", number, pid)
        place.note("events", "R", number, "right")
    place.note("events", "D")
    _, problems = check_ledgers(place, {})
    assert [re.sub(r"\d+\.\d{4} ", "", problem) for problem in problems] == [
        "call 7: begun 2 times",
        "call 7: has a result, begun 2 times, ended 2 times: ['right']",
        "call 7 in a plain run: stop worker 11 (attack); submitted quick; begins in 12; ends in 12; begins in 11; "
        "ends in 11; result right",
    ]


@pytest.mark.parametrize(("kind", "end", "why", "problems"), [
    ("long", "kill", "the pool's workers were killed", 0),
    ("long", "kill", "of SIGKILL", 1),
    ("long", "cancel", "the pool's workers were killed", 1),
    ("exits", "cancel", "of its exit code 3", 0),
])  # fmt: skip
def test_a_lost_worker_needs_an_explanation(tmp_path: Path, kind: str, end: str, why: str, problems: int) -> None:
    """The call itself, an attack, or the end of the pool by the driver itself."""
    place = Place(str(tmp_path), "mark")
    place.note("events", "W", "bare", "pool,", "end:", end)
    place.note("events", "S", 1, kind)
    place.note("events", "X", 1, "WorkerLostError", "worker 12 was killed, because", why)
    place.note("events", "D")
    assert len(check_ledgers(place, {})[1]) == problems
    assert check_ledgers(place, {"kill worker": 1})[1] == []
