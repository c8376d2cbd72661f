"""Objects that are slow to pickle or unpickle delay nothing but their own calls."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import CancelledError, wait
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Resources, Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator


class SlowToPickle:
    """Waits at a gate while it is pickled."""

    def __init__(self, gate: Gate) -> None:
        self.address = gate.address

    def __reduce__(self) -> Any:
        pass_gate(self.address)
        return int, (7,)


class SlowToUnpickle:
    """Waits at a gate while it is unpickled."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def __reduce__(self) -> Any:
        return pass_gate, (self.address, 7)


def same(value: Any) -> Any:
    return value


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(2) as pool:
        yield pool


@pytest.mark.parametrize("what", ["argument", "result"])
def test_a_run_goes_on(what: str) -> None:
    """Meanwhile the run's timers fire and other calls end."""
    told: list[Any] = []
    with Gate() as gate:
        scheduler = Scheduler.with_processes(2)

        @scheduler.on_start
        def begin() -> None:
            scheduler.submit(abs, -1)
            if what == "argument":
                scheduler.submit(same, SlowToPickle(gate))
            else:
                scheduler.submit(SlowToUnpickle, gate.address)
            scheduler.call_later(0, look)

        def look() -> None:
            if gate.pids and 1 in told:
                scheduler.call_later(0.01, gate.open)  # a timer, while it waits there
            else:
                scheduler.call_later(0.01, look)

        scheduler.on_future_result(lambda _, result: told.append(result))
        scheduler.run()
    assert told == [1, 7]


def test_others_that_were_sent_end(pool: ProcessPool) -> None:
    """This also holds for a pool without a run; later calls keep their order."""
    with Gate() as gate:
        before = pool.submit(abs, -1)
        slow, after = pool.submit(same, SlowToPickle(gate)), pool.submit(abs, -2)
        assert before.result(GUARD) == 1
        gate.wait_begun()
        assert not slow.done()
        gate.open()
        assert (slow.result(GUARD), after.result(GUARD)) == (7, 2)


def test_one_is_cancelled_while_it_is_pickled(pool: ProcessPool) -> None:
    """The cancelled call ends at once, and others are computed once its pickling is over."""
    with Gate() as gate:
        slow, after = pool.submit(same, SlowToPickle(gate)), pool.submit(abs, -2)
        gate.wait_begun()
        assert slow.cancel()
        with pytest.raises(CancelledError):
            slow.result(GUARD)
        gate.open()
        assert after.result(GUARD) == 2


@pytest.mark.parametrize("how", ["cancel_futures", "kill"])
def test_a_pool_is_ended_meanwhile(how: str) -> None:
    """Killing the workers does not wait for the pickling to finish."""
    with Gate() as gate:
        pool = ProcessPool(1)
        slow = pool.submit(same, SlowToPickle(gate))
        gate.wait_begun()
        if how == "kill":
            pool.kill_workers()
        else:
            pool.shutdown(wait=False, cancel_futures=True)
            gate.open()
            pool.shutdown()
        assert slow.cancelled()
        assert not pool.worker_pids


def test_a_pool_waits_for_its_last_outcome() -> None:
    """The pool ends after the last outcome has been unpickled."""
    with Gate() as gate:
        with ProcessPool(1) as pool:
            slow = pool.submit(SlowToUnpickle, gate.address)
            gate.wait_begun()
            assert not slow.done()
            threading.Thread(target=gate.open).start()
        assert slow.done()
        assert slow.result() == 7


def test_a_pool_is_killed_while_an_outcome_is_unpickled() -> None:
    """Killing the pool does not wait for the outcome, which still arrives."""
    with Gate() as gate:
        pool = ProcessPool(1)
        slow = pool.submit(SlowToUnpickle, gate.address)
        gate.wait_begun()
        pool.kill_workers()
        assert not slow.done()
        gate.open()
        assert slow.result(GUARD) == 7


def test_a_function_that_was_quick_before(pool: ProcessPool) -> None:
    """A function that was slow once is pickled on the helper thread until it is quick again."""
    with Gate() as gate:
        assert [pool.submit(same, n).result(GUARD) for n in range(3)] == [0, 1, 2]
        gate.open()
        assert pool.submit(same, SlowToPickle(gate)).result(GUARD) == 7
        assert [pool.submit(same, n).result(GUARD) for n in range(3)] == [0, 1, 2]


def test_an_initializer_waits_for_what_is_being_pickled() -> None:
    """Workers are started after the pickling, and nothing else is delayed."""
    with Gate() as gate, ProcessPool(2, initializer=abs, initargs=(-1,)) as pool:
        first = pool.submit(pass_gate, gate.address, 1)
        gate.wait_begun()
        slow = pool.submit(same, SlowToPickle(gate))
        gate.wait_begun(2)
        gate.open()
        assert wait([first, slow], GUARD).not_done == set()
        assert (first.result(), slow.result()) == (1, 7)


def test_a_call_that_is_pickled_for_a_worker_with_its_devices() -> None:
    """An idle worker with these devices is not given the call before it is pickled."""
    told: list[Any] = []
    with Gate() as gate:
        scheduler = Scheduler.with_processes(1, resources={"gpu": ["0"]})
        first = scheduler.task(abs, plugins=Resources(gpu=1))
        slow = scheduler.task(same, plugins=Resources(gpu=1))
        scheduler.on_start(lambda: first.submit(-1))

        @first.on_result
        def go_on(*_: object) -> None:
            slow.submit(SlowToPickle(gate))
            scheduler.call_later(0, look)

        def look() -> None:
            if gate.pids:
                gate.open()
            else:
                scheduler.call_later(0.01, look)

        scheduler.on_future_result(lambda _, result: told.append(result))
        scheduler.run()
    assert told == [1, 7]


PROGRAM = """
    import time
    from amltk.scheduling import Scheduler

    class Slow:
        def __reduce__(self):
            print("pickling", flush=True)
            time.sleep(600)
            return int, ()

    class SlowResult:
        def __reduce__(self):
            return load, ()

    def load():
        print("pickling", flush=True)
        time.sleep(600)

    scheduler = Scheduler.with_processes(1)
    {submit}
    scheduler.on_finished(lambda: print("finished", flush=True))
    scheduler.run()
"""


@pytest.mark.parametrize(
    "submit",
    [
        "scheduler.on_start(lambda: scheduler.submit(print, Slow()))",
        "scheduler.on_start(lambda: scheduler.submit(SlowResult))",
    ],
    ids=["argument", "result"],
)
def test_ctrl_c(submit: str) -> None:
    """Ctrl-C ends the run and the program at once."""
    with Script(PROGRAM.format(submit=submit)) as script:
        script.wait_for("pickling")
        script.send(signal.SIGINT)
        code, lines, _ = script.end()
    assert code == -signal.SIGINT
    assert lines[-1] == "finished"
