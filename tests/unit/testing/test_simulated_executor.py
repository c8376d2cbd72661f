"""SimulatedExecutor: when and on which worker calls run, in virtual time."""

from __future__ import annotations

import asyncio
import operator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.exceptions import WorkerLostError
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.timeline import Timeline
from amltk.testing import SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Code = ExitState.Code


def seconds(fn: Any, number: float, *_: Any) -> float:
    """The duration of calls that get it as an argument."""
    return number


def wait(number: float) -> float:
    """The function that calls pretend to compute."""
    return number * 10


def run(executor: SimulatedExecutor, launch: Callable[[Scheduler], object], **options: Any) -> Scheduler:
    """Run a program that submits at the start."""
    scheduler = Scheduler(executor)
    scheduler.on_start(lambda: launch(scheduler))
    run_in_virtual_time(scheduler.async_run(display=False, **options))
    return scheduler


def submit_all(durations: Sequence[float], futures: list[Any] | None = None) -> Callable[[Scheduler], None]:
    """Return a function that submits calls of these durations at once."""

    def launch(scheduler: Scheduler) -> None:
        for duration in durations:
            future: Any = scheduler.submit(wait, duration)
            if futures is not None:
                futures.append(future.work)

    return launch


def test_a_schedule_by_hand() -> None:
    """Two workers take calls in the order of submission: the first free worker starts the next one."""
    executor = SimulatedExecutor(2, seconds)
    works: list[Any] = []
    run(executor, submit_all([3, 1, 4, 1, 5], works))
    assert [(work.worker, work.began, work.ended) for work in works] == [
        ("worker 0", 0, 3),
        ("worker 1", 0, 1),
        ("worker 1", 1, 5),
        ("worker 0", 3, 4),
        ("worker 0", 4, 9),
    ]
    assert (executor.makespan, executor.busy, executor.n_ended) == (9, 14, 5)
    assert executor.utilisation == 14 / 18


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 5))
def test_against_list_scheduling(durations: list[int], n_workers: int) -> None:
    """Makespan and all times are those of list scheduling: the next call goes to the first free worker."""
    free_at = [0] * n_workers
    expected = []
    for duration in durations:
        began = min(free_at)
        free_at[free_at.index(began)] = began + duration
        expected.append((began, began + duration))
    executor = SimulatedExecutor(n_workers, seconds)
    works: list[Any] = []
    run(executor, submit_all(durations, works))
    assert [(work.began, work.ended) for work in works] == expected
    assert executor.makespan == max(free_at)
    assert executor.busy == sum(durations)
    assert 0 <= executor.utilisation <= 1


def test_a_constant_duration_and_no_outcome() -> None:
    """By default a call takes a second and returns None: the function is not called."""
    executor = SimulatedExecutor(1)
    results: list[Any] = []

    def launch(scheduler: Scheduler) -> None:
        scheduler.on_future_result(lambda future, result: results.append(result))
        scheduler.submit(pytest.fail)

    run(executor, launch)
    assert (results, executor.makespan, executor.utilisation) == ([None], 1, 1)


def test_outcomes_are_made_when_calls_end() -> None:
    """`outcome` is called at the end of a call, and returns its result; `operator.call` computes it."""
    executor = SimulatedExecutor(2, seconds, outcome=operator.call)
    told: list[Any] = []

    def launch(scheduler: Scheduler) -> None:
        submit_all([5, 2])(scheduler)
        scheduler.on_future_result(lambda _, result: told.append((asyncio.get_running_loop().time(), result)))

    run(executor, launch)
    assert told == [(2, 20), (5, 50)]


def test_failures() -> None:
    """An exception from `outcome` comes at the end of the call, one from `duration` at once; workers continue."""

    def duration(fn: Any, number: float) -> float:
        if number < 0:
            raise WorkerLostError("before it began")
        return number

    def outcome(fn: Any, number: float) -> None:
        if number == 3:
            raise WorkerLostError("when it was over")

    executor = SimulatedExecutor(1, duration, outcome=outcome)
    told: list[Any] = []

    def launch(scheduler: Scheduler) -> None:
        submit_all([3, -1, -1, 2])(scheduler)
        now = asyncio.get_running_loop().time
        scheduler.on_future_exception(lambda _, error: told.append((now(), str(error))))

    scheduler = run(executor, launch, on_exception="continue")
    assert told == [(3, "when it was over"), (3, "before it began"), (3, "before it began")]
    assert (executor.makespan, executor.n_ended) == (5, 4)
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 1


@pytest.mark.parametrize("duration", [-1, float("inf"), float("nan"), None, "soon"])
def test_a_bad_duration_of_a_call(duration: Any) -> None:
    """An invalid duration is the call's exception, and names the value."""
    with pytest.raises((TypeError, ValueError), match=r"duration=.*must be finite"):
        run(SimulatedExecutor(1, lambda fn, number: duration), submit_all([1]))


def test_cancelling_frees_the_worker() -> None:
    """Cancelling a running call frees its worker at once; a cancelled waiting one never starts."""
    executor = SimulatedExecutor(1, seconds)
    works: list[Any] = []

    def launch(scheduler: Scheduler) -> None:
        submit_all([100, 50, 5], works)(scheduler)
        running, waiting, _ = scheduler.queue
        assert [work.running() for work in works] == [True, False, False]
        scheduler.call_later(10, running.cancel)
        scheduler.call_later(10, waiting.cancel)

    # Cancelling the first call lets the second one start, which is then cancelled while it runs.
    scheduler = run(executor, launch, on_cancelled="continue")
    assert [(work.began, work.ended, work.cancelled()) for work in works] == [
        (0, 10, True),
        (10, 10, True),
        (10, 15, False),
    ]
    assert (executor.makespan, executor.busy, executor.n_ended) == (15, 15, 3)
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 2


def test_cancelling_what_waits() -> None:
    """A call cancelled before its turn takes no worker and does not count."""
    executor = SimulatedExecutor(1, seconds)
    works: list[Any] = []

    def launch(scheduler: Scheduler) -> None:
        submit_all([4, 50, 5], works)(scheduler)
        scheduler.queue[1].cancel()

    run(executor, launch, on_cancelled="continue")
    assert [(work.began, work.ended, work.cancelled()) for work in works] == [
        (0, 4, False),
        (None, None, True),
        (4, 9, False),
    ]
    assert not works[0].cancel()
    assert executor.n_ended == 2


@pytest.mark.parametrize(("wait", "ends", "n_results"), [(True, 3600 * 3, 4), (False, 3600 * 1.5, 2)])
def test_a_timeout_in_virtual_time(wait: bool, ends: float, n_results: int) -> None:
    """The run times out in virtual time; then accepted calls continue or are cancelled, including running ones."""
    executor = SimulatedExecutor(2, seconds)
    submit = submit_all([3600, 3600, 5400, 7200])
    scheduler = run(executor, submit, timeout=5400, wait=wait)
    assert executor.makespan == ends
    assert scheduler.event_counts[scheduler.TIMEOUT] == 1
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == n_results
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 4 - n_results


def test_a_chain_through_map() -> None:
    """Items are submitted in order as earlier ones end, and no worker idles while there are items."""
    executor = SimulatedExecutor(3, 2.0)
    scheduler = Scheduler(executor)
    task = scheduler.task(wait)
    submitted: list[int] = []
    task.on_submitted(lambda _, number: submitted.append(number))
    task.map(range(10), in_flight=3)
    assert run_in_virtual_time(scheduler.async_run(display=False)).code is Code.EXHAUSTED
    assert submitted == list(range(10))
    assert (executor.makespan, executor.n_ended) == (8, 10)
    assert executor.utilisation == 20 / 24


def test_a_timeline_of_a_simulation() -> None:
    """A timeline shows the virtual workers and their times."""
    executor = SimulatedExecutor(2, seconds)
    scheduler = Scheduler(executor)
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: submit_all([3, 1, 4])(scheduler))
    run_in_virtual_time(scheduler.async_run(display=False))
    told = {r.arguments: (r.thread, r.began, r.ended) for r in timeline.records()}
    epoch = executor.epoch
    assert told == {
        "1": ("worker 1", epoch, epoch + 1),
        "3": ("worker 0", epoch, epoch + 3),
        "4": ("worker 1", epoch + 1, epoch + 5),
    }
    assert all(record.by_worker for record in timeline.records())


def test_without_a_scheduler() -> None:
    """Without a scheduler it works like any executor in virtual time; after `shutdown` it rejects submissions."""
    executor = SimulatedExecutor(1, seconds, outcome=operator.call)

    async def program() -> list[Any]:
        first = executor.submit(wait, 7)
        second = executor.submit(wait, 1)
        third = executor.submit(wait, 1)
        executor.shutdown(cancel_futures=True)
        assert not first.done()
        assert second.cancelled()
        assert third.cancelled()
        with pytest.raises(RuntimeError, match="was shut down; create a new one"):
            executor.submit(wait, 1)
        return [await asyncio.wrap_future(first), asyncio.get_running_loop().time()]

    assert run_in_virtual_time(program()) == [70, 7]
    assert executor.makespan == 7


def test_nothing_was_submitted() -> None:
    """Without submissions no time has passed, and no worker was busy."""
    executor = SimulatedExecutor(3)
    assert (executor.makespan, executor.utilisation, executor.n_ended) == (0, 0, 0)


def test_real_time_is_refused() -> None:
    """Real time is rejected, since a run would take as long as the experiment; the error names the remedy."""
    scheduler = Scheduler(SimulatedExecutor(1))
    scheduler.on_start(lambda: scheduler.submit(wait, 1))
    with pytest.raises(RuntimeError, match=r"use run_in_virtual_time\(scheduler.async_run\(...\)\)"):
        scheduler.run(display=False)
    with pytest.raises(RuntimeError, match="not in None"):
        SimulatedExecutor(1).submit(wait, 1)


def test_a_second_loop_is_refused() -> None:
    """A second loop is rejected, since the times of two runs do not add up to one makespan."""
    executor = SimulatedExecutor(1)

    async def submit() -> Future[float]:
        return executor.submit(wait, 1)

    run_in_virtual_time(submit())
    with pytest.raises(RuntimeError, match="a new one for each run"):
        run_in_virtual_time(submit())


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((0,), ValueError, "n_workers=0"),
        ((1.5,), TypeError, "n_workers=1.5"),
        ((1, -1), ValueError, "duration=-1"),
        ((1, "soon"), ValueError, "duration='soon'"),
    ],
)
def test_bad_arguments(arguments: tuple[Any, ...], error: type[Exception], says: str) -> None:
    """Invalid arguments raise at once, with the value."""
    with pytest.raises(error, match=says):
        SimulatedExecutor(*arguments)
