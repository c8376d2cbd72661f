"""SimulatedExecutor.from_journal: a recorded run, replayed to other callbacks."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalUnsupportedError, WorkerLostError
from amltk.scheduling import Comm, Limits, Retry, Scheduler
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Model:
    """An argument without a canonical form."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.name = self.title = f"model {depth}"


def train(x: Any, rate: float = 1.0) -> Any:
    if x == 3:
        raise ValueError("three")
    if x == 4:
        raise WorkerLostError("lost")
    return x.depth if isinstance(x, Model) else -x * rate


def seconds(fn: Any, x: Any, **_: Any) -> float:
    return 60.0 * (x.depth if isinstance(x, Model) else x)


def record(folder: Path, values: Sequence[Any], n_workers: int = 2, **kwargs: Any) -> None:
    """Record a run that trains with these values, which takes minutes."""
    run(SimulatedExecutor(n_workers, seconds, outcome=operator.call), values, journal=folder, **kwargs)


def run(
    executor: SimulatedExecutor, values: Sequence[Any], *, plugins: Any = (), journal: Any = None, **kwargs: Any
) -> list[Any]:
    """Train with these values; return what was delivered, and when."""
    scheduler = Scheduler(executor)
    task = scheduler.task(train, plugins=plugins)
    told: list[Any] = []
    task.on_result(lambda future, result: told.append((future.args[0], result, executor.makespan)))
    task.on_exception(lambda future, error: told.append((future.args[0], repr(error), executor.makespan)))
    scheduler.on_start(lambda: [task.submit(value, **kwargs) for value in values])
    run_in_virtual_time(scheduler.async_run(journal=journal, display=False, on_exception="continue"))
    return told


def test_a_recorded_run_is_played(tmp_path: Path) -> None:
    """Each call takes as long and ends as recorded, in whatever order the calls are submitted."""
    record(tmp_path, [1, 2, 3, 4, 5])
    executor = SimulatedExecutor.from_journal(tmp_path)
    assert executor.n_workers == 2
    assert run(executor, [5, 3, 1]) == [
        (3, "ValueError('three')", 180.0),
        (1, -1.0, 240.0),
        (5, -5.0, 300.0),
    ]
    executor = SimulatedExecutor.from_journal(tmp_path, 10)
    assert [(x, at) for x, _, at in run(executor, [4, 2])] == [(2, 120.0), (4, 240.0)]


def test_keywords_and_objects(tmp_path: Path) -> None:
    """Keyword arguments count, and so do objects known only by their pickle."""
    record(tmp_path, [1, Model(2)], rate=2.0)
    executor = SimulatedExecutor.from_journal(tmp_path)
    told = run(executor, [Model(2), 1], rate=2.0)
    assert [result for _, result, _ in told] == [-2.0, 2]
    with pytest.raises(LookupError, match=r"train\(1, rate=3.0\)"):
        run(SimulatedExecutor.from_journal(tmp_path), [1], rate=3.0)


@pytest.mark.parametrize(("value", "why"), [(7, "it was not submitted"), (2, "its call 1 was cancelled")])
def test_what_has_no_outcome_is_refused(tmp_path: Path, value: int, why: str) -> None:
    """A call without a recorded outcome is an error at submission, whatever on_exception says."""
    executor = SimulatedExecutor(2, seconds, outcome=operator.call)
    scheduler = Scheduler(executor)
    task = scheduler.task(train)
    scheduler.on_start(lambda: [task.submit(1), task.submit(2).cancel()])
    run_in_virtual_time(scheduler.async_run(journal=tmp_path, display=False, on_cancelled="continue"))
    with pytest.raises(LookupError, match=f"no outcome of train\\({value}\\): {why}"):
        run(SimulatedExecutor.from_journal(tmp_path), [1, value])


def test_what_has_not_ended_is_refused(tmp_path: Path) -> None:
    """A call that was pending when its process was killed has no outcome."""
    record(tmp_path, [1, 2])
    with open(tmp_path / "journal.log", "r+b") as log:
        log.truncate(log.seek(0, 2) - 300)
    with pytest.raises(LookupError, match="has not ended"):
        run(SimulatedExecutor.from_journal(tmp_path), [2])


def test_what_has_no_outcome_may_have_a_default(tmp_path: Path) -> None:
    """duration= and outcome= apply only to calls without a recorded outcome."""
    record(tmp_path, [1])
    executor = SimulatedExecutor.from_journal(tmp_path, 1, "2 min", outcome=lambda fn, x: x * 10)
    assert run(executor, [1, 7]) == [(1, -1.0, 60.0), (7, 70, 180.0)]
    executor = SimulatedExecutor.from_journal(tmp_path, 1, lambda fn, x: x)
    assert run(executor, [1, 7]) == [(1, -1.0, 60.0), (7, None, 67.0)]
    with pytest.raises(ValueError, match="duration=-1"):
        SimulatedExecutor.from_journal(tmp_path, duration=-1)


def test_equal_calls_have_their_outcomes_in_order(tmp_path: Path) -> None:
    """Each attempt counts as a call; when all outcomes are used, the last one repeats."""
    results = iter([ValueError("first"), 10, 20])

    def outcome(fn: Any, x: Any) -> Any:
        value = next(results)
        if isinstance(value, Exception):
            raise value
        return value

    run(SimulatedExecutor(1, outcome=outcome), [1, 1], plugins=Retry(attempts=2), journal=tmp_path)
    told = run(SimulatedExecutor.from_journal(tmp_path), [1, 1, 1, 1])
    assert [result for _, result, _ in told] == ["ValueError('first')", 10, 20, 20]


def test_plugins_of_the_other_program(tmp_path: Path) -> None:
    """A function wrapped by plugins is found by its own name."""
    record(tmp_path, [1, 2])
    told = run(SimulatedExecutor.from_journal(tmp_path), [2], plugins=Limits(wall_time=100))
    assert told == [(2, -2.0, 120.0)]


def test_random_numbers_of_the_recorded_run(tmp_path: Path) -> None:
    """The seed of the recorded run makes scheduler.random return the same numbers."""

    def search(executor: SimulatedExecutor, seed: int | None, journal: Path | None) -> list[float]:
        scheduler = Scheduler(executor)
        task = scheduler.task(train)
        told: list[float] = []
        task.on_result(lambda future, result: told.append(result))
        if seed is not None:
            scheduler.random.seed(seed)
        scheduler.on_start(lambda: [task.submit(scheduler.random.random()) for _ in range(3)])
        run_in_virtual_time(scheduler.async_run(journal=journal, display=False))
        return told

    first = search(SimulatedExecutor(1, seconds, outcome=operator.call), None, tmp_path)
    executor = SimulatedExecutor.from_journal(tmp_path)
    assert search(executor, executor.seed, None) == first
    assert SimulatedExecutor(1).seed is None


def send(number: int, comm: Any) -> int:
    with comm.open():
        comm.send(number)
    return number


def test_messages_are_not_left_out_silently(tmp_path: Path) -> None:
    """Calls that sent messages are rejected unless their duration and outcome are given."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(send, plugins=Comm.Plugin())
    scheduler.on_start(lambda: task.submit(1))
    scheduler.run(journal=tmp_path, display=False)

    with pytest.raises(JournalUnsupportedError, match=r"call 0 of the journal .* has sent messages by Comm"):
        SimulatedExecutor.from_journal(tmp_path)
    other = Scheduler(SimulatedExecutor.from_journal(tmp_path, duration=1.0, outcome=lambda fn, number: -number))
    told: list[Any] = []
    silent = other.task(send)
    silent.on_result(lambda _, result: told.append(result))
    other.on_start(lambda: silent.submit(1))  # type: ignore[call-arg]
    run_in_virtual_time(other.async_run(display=False))
    assert told == [-1]
