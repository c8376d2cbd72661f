"""A history is exact while short, keeps every mean when long, and never exceeds its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from amltk.scheduling.queue_monitor.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence

Changes = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 1), st.integers(-3, 3)), max_size=60)


def history(changes: Sequence[tuple[int, int, int]], most: int = 8) -> History:
    made = History(2, most)
    for change in changes:
        made.change(*change)
    return made


def integral(made: History, until: int) -> list[float]:
    """The integral of each number over time."""
    steps = [(time, values) for time, values in made.steps() if time < until]
    ends = [time for time, _ in [*steps, (until, [])]][1:]
    return [sum(values[n] * (end - time) for (time, values), end in zip(steps, ends, strict=True)) for n in range(2)]


def test_few_changes_are_exact() -> None:
    """Changes come in any order; the steps are sorted by time, with the values that hold from then on."""
    made = history([(5, 0, 2), (3, 1, 1), (9, 0, -1), (5, 1, 4)])
    assert made.span == 1
    assert list(made.steps()) == [(3, [0, 1]), (5, [2, 5]), (9, [1, 5])]


def test_a_copy_is_independent() -> None:
    """Changing a copy does not change the original."""
    made = history([(5, 0, 2)])
    made.copy().change(5, 0, 1)
    assert list(made.steps()) == [(5, [2, 0])]
    assert list(made.copy().steps()) == list(made.steps())


@given(Changes)
def test_memory_is_bounded(changes: list[tuple[int, int, int]]) -> None:
    """However many changes there are, the number of spans is bounded, and each gives at most two steps."""
    made = history(changes)
    assert len(made._changes) <= 8
    assert len(list(made.steps())) <= 16


@given(Changes)
def test_sums_over_time_stay_exact(changes: list[tuple[int, int, int]]) -> None:
    """Merging moments into spans changes neither the integrals nor the final values."""
    coarse, exact = history(changes), history(changes, most=10_000)
    assert exact.span == 1
    until = 100_000
    assert [round(value, 3) for value in integral(coarse, until)] == [round(v, 3) for v in integral(exact, until)]
    if changes:
        assert list(coarse.steps())[-1][1] == list(exact.steps())[-1][1]


@given(Changes)
def test_spans_are_no_longer_than_needed(changes: list[tuple[int, int, int]]) -> None:
    """Spans of half the length would exceed half of the allowed number."""
    made = history(changes)
    times = [time for time, _, _ in changes]
    assert made.span == 1 or max(times) - min(times) + made.span > 8 // 4 * made.span


def test_the_span_grows_with_the_time_only() -> None:
    """Many changes within the same time do not make the history coarser."""
    made = History(1, 8)
    for n in range(1000):
        made.change(n % 16, 0, 1)
    assert made.span == 4
    assert list(made.steps())[-1] == (16, [1000.0])
