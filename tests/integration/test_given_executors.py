"""Executors that users bring: whatever arguments `shutdown` takes, and however they report what has ended."""

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
    """A user's own executor over threads; subclasses differ in what `shutdown` takes."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2)
        self.calls: list[dict[str, Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._threads.submit(fn, *args, **kwargs)

    def close(self, wait: bool) -> None:
        self._threads.shutdown(wait=wait)


class WithoutCancelFutures(Given):
    """As all executors were before Python 3.9, and Dask's still is."""

    def shutdown(self, wait: bool = True) -> None:  # type: ignore[override]
        self.calls.append({"wait": wait})
        self.close(wait)


class WithoutWait(Given):
    """An executor that always waits."""

    def shutdown(self, *, cancel_futures: bool = False) -> None:  # type: ignore[override]
        self.calls.append({"cancel_futures": cancel_futures})
        self.close(wait=True)


class WithNothing(Given):
    """An executor whose `shutdown` takes no arguments."""

    def shutdown(self) -> None:  # type: ignore[override]
        self.calls.append({})
        self.close(wait=True)


class WithAnything(Given):
    """An executor that passes its arguments on."""

    def shutdown(self, **options: Any) -> None:  # type: ignore[override]
        self.calls.append(options)
        self.close(options["wait"])


class WithDeafEars(Given):
    """An executor that always waits, whatever it is asked, as executorlib does."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.calls.append({"wait": wait, "cancel_futures": cancel_futures})
        self.close(wait=True)


class WithPositions(Given):
    """An executor whose arguments have other names."""

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
    """A gate where work stops until the test opens it."""
    with Gate() as gate:
        yield gate


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Wait for the threads in which executors that can only wait were shut down."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("amltk-executor-close", "ThreadPoolExecutor")):
            thread.join(GUARD)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_waits(kind: type[Given]) -> None:
    """The executor is shut down with the arguments it takes, once its work is done."""
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
    """The run ends at once, even if the executor would wait; calls that have not begun are cancelled."""
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
    """An executor whose `submit` has options of its own, like Dask's and Pebble's."""

    def submit(self, fn: Any, *args: Any, workers: int = 1, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        return super().submit(fn, *args, **kwargs)


def tell(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_keyword_arguments_reach_the_function() -> None:
    """This includes keyword arguments that the executor's `submit` also has."""
    scheduler = Scheduler(WithOptions())
    given = {"self": 1, "fn": 2, "workers": 3}
    results: list[Any] = []
    scheduler.on_start(lambda: scheduler.submit(tell, 0, **given))
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.run()
    assert results == [((0,), given)]


def test_a_cluster_that_adapts() -> None:
    """The cluster's workers come with the calls and leave after them; the next run gets new ones."""
    needs("distributed")
    ended = run_script("""
        import logging, time
        from distributed import Client, LocalCluster
        from amltk.scheduling import Scheduler

        if __name__ == "__main__":
            options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": None}
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
    """A call whose own pool breaks, for example scikit-learn's, fails alone; the run continues."""
    scheduler = getattr(Scheduler, how)() if how == "with_sequential" else getattr(Scheduler, how)(1)
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(raise_broken))
    scheduler.on_future_exception(lambda *_: scheduler.submit(abs, -3))
    scheduler.on_future_result(lambda _, result: results.append(result))
    state = scheduler.run(on_exception="continue")
    assert (state.code, state.exceptions, results) == (Code.EXHAUSTED, 1, [3])
