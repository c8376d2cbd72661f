"""Tells what was recorded of a call with which something went wrong."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.work import Place

NAMES = {
    "S": "submitted",
    "R": "result",
    "X": "exception",
    "C": "cancelled",
    "O": "conversation opened",
    "Q": "conversation closed",
    "B": "begins",
    "E": "ends",
    "M": "makes shared memory",
}

RECENT = 3.0
"""Seconds before a call within which attacks on its processes are told."""


def history(place: Place, number: int) -> str:
    """All that was recorded of a call, and of its workers meanwhile, in the order of time; times are in seconds.

    Args:
        place: The files of the driver and of its calls.
        number: The number of the call.
    """
    its = sorted(chain(_events_of(place, number), _steps_of(place, number)))
    if not its:
        return "nothing was recorded of it"
    first, last = its[0][0], its[-1][0]
    pids = {words[2] for _, words in place.read_times("calls") if int(words[1]) == number}
    attacks = (
        (at, f"{' '.join(words)} (attack)")
        for at, words in place.read_times("attacks")
        if words[-1] in pids and first - RECENT <= at <= last
    )
    beginnings = [at for at, words in place.read_times("events") if words[0] == "W"]
    begin = min(beginnings, default=first)
    lines = (f"{at - begin:.4f} {text}" for at, text in sorted(chain(its, attacks)))
    return f"in a {_where(place, first)}: {'; '.join(lines)}"


def _events_of(place: Place, number: int) -> Iterator[tuple[float, str]]:
    """What the driver was told."""
    for at, (what, *words) in place.read_times("events"):
        if what in NAMES and words[0] == str(number):
            yield at, " ".join((NAMES[what], *words[1:]))


def _steps_of(place: Place, number: int) -> Iterator[tuple[float, str]]:
    """What the call has recorded."""
    for at, (what, its, pid) in place.read_times("calls"):
        if int(its) == number:
            yield at, f"{NAMES[what]} in {pid}"


def _where(place: Place, at: float) -> str:
    """Where calls were made at some time."""
    found = [" ".join(words[1:]) for then, words in place.read_times("events") if words[0] == "W" and then <= at]
    return found[-1] if found else "place that is unknown"
