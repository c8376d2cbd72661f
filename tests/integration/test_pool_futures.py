"""Futures of a pool: what waiting, cancelling and callbacks do, in every state of a call."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from concurrent.futures import CancelledError, as_completed, wait
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WallTimeLimitError, WorkerLostError
from amltk.scheduling.executors import CallLimits, ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import identity, kill_me

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(1) as pool:
        yield pool


def fail(text: str) -> None:
    raise ValueError(text)


def test_a_wait_that_takes_too_long_leaves_the_call_alone(pool: ProcessPool) -> None:
    """`result`, `exception`, `wait` and `as_completed` give up; the call goes on, and has its result."""
    with Gate() as gate:
        future = pool.submit(pass_gate, gate.address, "done")
        gate.wait_begun()
        for ask in (future.result, future.exception):
            with pytest.raises(concurrent.futures.TimeoutError):
                ask(timeout=0.01)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(as_completed([future], timeout=0.01))
        assert wait([future], timeout=0.01).not_done == {future}
        assert future.running()
        gate.open()
        assert future.result(GUARD) == "done"


def test_a_cancelled_call_says_so_everywhere(pool: ProcessPool) -> None:
    """Running or waiting: `result` and `exception` raise, waiting threads wake up, and cancelling again is fine."""
    with Gate() as gate:
        futures = [pool.submit(pass_gate, gate.address) for _ in range(2)]
        gate.wait_begun()
        woken: list[str] = []

        def wait_for_it(future: Any) -> None:
            try:
                future.result(GUARD)
            except CancelledError:
                woken.append("cancelled")

        threads = [threading.Thread(target=wait_for_it, args=(future,)) for future in futures]
        for thread in threads:
            thread.start()
        for future in futures:
            assert future.cancel()
            assert future.cancel()
            assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
            with pytest.raises(CancelledError):
                future.exception(GUARD)
        for thread in threads:
            thread.join()
        assert woken == ["cancelled"] * 2
    assert wait(futures).not_done == set()


@pytest.mark.parametrize(
    ("work", "arguments"), [(identity, (1,)), (fail, ("failed",)), (kill_me, ())], ids=["result", "error", "lost"]
)
def test_callbacks_are_called_once_before_and_after_the_end(work: Any, arguments: Any, pool: ProcessPool) -> None:
    """With the future, in order; one that is added after the end is called at once, on its thread."""
    told: list[Any] = []
    future = pool.submit(work, *arguments)
    for n in range(3):
        future.add_done_callback(lambda future, n=n: told.append((n, future.done())))
    wait([future])
    pool.submit(identity, 0).result(GUARD)  # so that the callbacks of the first are over
    future.add_done_callback(lambda _: told.append(threading.current_thread()))
    assert told == [(0, True), (1, True), (2, True), threading.current_thread()]


def test_a_callback_that_raises_is_logged_and_stops_nothing(
    pool: ProcessPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the other callbacks of the future nor later calls."""
    told: list[int] = []

    def fails(_: object) -> None:
        raise ValueError("of a callback")

    with Gate() as gate, caplog.at_level(logging.ERROR):
        future = pool.submit(pass_gate, gate.address, 1)
        future.add_done_callback(fails)
        future.add_done_callback(lambda future: told.append(future.result()))
        gate.open()
        assert pool.submit(identity, 2).result(GUARD) == 2
        assert told == [1]
    assert "of a callback" in caplog.text


def test_a_callback_submits_after_its_call_was_lost(pool: ProcessPool) -> None:
    """The callback of a call whose worker has died may submit; a new worker computes it."""
    again: list[Any] = []
    future = pool.submit(kill_me)
    future.add_done_callback(lambda _: again.append(pool.submit(identity, "again")))
    assert isinstance(future.exception(GUARD), WorkerLostError)
    wait([pool.submit(identity, None)])
    assert again[0].result(GUARD) == "again"


def test_an_error_costs_nobody_else(pool: ProcessPool) -> None:
    """Errors of calls do not end their worker, which goes on with the next call."""
    failed = [pool.submit(fail, str(n)) for n in range(3)]
    pids = pool.worker_pids
    assert [str(future.exception(GUARD)) for future in failed] == ["0", "1", "2"]
    assert pool.submit(identity, 1).result(GUARD) == 1
    assert pool.worker_pids == pids or not pids


def test_time_in_the_queue_does_not_count(pool: ProcessPool) -> None:
    """A call with a limit waits behind another one for longer than its limit, and is then computed."""
    with Gate() as gate:
        blocking = pool.submit(pass_gate, gate.address)
        gate.wait_begun()
        limited = pool.submit_limited(CallLimits(wall_time=0.2), identity, "computed")
        assert wait([limited], timeout=0.5).not_done
        gate.open()
        assert limited.result(GUARD) == "computed"
        assert blocking.result(GUARD) is None


def test_a_limit_of_a_call_is_no_timeout_of_a_wait(pool: ProcessPool) -> None:
    """Whoever waits gets the error of the limit, which is a TimeoutError, as soon as the call has ended."""
    with Gate() as gate:
        future = pool.submit_limited(CallLimits(wall_time=0.2), pass_gate, gate.address)
        with pytest.raises(WallTimeLimitError) as caught:
            future.result(GUARD)
    assert isinstance(caught.value, TimeoutError)
    assert future.done()


class TestMap:
    """`ProcessPool.map`."""

    def test_nothing(self, pool: ProcessPool) -> None:
        """No items give no results."""
        assert list(pool.map(identity, [])) == []

    def test_several_arguments(self, pool: ProcessPool) -> None:
        """The shortest of several iterables ends it."""
        assert list(pool.map(pow, [2, 3, 4], [1, 2])) == [2, 9]

    def test_an_error_in_the_middle(self, pool: ProcessPool) -> None:
        """Results before it are given; then it is raised, and the calls after it are cancelled or ignored."""
        results = pool.map(divmod, [4, 1, 4], [2, 0, 2])
        assert next(results) == (2, 0)
        with pytest.raises(ZeroDivisionError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        assert pool.submit(identity, 1).result(GUARD) == 1

    def test_a_lost_worker_in_the_middle(self, pool: ProcessPool) -> None:
        """It is an error like others; the pool goes on."""
        with pytest.raises(WorkerLostError):
            list(pool.map(lambda n: kill_me() if n == 1 else n, range(3)))
        assert list(pool.map(identity, range(3))) == [0, 1, 2]

    def test_a_time_limit_for_all(self, pool: ProcessPool) -> None:
        """`timeout` counts from the call of `map`."""
        with Gate() as gate:
            results = pool.map(pass_gate, [gate.address] * 2, timeout=0.1)
            with pytest.raises(concurrent.futures.TimeoutError):
                next(results)

    def test_an_iterable_that_raises(self, pool: ProcessPool) -> None:
        """Its error comes from `map` itself; what was submitted before does no harm."""

        def items() -> Iterator[int]:
            yield 1
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more"):
            pool.map(identity, items())
        assert pool.submit(identity, 1).result(GUARD) == 1
