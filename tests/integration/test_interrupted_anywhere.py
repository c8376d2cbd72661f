"""Finalizers and signal handlers run at any point of a thread, and may use the very object it is working on."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from signal import SIGINT, SIGTERM, Signals
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling._results.outbox import Outbox
from amltk.scheduling._run.resources import RunResources
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import Script, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(1) as pool:
        yield pool


def within(lock: Any, what: Callable[[], Any]) -> Any:
    """Call `what` as a finalizer would while this thread holds a lock; fail instead of deadlocking."""
    told: list[Any] = []

    def work() -> None:
        with lock:
            told.append(what())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(GUARD)
    assert not thread.is_alive(), "it waits for a lock that its own thread has"
    return told[0]


def test_a_call_that_runs_is_cancelled(pool: ProcessPool) -> None:
    """The call is cancelled at once; its worker is ended and replaced as soon as possible."""
    with Gate() as gate:
        future = pool.submit(pass_gate, gate.address)
        gate.wait_begun()
        told: list[Future[Any]] = []
        future.add_done_callback(told.append)
        assert (
            within(pool._engine._exchange.lock, lambda: (future.cancel(), future.cancelled(), future.cancel()))
            == (True,) * 3
        )
        assert wait([future], GUARD).done == {future}
        with pytest.raises(CancelledError):
            future.result(GUARD)
        assert pool.submit(abs, -1).result(GUARD) == 1
        assert told == [future]
        gate.wait_gone()


def test_a_call_that_waits_is_cancelled(pool: ProcessPool) -> None:
    """The cancelled call never begins, whatever was being done with it, and the others are computed."""
    with Gate() as gate:
        first = pool.submit(pass_gate, gate.address, 1)
        gate.wait_begun()
        never, last = pool.submit(pass_gate, gate.address), pool.submit(abs, -2)
        assert within(pool._engine._exchange.lock, never.cancel)
        gate.open()
        assert (first.result(GUARD), last.result(GUARD)) == (1, 2)
        assert wait([never], GUARD).done == {never}
        assert len(gate.pids) == 1


def test_an_outcome_that_comes_nevertheless_is_dropped(pool: ProcessPool) -> None:
    """A call that ends after it was cancelled, in the same step of the pool, stays cancelled, and is reported once."""
    engine = pool._engine
    with Gate() as gate:
        future = pool.submit(pass_gate, gate.address)
        gate.wait_begun()
        told: list[Future[Any]] = []
        future.add_done_callback(told.append)

        def cancel() -> None:
            assert future.cancel()
            gate.open()
            while future.slot is not None:
                engine._io.handle(engine._selector.select(GUARD))

        within(pool._engine._exchange.lock, cancel)
        assert pool.submit(abs, -1).result(GUARD) == 1
        assert future.cancelled()
        assert told == [future]
        assert engine.broken is None


@pytest.mark.parametrize("ask", ["running_calls", "worker_pids", "running"])
def test_the_pool_tells_what_it_does(pool: ProcessPool, ask: str) -> None:
    """The pool answers queries even in the middle of a step."""
    with Gate() as gate:
        future = pool.submit(pass_gate, gate.address)
        gate.wait_begun()
        questions: dict[str, Callable[[], Any]] = {
            "running_calls": lambda: pool.running_calls() == [future],
            "worker_pids": lambda: pool.worker_pids == gate.pids,
            "running": future.running,
        }
        assert within(pool._engine._exchange.lock, questions[ask])
        gate.open()


def test_a_call_is_submitted(pool: ProcessPool) -> None:
    """A call submitted while the lock is held is computed."""
    assert within(pool._engine._exchange.lock, lambda: pool.submit(abs, -1)).result(GUARD) == 1


@pytest.mark.parametrize("how", ["shutdown", "cancel", "kill"])
def test_the_pool_is_ended(how: str) -> None:
    """The pool ends as soon as possible, without blocking the caller."""
    pool = ProcessPool(1)
    with Gate() as gate:
        running = pool.submit(pass_gate, gate.address, "done")
        gate.wait_begun()
        waiting = pool.submit(abs, -1)
        ends: dict[str, Callable[[], None]] = {
            "shutdown": pool.shutdown,
            "cancel": lambda: pool.shutdown(cancel_futures=True),
            "kill": pool.kill_workers,
        }
        within(pool._engine._exchange.lock, ends[how])
        if how != "kill":
            gate.open()
        pool.shutdown()
        assert isinstance(running.exception(GUARD), WorkerLostError) if how == "kill" else running.result() == "done"
        assert waiting.result() == 1 if how == "shutdown" else waiting.cancelled()
        assert not pool.worker_pids


class Ends:
    """Ends a pool while being pickled."""

    def __init__(self, pool: ProcessPool) -> None:
        self.pool = pool

    def __reduce__(self) -> Any:
        self.pool.shutdown()
        return int, (3,)


def test_the_pool_is_ended_by_what_is_pickled_for_it() -> None:
    """Shutting the pool down in the middle of a turn does not wait, since the shutdown itself waits for the turn."""
    pool = ProcessPool(1)
    assert pool.submit(abs, Ends(pool)).result(GUARD) == 3
    pool.shutdown()


# ---------------------------------------------------------------------------------------------------------- other locks


def test_a_loop_over_results_is_left_by_the_garbage_collector() -> None:
    """The loop may become unreachable while an ended call is being stored for it."""
    outbox = Outbox(lambda: None, None)
    within(outbox._lock, outbox.close)
    assert outbox.take() is None


def test_what_is_shared_by_a_run_is_asked_for_while_it_is_made() -> None:
    """Both callers get the same object, and both objects that were made are closed."""

    class Thing:
        closed = 0

        def close(self) -> None:
            Thing.closed += 1

    shared = RunResources()
    inner: list[Thing] = []

    def make() -> Thing:
        inner.append(shared.get("thing", Thing))
        return Thing()

    found: list[Thing] = []
    thread = threading.Thread(target=lambda: found.append(shared.get("thing", make)), daemon=True)
    thread.start()
    thread.join(GUARD)
    assert found == inner
    shared.close()
    assert Thing.closed == 2


# ------------------------------------------------------------------------------------------------------- for real


GARBAGE = """
    import gc
    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import ProcessPool

    class Trial:
        def __init__(self, future):
            self.future, self.itself = future, self

        def __del__(self):
            self.future.cancel()

    gc.set_threshold(20)  # so often that it comes in the middle of everything
"""


@pytest.mark.parametrize("kind", ["run", "pool"])
def test_finalizers_that_cancel_come_in_the_middle_of_everything(kind: str) -> None:
    """No call is lost and nothing hangs, on the loop's thread or the pool's own."""
    programs = {
        "run": """
    scheduler, told = Scheduler.with_processes(2), []

    @scheduler.on_start
    def begin():
        for n in range(16):
            scheduler.submit(abs, n)

    @scheduler.on_future_result
    def go_on(future, result):
        told.append(result)
        if len(told) < 2000:
            Trial(scheduler.executor.submit(abs, -1))
            scheduler.submit(abs, len(told))

    print(scheduler.run().code.name, len(told))
        """,
        "pool": """
    with ProcessPool(2) as pool:
        for n in range(2000):
            Trial(pool.submit(abs, -1))
            assert pool.submit(abs, -n).result() == n
    print("EXHAUSTED 2015")
        """,
    }
    assert run_script(GARBAGE + programs[kind]).lines == ["EXHAUSTED 2015"]


def test_a_handler_of_a_signal_looks_at_the_pool_again_and_again() -> None:
    """The handler gets answers, whatever the main thread, which does the pool's I/O, is doing."""
    ended = run_script("""
    import signal
    from amltk.scheduling import Scheduler

    scheduler, told, looks = Scheduler.with_processes(2), [], []

    def look(*_):
        looks.append((scheduler.running_calls(), scheduler.executor.worker_pids))
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

    @scheduler.on_start
    def begin():
        signal.signal(signal.SIGALRM, look)
        look()
        for n in range(16):
            scheduler.submit(abs, n)

    @scheduler.on_future_result
    def go_on(future, result):
        told.append(result)
        if len(told) < 8000:
            scheduler.submit(abs, len(told))
        else:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)

    print(scheduler.run().code.name, len(told) >= 8000, len(looks) > 100)
    """)
    assert ended.lines == ["EXHAUSTED True True"], ended.errors


STUCK = """
    import threading
    from concurrent.futures import Executor
    from amltk.scheduling import Scheduler

    class Stuck(Executor):
        def submit(self, fn, /, *args):
            print("stuck", flush=True)
            lock = threading.Lock()
            with lock, lock:
                pass

    scheduler = Scheduler(Stuck())
    scheduler.on_finished(lambda: print("@finished", flush=True))
    # From another thread: then the executor is asked by the run itself, outside of all callbacks.
    scheduler.on_start(lambda: threading.Thread(target=scheduler.submit, args=(abs, -1)).start())
    try:
        scheduler.run(end_on_empty=False)
    except BaseException as error:
        print(repr(error), flush=True)
        raise
"""


@pytest.mark.parametrize(("signum", "last"), [(SIGINT, ["KeyboardInterrupt()"]), (SIGTERM, [])])
def test_who_insists_gets_through_to_a_main_thread_that_is_stuck(signum: Signals, last: list[str]) -> None:
    """Whatever blocks the run on its own thread is interrupted by the third signal, and the run ends in order."""
    with Script(STUCK) as script:
        script.wait_for("stuck")
        sent = 0
        deadline = time.monotonic() + GUARD
        while script.process.poll() is None and time.monotonic() < deadline:
            script.send(signum)
            sent += 1
            with suppress(subprocess.TimeoutExpired):
                # Two signals that arrive at once count as one; one that comes after the third interrupts the end.
                script.process.wait(0.1 if sent < 3 else GUARD / 10)
        ended = script.end()
    assert ended.lines == ["stuck", "@finished", *last], ended.errors
    assert sent >= 3  # more only where a busy machine takes two for one
    assert ended.code == -signum
