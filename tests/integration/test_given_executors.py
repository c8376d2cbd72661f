"""Executors that users bring: whatever their `shutdown` takes, and however they tell of what they have ended."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Scheduler
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.patches import needs
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

Code = ExitState.Code


class Given(Executor):
    """An executor of somebody's own, over threads; subclasses differ in what `shutdown` takes."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2)
        self.calls: list[dict[str, Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._threads.submit(fn, *args, **kwargs)

    def close(self, wait: bool) -> None:
        self._threads.shutdown(wait=wait)


class WithoutCancelFutures(Given):
    """As all were before Python 3.9, and Dask's is still."""

    def shutdown(self, wait: bool = True) -> None:  # type: ignore[override]
        self.calls.append({"wait": wait})
        self.close(wait)


class WithoutWait(Given):
    """One that always waits."""

    def shutdown(self, *, cancel_futures: bool = False) -> None:  # type: ignore[override]
        self.calls.append({"cancel_futures": cancel_futures})
        self.close(wait=True)


class WithNothing(Given):
    """One that takes nothing."""

    def shutdown(self) -> None:  # type: ignore[override]
        self.calls.append({})
        self.close(wait=True)


class WithAnything(Given):
    """One that hands on what it is given."""

    def shutdown(self, **options: Any) -> None:  # type: ignore[override]
        self.calls.append(options)
        self.close(options["wait"])


class WithDeafEars(Given):
    """One that waits whatever it is told, as executorlib does."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.calls.append({"wait": wait, "cancel_futures": cancel_futures})
        self.close(wait=True)


class WithPositions(Given):
    """One whose arguments have other names."""

    def shutdown(self, block: bool = True, /) -> None:  # type: ignore[override]
        self.calls.append({})
        self.close(block)


KINDS = {
    WithoutCancelFutures: ({"wait": True}, {"wait": False}),
    WithoutWait: ({"cancel_futures": False}, {"cancel_futures": True}),
    WithNothing: ({}, {}),
    WithAnything: ({"wait": True}, {"wait": False, "cancel_futures": True}),
    WithDeafEars: ({"wait": True, "cancel_futures": False}, {"wait": False, "cancel_futures": True}),
    WithPositions: ({}, {}),
}


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Where work stops until the test lets it go on."""
    with Gate() as gate:
        yield gate


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Wait for the threads that an executor which can only wait was shut down in."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("amltk-executor-close", "ThreadPoolExecutor")):
            thread.join(GUARD)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_waits(kind: type[Given]) -> None:
    """It is shut down with what it takes, once its work is done."""
    executor = kind()
    scheduler = Scheduler(executor)
    results: list[int] = []
    scheduler.on_start(lambda: [scheduler.submit(abs, -n) for n in range(5)])
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == ExitState(Code.EXHAUSTED)
    assert sorted(results) == list(range(5))
    assert executor.calls == [KINDS[kind][0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["stop", "timeout"])
def test_a_run_that_does_not_wait(kind: type[Given], end: str, gate: Gate) -> None:
    """It ends at once, whatever the executor would wait for; what has not begun is cancelled and never begins."""
    executor = kind()
    scheduler = Scheduler(executor)
    recorder = EventRecorder(scheduler)
    scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(5)])
    if end == "timeout":
        scheduler.on_start(lambda: gate.wait_begun(2))
        assert scheduler.run(timeout=0, wait=False) == ExitState(Code.TIMEOUT)
    else:
        gate.when_begun(2, lambda: scheduler.call_later(0, scheduler.stop))
        assert scheduler.run(wait=False) == ExitState(Code.STOPPED)
    assert gate.present == 2
    assert recorder.names[-6:] == [*["future-cancelled"] * 5, "finished"]
    assert executor.calls == [KINDS[kind][1]]
    gate.open()


class WithOptions(WithAnything):
    """One whose `submit` has options of its own, as Dask's and Pebble's have."""

    def submit(self, fn: Any, *args: Any, workers: int = 1, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        return super().submit(fn, *args, **kwargs)


def tell(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_keyword_arguments_reach_the_function() -> None:
    """Those that the executor has for its own as well."""
    scheduler = Scheduler(WithOptions())
    given = {"self": 1, "fn": 2, "workers": 3}
    results: list[Any] = []
    scheduler.on_start(lambda: scheduler.submit(tell, 0, **given))
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.run()
    assert results == [((0,), given)]


def test_a_cluster_that_adapts() -> None:
    """Its workers come with the calls and go after them; the next run finds others."""
    needs("distributed")
    ended = run_script("""
        import logging, time
        from distributed import Client, LocalCluster
        from amltk.scheduling import Scheduler

        if __name__ == "__main__":
            options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
            with LocalCluster(n_workers=0, silence_logs=logging.ERROR, **options) as cluster, Client(cluster) as client:
                cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=2)
                for make in (lambda: Scheduler(client.get_executor(pure=False)), lambda: Scheduler.with_dask(client)):
                    scheduler = make()
                    scheduler.on_start(lambda: [scheduler.submit(abs, -n) for n in range(6)])
                    print(scheduler.run(display=False).code.name, scheduler.event_counts[scheduler.FUTURE_RESULT])
                    while client.scheduler_info()["workers"]:
                        time.sleep(0.01)
        """)
    assert ended.lines == ["EXHAUSTED 6", "EXHAUSTED 6"], ended


def raise_broken() -> None:
    raise BrokenProcessPool("of a pool within the call")


@pytest.mark.parametrize("how", ["with_sequential", "with_threads", "with_processes"])
def test_a_pool_that_breaks_within_a_call_is_not_the_executor(how: str) -> None:
    """A trial whose own pool breaks, such as scikit-learn's, fails alone; the run goes on."""
    scheduler = getattr(Scheduler, how)() if how == "with_sequential" else getattr(Scheduler, how)(1)
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(raise_broken))
    scheduler.on_future_exception(lambda *_: scheduler.submit(abs, -3))
    scheduler.on_future_result(lambda _, result: results.append(result))
    state = scheduler.run(on_exception="continue")
    assert (state.code, state.exceptions, results) == (Code.EXHAUSTED, 1, [3])
