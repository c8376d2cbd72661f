"""Which call needed the result of which other call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from amltk.scheduling.timeline.record import Record


def links(rows: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """The pairs of rows of which the second needed the result of the first.

    Of a call that needed a result, the first attempt counts; of one that was needed, the last. What is not among the
    rows is left out: it was dropped, or never began.
    """
    last = {record.call: row for row, record in enumerate(rows) if record.outcome != "retried"}
    for row, record in enumerate(rows):
        if record.attempt == 1:
            yield from ((last[number], row) for number in record.needs if number in last)
