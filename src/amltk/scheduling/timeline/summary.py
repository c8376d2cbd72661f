"""Totals over the records."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.scheduling.timeline.lanes import Lane
    from amltk.scheduling.timeline.record import Record


class Total(NamedTuple):
    """The totals of one function's calls, or of all calls.

    Attributes:
        function: Its name; empty for all functions.
        attempts: The number of attempts by outcome.
        computed: How many attempts have begun and ended.
        seconds: How long those took in total.
        longest: How long the longest of them took.
    """

    function: str
    attempts: Counter[str]
    computed: int
    seconds: float
    longest: float

    @property
    def calls(self) -> int:
        """The number of calls: an attempt that was retried is not the last of its call."""
        return self.attempts.total() - self.attempts["retried"]


def totals(records: Sequence[Record]) -> list[Total]:
    """The totals of all functions together, then of each function, by descending time."""
    by_function: dict[str, list[Record]] = {}
    for record in records:
        by_function.setdefault(record.function, []).append(record)
    each = [_total(name, mine) for name, mine in by_function.items()]
    each.sort(key=lambda total: total.seconds, reverse=True)
    return [_total("", records), *each]


def _total(function: str, records: Sequence[Record]) -> Total:
    durations = [r.ended - r.began for r in records if r.began is not None and r.ended is not None]
    outcomes = Counter(record.outcome for record in records)
    return Total(function, outcomes, len(durations), sum(durations), max(durations, default=0.0))


def span(records: Sequence[Record]) -> tuple[float, float]:
    """The first and the last time in the records; both 0 if there are none."""
    times = [time for r in records for time in (r.submitted, r.began, r.ended) if time is not None]
    return (min(times), max(times)) if times else (0.0, 0.0)


def utilisation(drawn: Sequence[Lane], seconds: float) -> float | None:
    """The share of time the workers were busy, from 0 to 1; None if no worker is known or no time has passed."""
    workers = [lane for lane in drawn if lane.known]
    busy = sum(
        r.ended - r.began for lane in workers for r in lane.records if r.began is not None and r.ended is not None
    )
    return min(1.0, busy / (seconds * len(workers))) if workers and seconds else None
