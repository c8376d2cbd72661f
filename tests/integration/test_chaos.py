"""Short versions of `make chaos`: calls while processes are killed and stopped, and programs that end."""

from __future__ import annotations

import sys

import pytest

from tests.chaos.deaths import WAYS, die
from tests.chaos.siege import besiege
from tests.helpers.gate import GUARD

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
