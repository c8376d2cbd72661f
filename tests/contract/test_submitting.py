"""On every executor, submissions may come in chains, in bulk, from any thread and in any number of runs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ExecutorShutdownError, SchedulerNotRunningError, SchedulerRunningError
from amltk.scheduling import ExitState
from tests.contract import work
from tests.helpers.gate import GUARD, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities
    from tests.contract.backends import ExecutorAdapter
    from tests.helpers.gate import Gate

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)


def in_thread(call: Callable[[], object]) -> threading.Thread:
    """Start a thread that makes a call."""
    thread = threading.Thread(target=call, name="of-the-test")
    thread.start()
    return thread


def join(thread: threading.Thread) -> None:
    thread.join(GUARD)
    assert not thread.is_alive(), "dead-lock"


def test_a_long_chain_of_submissions(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """A chain in which each result submits the next call neither recurses nor slows down."""
    length = 500 if capabilities.remote else 10_000  # beyond Python's recursion limit, if it recursed
    seen: list[int] = []

    @scheduler.on_start
    def launch() -> None:
        scheduler.submit(abs, length)

    @scheduler.on_future_result
    def next_one(_: Any, n: int) -> None:
        seen.append(n)
        if n > 1:
            scheduler.submit(abs, n - 1)

    assert scheduler.run() == EXHAUSTED
    assert seen == list(range(length, 0, -1))


def test_thousands_submitted_at_once(scheduler: Scheduler) -> None:
    """A backlog far larger than the number of workers is computed to its end."""
    results: list[int] = []
    scheduler.on_start(lambda: [scheduler.submit(abs, n) for n in range(3_000)])
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    assert sorted(results) == list(range(3_000))


def test_refilling_when_empty_works_every_time(scheduler: Scheduler) -> None:
    """`@empty` comes each time nothing is pending, and whatever its callback submits keeps the run going."""
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(work.double, 0))
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.on_empty(lambda: scheduler.submit(work.double, len(results)), max_calls=5)
    assert scheduler.run() == EXHAUSTED
    assert results == [0, 2, 4, 6, 8, 10]
    assert scheduler.event_counts[scheduler.EMPTY] == 6


def test_nothing_can_be_submitted_outside_of_a_run(scheduler: Scheduler) -> None:
    """Submitting before `@start` or after a stop raises an error that names the remedy."""
    with pytest.raises(SchedulerNotRunningError, match="@start"):
        scheduler.submit(work.double, 1)
    refused: list[bool] = []

    @scheduler.on_start
    def launch() -> None:
        scheduler.stop()
        with pytest.raises(SchedulerNotRunningError, match=r"scheduler\.running"):
            scheduler.submit(work.double, 1)
        refused.append(scheduler.running())

    assert scheduler.run().code is ExitState.Code.STOPPED
    assert refused == [False]
    with pytest.raises(SchedulerNotRunningError):
        scheduler.submit(work.double, 1)
    assert scheduler.event_counts[scheduler.FUTURE_SUBMITTED] == 0


# ----------------------------------------------------------------------------------------------------- several runs


def test_five_runs_in_a_row(backend: ExecutorAdapter, scheduler: Scheduler) -> None:
    """A factory's scheduler can run repeatedly, with each callback once per run; a given executor is used up."""
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(work.double, 21))
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    for n in range(2, 6):
        if backend.given:
            with pytest.raises(ExecutorShutdownError, match="terminate=False"):
                scheduler.run()
        else:
            assert scheduler.run() == EXHAUSTED
            assert results == [42] * n
            assert scheduler.event_counts[scheduler.STARTED] == n


def test_a_run_after_one_that_failed(backend: ExecutorAdapter, make: Callable[..., Scheduler]) -> None:
    """The events and exit state of one run do not affect the next."""
    scheduler = make()
    calls = iter([None, 1, 2])
    scheduler.on_start(lambda: scheduler.submit(work.double, next(calls)))
    with pytest.raises(TypeError):
        scheduler.run(timeout=GUARD, wait=False)
    if not backend.given:
        assert scheduler.run() == EXHAUSTED
        assert asyncio.run(scheduler.async_run()) == EXHAUSTED


def test_a_second_run_may_wait_for_a_stop(backend: ExecutorAdapter, make: Callable[..., Scheduler]) -> None:
    """`end_on_empty=False` also holds in a second run, which lasts until it is stopped."""
    scheduler = make()
    scheduler.on_start(lambda: scheduler.submit(work.double, 1))
    assert scheduler.run() == EXHAUSTED
    if backend.given:
        scheduler = make()
    stopped: list[str] = []

    @scheduler.on_empty
    def soon() -> None:
        scheduler.call_later(0.05, lambda: (stopped.append("by the timer"), scheduler.stop()))

    assert scheduler.run(end_on_empty=False).code is ExitState.Code.STOPPED
    assert stopped == ["by the timer"]


def test_one_run_at_a_time(scheduler: Scheduler) -> None:
    """A second run of a running scheduler is rejected and does not harm the first."""
    results: list[int] = []

    @scheduler.on_start
    def again() -> None:
        with pytest.raises(SchedulerRunningError):
            scheduler.run()
        scheduler.submit(work.double, 1)

    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    assert results == [2]


# ---------------------------------------------------------------------------------------------------- other threads


def test_a_submission_from_another_thread(scheduler: Scheduler) -> None:
    """A thread may submit while the loop is idle; the outcome is delivered on the loop's thread."""
    here = threading.get_ident()
    seen: list[tuple[int, int]] = []
    threads: list[threading.Thread] = []
    scheduler.on_start(lambda: threads.append(in_thread(lambda: scheduler.submit(work.double, 21))))

    @scheduler.on_future_result
    def note(_: Any, result: int) -> None:
        seen.append((result, threading.get_ident()))
        scheduler.stop()

    assert scheduler.run(end_on_empty=False, timeout=GUARD).code is ExitState.Code.STOPPED
    join(*threads)
    assert seen == [(42, here)]


def test_a_submission_from_a_thread_that_is_joined_in_a_callback(scheduler: Scheduler) -> None:
    """A callback may join a thread that submits, stops timers and queries the scheduler without a deadlock."""
    results: list[int] = []
    task = scheduler.task(work.double)

    def elsewhere() -> None:
        scheduler.submit(work.double, 1)
        task.submit(2)
        scheduler.call_later(GUARD, lambda: None).cancel()
        scheduler.submit(work.double, 3).cancel()
        assert scheduler.running()
        assert not scheduler.empty()
        assert len(scheduler.queue) == scheduler.n_pending == scheduler.n_running == 3

    @scheduler.on_start
    def launch() -> None:
        join(in_thread(elsewhere))

    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run(on_cancelled="continue") == EXHAUSTED
    assert sorted(results) == [2, 4]
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1


def test_submissions_from_many_threads(scheduler: Scheduler) -> None:
    """Threads that submit concurrently lose nothing, and nothing is computed twice."""
    results: list[int] = []
    threads: list[threading.Thread] = []

    @scheduler.on_start
    def launch() -> None:
        threads.extend(
            in_thread(lambda k=k: [scheduler.submit(abs, 100 * k + n) for n in range(100)]) for k in range(8)
        )

    @scheduler.on_future_result
    def note(_: Any, result: int) -> None:
        results.append(result)
        if len(results) == 800:
            scheduler.stop()

    assert scheduler.run(end_on_empty=False, timeout=GUARD).code is ExitState.Code.STOPPED
    for thread in threads:
        join(thread)
    assert sorted(results) == list(range(800))


def test_a_stop_from_another_thread_is_noticed_at_once(scheduler: Scheduler) -> None:
    """A stop from a thread ends an idle run at once, without a timeout or a further event."""
    threads: list[threading.Thread] = []
    scheduler.on_start(lambda: threads.append(in_thread(lambda: scheduler.stop(stop_msg="enough"))))
    messages: list[str] = []
    scheduler.on_stop(lambda message, _: messages.append(message))
    assert scheduler.run(end_on_empty=False).code is ExitState.Code.STOPPED
    join(*threads)
    assert messages == ["enough"]


def test_a_run_in_another_thread(scheduler: Scheduler) -> None:
    """A whole run may happen in a thread other than the main one."""
    states: list[ExitState] = []
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(work.double, 21))
    scheduler.on_future_result(lambda _, result: results.append(result))
    join(in_thread(lambda: states.append(scheduler.run())))
    assert states == [EXHAUSTED]
    assert results == [42]


# ------------------------------------------------------------------------------------------------ several schedulers


def test_two_schedulers_in_one_loop(make: Callable[..., Scheduler], gate: Gate) -> None:
    """Two schedulers run concurrently in one loop and do not see each other's work; the loop stays free for others."""
    one, other = make(1), make(1)
    results: dict[str, list[Any]] = {"one": [], "other": []}
    one.on_start(lambda: one.submit(pass_gate, gate.address, 1))
    other.on_start(lambda: other.submit(pass_gate, gate.address, 2))
    one.on_future_result(lambda _, result: results["one"].append(result))
    other.on_future_result(lambda _, result: results["other"].append(result))
    both_at_once = not one.executor_kind.capabilities.in_loop
    gate.when_begun(2 if both_at_once else 1, gate.open)

    async def main() -> list[ExitState]:
        return await asyncio.gather(one.async_run(), other.async_run())

    assert asyncio.run(main()) == [EXHAUSTED, EXHAUSTED]
    assert results == {"one": [1], "other": [2]}


def test_a_scheduler_inside_a_callback_of_another(make: Callable[..., Scheduler]) -> None:
    """A callback may run another scheduler to its end; the outer run continues afterwards."""
    outer, inner = make(1), make(1)
    results: list[Any] = []
    inner.on_start(lambda: inner.submit(work.double, 2))
    inner.on_future_result(lambda _, result: outer.submit(work.double, result))
    outer.on_start(lambda: results.append(inner.run()))
    outer.on_future_result(lambda _, result: results.append(result))
    assert outer.run() == EXHAUSTED
    assert results == [EXHAUSTED, 8]


def test_threads_with_a_scheduler_each(make: Callable[..., Scheduler]) -> None:
    """Several threads may each run a scheduler at the same time."""
    schedulers = [make(1) for _ in range(3)]
    states: list[ExitState] = []
    for scheduler in schedulers:
        scheduler.on_start(lambda scheduler=scheduler: scheduler.submit(work.double, 1))
    threads = [in_thread(lambda scheduler=scheduler: states.append(scheduler.run())) for scheduler in schedulers]
    for thread in threads:
        join(thread)
    assert states == [EXHAUSTED] * 3
