"""Results are recorded as they arrived from workers, without being pickled a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from amltk.journal import Kind, Reader
from amltk.scheduling import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_CALLS = 6


class Counted:
    """Counts how many times instances were pickled in this process."""

    pickled = 0

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        Counted.pickled += 1
        return Counted, (self.value,)


def small(number: int) -> Counted:
    """Return a result that fits into the record."""
    return Counted(number)


def large(number: int) -> Counted:
    """Return a result that gets a file of its own."""
    return Counted([number] * 100_000)


def with_buffer(number: int) -> Counted:
    """Return a result whose buffer is sent out of band."""
    return Counted(np.full(50_000, number))


def with_function(number: int) -> Callable[[], int]:
    """Return a result without an importable name: a worker pickles it for this process alone."""
    return lambda: number


def value_of(result: Any) -> int:
    """Return the number that a call was given."""
    if callable(result):
        return int(result())
    return int(result.value if isinstance(result.value, int) else result.value[-1])


def search(folder: Path, function: Callable[[int], Any]) -> dict[int, Any]:
    """Run with a journal; return the results by call number."""
    results: dict[int, Any] = {}
    scheduler = Scheduler.with_processes(2)
    task = scheduler.task(function)
    task.map(range(N_CALLS), in_flight=2)

    @task.on_result
    def note(future: Any, result: Any) -> None:
        results[future.number] = result

    scheduler.run(journal=folder, display=False)
    return results


@pytest.mark.parametrize("function", [small, large, with_buffer, with_function])
def test_no_second_pickling(tmp_path: Path, function: Callable[[int], Any]) -> None:
    """Replayed results are unchanged, although this process has not pickled them, whatever their sizes and buffers."""
    Counted.pickled = 0
    first = search(tmp_path, function)
    again = search(tmp_path, function)
    assert Counted.pickled == 0
    assert {number: value_of(result) for number, result in first.items()} == dict(enumerate(range(N_CALLS)))
    assert {number: value_of(result) for number, result in again.items()} == dict(enumerate(range(N_CALLS)))
    values = [record for record in Reader(tmp_path).records() if record.kind == Kind.RESULT]
    assert len(values) == N_CALLS, "the second run has computed nothing"


def test_what_came_out_of_band_may_be_changed(tmp_path: Path) -> None:
    """A replayed array is as writable as it was the first time."""
    for _ in range(2):
        for result in search(tmp_path, with_buffer).values():
            result.value[0] = -1
            assert result.value[0] == -1
