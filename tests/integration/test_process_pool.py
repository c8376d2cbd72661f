"""The process pool with real processes and real faults."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import UserList
from concurrent.futures import BrokenExecutor, Future, as_completed
from pathlib import Path
from typing import Any

import psutil
import pytest

from amltk.exceptions import (
    CpuTimeLimitError,
    MemoryLimitError,
    PoolBrokenError,
    RemoteTraceback,
    TaskLimitError,
    WallTimeLimitError,
    WorkerLostError,
)
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors import CallLimits, ProcessPool
from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
from amltk.scheduling.executors.process_pool._pickling import pickles
from amltk.scheduling.executors.process_pool._state import dispatcher
from amltk.scheduling.executors.process_pool._state.protocol import MAX_BUFFERS
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.script import run_script

GUARD = 60.0
"""Seconds after which a test counts as hanging; no test waits for it to pass."""

METHODS = ["forkserver", "spawn", "fork"]


def identity(value: Any) -> Any:
    return value


def touch(path: str, seconds: float = 0.0) -> int:
    """Tell that it has begun, outside of the pool."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


def end_myself_by(number: int) -> None:
    os.kill(os.getpid(), number)


def segfault() -> None:
    ctypes.string_at(0)


def close_everything() -> None:
    os.closerange(3, 100)


def write_garbage_into_sockets() -> None:
    for descriptor in range(3, 100):
        try:
            os.write(descriptor, b"garbage " * 100)
        except OSError:
            continue
    time.sleep(GUARD)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("not this one")


class CannotBeUnpickled(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("there and not back")


def raise_what_cannot_be_unpickled() -> None:
    raise CannotBeUnpickled(1, 2)


def raise_value_error() -> None:
    raise ValueError("of the function")


def fail() -> None:
    raise ValueError("of the initializer")


def fork_and_return() -> int:
    if os.fork() == 0:
        return 0
    return os.wait()[1]


def wait_for(condition: Any) -> None:
    """Wait until something is so, which is not a matter of time but of another process."""
    give_up = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (kill_me, "SIGKILL"),
        (segfault, "SIGSEGV"),
        (lambda: os._exit(3), "exit code 3"),
        (close_everything, "worker"),
        (write_garbage_into_sockets, "worker"),
    ],
    ids=["sigkill", "segfault", "exit", "closed-sockets", "garbage-in-sockets"],
)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])  # a fork has the test runner's own files as well
def test_a_lost_worker_costs_one_call(method: str, fn: Any, says: str) -> None:
    """The call that ran fails with an error that says how, where and what; all others succeed."""
    with ProcessPool(2, mp_context=method) as pool:
        before = [pool.submit(identity, n) for n in range(50)]
        bad = pool.submit(fn)
        after = [pool.submit(identity, n) for n in range(50)]
        assert [future.result(GUARD) for future in before + after] == [*range(50), *range(50)]
        with pytest.raises(WorkerLostError, match=says) as caught:
            bad.result(GUARD)
        assert str(caught.value.pid) in str(caught.value)
        assert fn.__name__ in str(caught.value)
        assert pool.submit(identity, 7).result(GUARD) == 7


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="there are no signals without a name here")
def test_a_signal_without_a_name_costs_one_call() -> None:
    """The end of a worker by any signal of the system is told."""
    with ProcessPool(1) as pool:
        number = signal.SIGRTMIN + 5
        with pytest.raises(WorkerLostError, match=f"ended by signal {number}"):
            pool.submit(end_myself_by, number).result(GUARD)
        assert pool.submit(identity, 1).result(GUARD) == 1


def test_output_of_a_call_does_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is written to the standard streams is only output."""
    with ProcessPool(1) as pool:
        pool.submit(os.write, 1, b"\xa7garbage").result(GUARD)
        assert pool.submit(identity, 1).result(GUARD) == 1


def test_values_that_cannot_travel() -> None:
    """An argument or a result that cannot be pickled costs its call only; an exception comes back in any case."""
    with ProcessPool(1) as pool:
        with pytest.raises(ValueError, match="not this one") as argument:
            pool.submit(identity, Unpicklable()).result(GUARD)
        assert any("identity" in note for note in argument.value.__notes__)
        with pytest.raises(ValueError, match="not this one") as result:
            pool.submit(Unpicklable).result(GUARD)
        assert "result" in result.value.__notes__[0]
        with pytest.raises(CannotBeUnpickled, match="there and not back") as error:
            pool.submit(raise_what_cannot_be_unpickled).result(GUARD)
        assert "raise_what_cannot_be_unpickled" in str(error.value.__cause__)
        assert pool.submit(identity, 1).result(GUARD) == 1


def test_an_exception_has_the_traceback_of_the_worker() -> None:
    """The exception is of its own type, with the traceback as text, the function and the worker."""
    with ProcessPool(1) as pool, pytest.raises(ValueError, match="of the function") as caught:
        pool.submit(raise_value_error).result(GUARD)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert 'raise ValueError("of the function")' in str(caught.value.__cause__)
    assert "raise_value_error" in caught.value.__notes__[0]


def test_large_values_travel_both_ways() -> None:
    """200 MB go there and come back, in one piece and out of band."""
    with ProcessPool(2) as pool:
        assert len(pool.submit(bytes, 200_000_000).result(GUARD)) == 200_000_000
        numpy = pytest.importorskip("numpy", reason="numpy is a part of the development environment")
        array = numpy.arange(25_000_000)
        back = pool.submit(identity, array).result(GUARD)
        assert (array == back).all()
        back[0] = 1  # it can be written to


def test_what_goes_into_a_socket_only_in_part_arrives() -> None:
    """Of every size around what a socket takes at once, to a worker that waits and to one that is at something else."""
    sizes = range(150_000, 300_000, 5_000)
    with ProcessPool(1) as pool:
        assert [pool.submit(len, bytes(size)).result(GUARD) for size in sizes] == list(sizes)
        pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
        with Gate() as gate:
            pool.submit(pass_gate, gate.address)
            gate.wait_begun(1)
            calls = [pool.submit(len, bytes(size)) for size in sizes]
            gate.open()
            assert [call.result(GUARD) for call in calls] == list(sizes)


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_keeps_failing_breaks_the_pool(method: str) -> None:
    """It is tried three times; then everything fails with its traceback, now and later."""
    with ProcessPool(2, mp_context=method, initializer=fail) as pool:
        future = pool.submit(identity, 1)
        with pytest.raises(PoolBrokenError, match="of the initializer") as caught:
            future.result(GUARD)
        assert "in fail" in str(caught.value.__cause__.__cause__)
        with pytest.raises(BrokenExecutor, match="of the initializer"):
            pool.submit(identity, 1)


def test_a_killed_fork_server_is_replaced() -> None:
    """Its workers end with it, which costs what they ran; everything else is done by those of another one."""
    with ProcessPool(2) as pool:
        running = pool.submit(time.sleep, GUARD)
        wait_for(running.running)
        server = psutil.Process(pool.worker_pids[0]).ppid()
        assert psutil.Process(server).ppid() == os.getpid()
        waiting = [pool.submit(identity, n) for n in range(20)]
        os.kill(server, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            running.result(GUARD)
        ended = [future.exception(GUARD) for future in waiting]
        assert sum(error is not None for error in ended) <= 1
        assert pool.submit(identity, 7).result(GUARD) == 7


def test_an_initializer_that_hangs_can_be_ended() -> None:
    """A run with a timeout is over in time although no worker ever was ready."""
    scheduler = Scheduler.with_processes(1, initializer=time.sleep, initargs=(GUARD,))
    scheduler.on_start(lambda: scheduler.submit(identity, 1))
    state = scheduler.run(timeout=0.2, wait=False)
    assert state.code is ExitState.Code.TIMEOUT
    assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1


def test_a_fork_inside_of_a_call() -> None:
    """The forked child does not answer for its parent."""
    with ProcessPool(1) as pool:
        assert pool.submit(fork_and_return).result(GUARD) == 0
        assert pool.submit(identity, 1).result(GUARD) == 1


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_when_the_parent_is_killed(method: str, tmp_path: Path) -> None:
    """After kill -9 of the process that has the pool no worker and no fork server goes on."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\n"
        "from amltk.scheduling.executors import ProcessPool\n"
        f"pool = ProcessPool(2, mp_context={method!r})\n"
        "def work():\n"
        "    while True: pass\n"
        "calls = [pool.submit(work) for _ in range(2)]\n"
        "while not all(call.running() for call in calls): time.sleep(0.01)\n"
        "print('ready', flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        below = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        assert len(below) == {"forkserver": 3, "spawn": 3, "fork": 4}[method]  # with what they were started by
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in below))


def test_exactly_once_while_workers_are_killed(tmp_path: Path) -> None:
    """Each call has one ending; only those that ran on a killed worker fail, and none is begun twice."""
    number, between_kills = 10_000, 500
    begun = tmp_path / "begun"
    kills = 0
    endings: list[Future[Any]] = []
    generator = random.Random(1)

    with ProcessPool(2) as pool:

        def kill_now_and_then(future: Future[Any]) -> None:
            """By what has ended and not by the clock, so that a busy machine makes no difference."""
            nonlocal kills
            endings.append(future)
            if len(endings) % between_kills == 0 and (pids := pool.worker_pids):
                try:
                    os.kill(generator.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    return
                kills += 1

        futures = [pool.submit(note, str(begun), n) for n in range(number)]
        for future in futures:
            future.add_done_callback(kill_now_and_then)
        lost = sum(isinstance(future.exception(GUARD), WorkerLostError) for future in as_completed(futures))
    assert len(endings) == len(set(endings)) == number
    assert all(future.exception() is None or isinstance(future.exception(), WorkerLostError) for future in futures)
    assert kills > 10
    assert 0 < lost <= kills
    starts = begun.read_text().split()
    assert len(starts) == len(set(starts)), "begun twice"
    assert len(starts) >= number - lost


def note(path: str, number: int) -> int:
    """Tell that it has begun, outside of the pool, and take as long as it takes to be killed some time."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)
    time.sleep(0.0003)
    return number


@pytest.mark.parametrize("at_once", [1, 2000])
def test_nothing_waits_behind_a_long_call(tmp_path: Path, at_once: int) -> None:
    """Short calls have made the pool send batches; then two long ones among short ones run at the same time.

    Also if the short calls needed one worker only, so that the second one is still to be started.
    """
    with ProcessPool(2) as pool:
        for _ in range(0, 2000, at_once):
            for future in [pool.submit(identity, n) for n in range(at_once)]:
                future.result(GUARD)
        first, second = tmp_path / "1", tmp_path / "2"
        calls = [pool.submit(meet, str(first), str(second))]
        calls += [pool.submit(identity, n) for n in range(20)]
        calls += [pool.submit(meet, str(second), str(first))]
        calls += [pool.submit(identity, n) for n in range(20)]
        for call in calls:
            call.result(GUARD)


def meet(mine: str, other: str) -> None:
    """Return when the other one runs as well."""
    Path(mine).touch()
    while not Path(other).exists():
        time.sleep(0.001)


def test_work_goes_on_while_a_callback_blocks(tmp_path: Path) -> None:
    """While a callback keeps the loop, what was submitted runs and a limit is enforced."""
    scheduler = Scheduler.with_processes(1)
    pool_calls: list[Any] = []

    @scheduler.on_start
    def block() -> None:
        for n in range(20):
            scheduler.submit(touch, str(tmp_path / str(n)))
        pool = scheduler.executor
        assert isinstance(pool, ProcessPool)
        pool_calls.append(pool.submit_limited(CallLimits(wall_time=0.05), time.sleep, GUARD))
        wait_for(lambda: pool_calls[0].done())
        assert all((tmp_path / str(n)).exists() for n in range(20))

    scheduler.run()
    assert isinstance(pool_calls[0].exception(), WallTimeLimitError)
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 20


def test_cancelling(tmp_path: Path) -> None:
    """What waits never begins; what runs loses its worker and nothing else does; what has ended cannot be cancelled."""
    with ProcessPool(1) as pool:
        running = pool.submit(touch, str(tmp_path / "running"), GUARD)
        waiting = [pool.submit(touch, str(tmp_path / f"waiting{n}")) for n in range(5)]
        wait_for(running.running)
        assert not waiting[0].running()
        assert waiting[0].cancel()
        assert waiting[3].cancel()
        pid = pool.worker_pids[0]
        assert running.cancel()
        assert running.cancelled()
        assert [waiting[n].result(GUARD) for n in (1, 2, 4)]
        wait_for(lambda: not psutil.pid_exists(pid))
        assert not (tmp_path / "waiting0").exists()
        assert not (tmp_path / "waiting3").exists()
        assert not waiting[1].cancel()


def test_a_call_behind_one_that_was_cancelled_is_computed() -> None:
    """A cancelled call that waits in front of another one takes nobody's place when a worker comes."""
    with Gate() as gate, ProcessPool(1, initializer=pass_gate, initargs=(gate.address,)) as pool:
        waiting = pool.submit(abs, -1)
        gate.wait_begun()
        assert waiting.cancel()
        behind = pool.submit(abs, -2)
        gate.open()
        assert behind.result(GUARD) == 2


def burn() -> None:
    while True:
        pass


def hoard() -> None:
    hoarded = bytearray(400_000_000)
    time.sleep(GUARD)
    del hoarded


@pytest.mark.parametrize(
    ("limits", "fn", "args", "error"),
    [
        (CallLimits(wall_time=0.1), time.sleep, (GUARD,), WallTimeLimitError),
        (CallLimits(cpu_time=0.1), burn, (), CpuTimeLimitError),
        (CallLimits(memory=100_000_000), hoard, (), MemoryLimitError),
    ],
    ids=["wall-time", "cpu-time", "memory"],
)
def test_limits(limits: CallLimits, fn: Any, args: Any, error: type[TaskLimitError]) -> None:
    """A call that exceeds its limit ends with an error that has the limit and the use; others are not concerned."""
    with ProcessPool(1) as pool:
        limited = pool.submit_limited(limits, fn, *args)
        after = pool.submit(identity, 1)
        with pytest.raises(error) as caught:
            limited.result(GUARD)
        assert caught.value.used >= caught.value.limit > 0
        assert caught.value.pid is not None
        assert after.result(GUARD) == 1
        assert pool.submit_limited(CallLimits(wall_time=GUARD, memory=10**12), identity, 2).result(GUARD) == 2


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"wall_time": 0}, ValueError), ({"memory": -1}, ValueError), ({"cpu_time": True}, TypeError)],
)
def test_limits_are_checked(limits: Any, error: type[Exception]) -> None:
    """A limit that makes no sense is refused at once."""
    with pytest.raises(error, match=f"{next(iter(limits))}="):
        CallLimits(**limits)


def test_states_and_times_are_true() -> None:
    """A call runs from the moment that its worker begins it, and knows when and where that was."""
    with Gate() as gate, ProcessPool(1) as pool:
        before = time.time()
        first, second = pool.submit(pass_gate, gate.address), pool.submit(os.getpid)
        gate.wait_begun()
        assert first.running()
        assert not second.running()
        opened = time.time()
        gate.open()
        pid = second.result(GUARD)
        assert not first.running()
        assert first.pid == second.pid == pid
        assert first.began is not None
        assert first.ended is not None
        assert second.began is not None
        assert before <= first.began <= opened <= first.ended
        assert first.ended <= second.began <= time.time()


@pytest.mark.parametrize("method", METHODS)
def test_workers_are_replaced_after_so_many_calls(method: str) -> None:
    """No worker does more calls than it may, and all calls are done."""
    with ProcessPool(2, mp_context=method, max_tasks_per_child=5) as pool:
        pids = [future.result(GUARD) for future in [pool.submit(os.getpid) for _ in range(100)]]
    assert max(pids.count(pid) for pid in set(pids)) <= 5


def test_a_pool_that_is_forgotten_does_its_work_and_ends() -> None:
    """Without `shutdown`, what was submitted is done, and no process is left."""
    pool = ProcessPool(1)
    future = pool.submit(identity, 1)
    del pool
    assert future.result(GUARD) == 1
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "amltk-process-pool"])


def test_python_ends_after_the_work_is_done() -> None:
    """A script that never shuts its pool down still gets its results."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool
        pool = ProcessPool(1)
        def work():
            return 42
        pool.submit(work).add_done_callback(lambda future: print(future.result()))
        """)
    assert (ended.code, ended.lines) == (0, ["42"])


def test_what_main_defines_travels_from_a_child_of_multiprocessing() -> None:
    """There the program has another name; a pool is made there by Limits on the standard library's pool."""
    ended = run_script("""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from amltk.scheduling import Limits, Scheduler
        class Refused(Exception):
            pass
        OFFSET = 1
        def work(x):
            if x < 0:
                raise Refused(x)
            return x + OFFSET
        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            scheduler = Scheduler(ProcessPoolExecutor(1, mp_context=context))
            task = scheduler.task(work, plugins=Limits(wall_time=60))
            scheduler.on_start(lambda: [task.submit(x) for x in (1, -1)])
            task.on_result(lambda _, result: print(result))
            task.on_exception(lambda _, error: print(type(error) is Refused, error))
            scheduler.run(on_exception="continue")
        """)
    assert (ended.code, ended.lines) == (0, ["2", "True -1"])


def test_what_main_defines_needs_no_guard() -> None:
    """Functions, closures, lambdas and classes of `__main__` travel, and instances come back as what they were."""
    ended = run_script("""
        import enum
        from dataclasses import dataclass
        from amltk.scheduling.executors import ProcessPool

        FACTOR = 3

        @dataclass
        class Point:
            x: int
            def grow(self):
                return Point(FACTOR * self.x)

        class Colour(enum.Enum):
            RED = 1

        class Failed(Exception):
            pass

        def grow(point):
            assert type(point) is Point
            return point.grow()

        def fail():
            raise Failed("yes")

        def outer(n):
            return lambda x: n * x

        with ProcessPool(1) as pool:
            back = pool.submit(grow, Point(2)).result()
            assert type(back) is Point, type(back)
            assert back == Point(6)
            assert pool.submit(Point(1).grow).result() == Point(3)
            assert pool.submit(outer(5), 2).result() == 10
            assert pool.submit(lambda c: c, Colour.RED).result() is Colour.RED
            assert type(pool.submit(fail).exception()) is Failed
            assert pool.submit(Point, 4).result() == Point(4)
        print("done")
        """)
    assert (ended.errors, ended.lines) == ("", ["done"])


def test_an_initializer_and_calls_share_the_globals_of_main() -> None:
    """What an initializer or a call sets in `__main__` is there for the next call of the same worker."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        model = None
        settings = {}

        def load(name):
            global model
            model = name
            settings["name"] = name

        def use(suffix):
            global model
            model += suffix
            return model, settings

        with ProcessPool(1, initializer=load, initargs=("m",)) as pool:
            print(pool.submit(use, "1").result(), pool.submit(use, "2").result(), model)
        """)
    assert (ended.errors, ended.lines) == ("", ["('m1', {'name': 'm'}) ('m12', {'name': 'm'}) None"])


def test_what_main_defines_again_is_what_later_calls_compute() -> None:
    """A function, a class or a value that is defined again, as cells of a notebook do, counts from the next call on.

    That holds for what a function uses as well, though it was not defined again itself, and for what that uses.
    """
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        FACTOR = 1
        def scale(x): return FACTOR * x
        def work(x): return scale(x)
        class Model:
            def __call__(self): return scale(1)

        with ProcessPool(1) as pool:
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
            FACTOR = 2
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
            def scale(x): return 10 * FACTOR * x
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
            def work(x): return -scale(x)
            class Model:
                def __call__(self): return -scale(1)
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["1 1", "2 2", "20 20", "-20 -20"])


def test_what_is_defined_only_after_a_call_has_failed_for_it_is_found() -> None:
    """Somebody forgot a cell: once it is executed the same function finds what it uses, nested code included."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        def work(): return helper()
        def nested(): return [helper() for _ in range(1)]

        with ProcessPool(1) as pool:
            print(pool.submit(work).exception(), pool.submit(nested).exception())
            def helper(): return "there"
            print(pool.submit(work).result(), pool.submit(nested).result())
        """)
    missing = "name 'helper' is not defined"
    assert (ended.errors, ended.lines) == ("", [f"{missing} {missing}", "there ['there']"])


def test_what_was_itself_submitted_and_then_defined_again_is_new_for_others() -> None:
    """That a worker knows the old function or class does not keep later ones from the new one."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        def helper(): return "old"
        class Kind: name = "old"

        with ProcessPool(1) as pool:
            print(pool.submit(helper).result(), pool.submit(Kind).result().name)
            def helper(): return "new"
            class Kind: name = "new"
            def work(): return helper(), Kind.name
            print(*pool.submit(work).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["old old", "new new"])


def test_what_was_replaced_can_still_be_submitted() -> None:
    """It computes what it always did, its instances stay its own, and others go on with what replaced it."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        def helper(): return "old"
        class Kind: pass
        old_helper, OldKind = helper, Kind
        def helper(): return "new"
        class Kind: pass
        def work(): return helper(), Kind()

        with ProcessPool(1) as pool:
            for _ in range(2):
                text, instance = pool.submit(work).result()
                print(text, type(instance) is Kind)
                print(pool.submit(old_helper).result(), type(pool.submit(OldKind).result()) is OldKind)
        """)
    assert (ended.errors, ended.lines) == ("", ["new True", "old True"] * 2)


def test_what_a_worker_has_made_of_main_is_kept_when_something_else_is_defined_again() -> None:
    """What an initializer and calls have set stays, unless the program itself sets that name anew."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        model, calls, step = None, [], 1

        def load():
            global model
            model = "loaded"

        def use():
            calls.append(step)
            return model, calls

        with ProcessPool(1, initializer=load) as pool:
            print(pool.submit(use).result(), calls)
            step = 2
            print(pool.submit(use).result())
            def use():
                return model, calls
            print(pool.submit(use).result())
            calls = ["new"]
            print(pool.submit(use).result())
        """)
    assert (ended.errors, ended.lines) == (
        "",
        ["('loaded', [1]) []", "('loaded', [1, 2])", "('loaded', [1, 2])", "('loaded', ['new'])"],
    )


def test_definitions_that_nobody_needs_are_forgotten() -> None:
    """A pool that lives as long as a notebook does not collect what was defined again and again."""
    ended = run_script("""
        import gc
        from amltk.scheduling.executors import ProcessPool
        from amltk.scheduling.executors.process_pool._pickling import worker_state

        state = 0
        def work(): return state
        def known(): return len(worker_state._objects), len(worker_state._pieces)

        with ProcessPool(1) as pool:
            for state in range(50):
                assert pool.submit(work).result() == state
            gc.collect()
            pool.submit(known).result()  # takes the news along
            print(pool.submit(known).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["(6, 3)"])  # 2 functions, state, here, 2 definitions; in 3 pieces


@pytest.mark.parametrize("arguments", [{"max_workers": 0}, {"max_tasks_per_child": 0}, {"mp_context": "teleport"}])
def test_arguments_are_checked(arguments: Any) -> None:
    """A value that is not allowed is refused, with the value."""
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}="):
        ProcessPool(**arguments)


def test_map() -> None:
    """Results come in the order of the arguments; a chunk size that makes no sense is refused."""
    with ProcessPool(2) as pool:
        assert list(pool.map(pow, range(100), range(100), chunksize=7)) == [n**n for n in range(100)]
        with pytest.raises(ValueError, match="chunksize=0"):
            pool.map(pow, [1], [2], chunksize=0)


def test_stopping_in_the_middle_of_everything() -> None:
    """A run that is broken off with short, long and dying calls under way leaves nothing, and its books agree."""
    scheduler = Scheduler.with_processes(2)

    @scheduler.on_start
    def begin() -> None:
        for n in range(200):
            scheduler.submit(identity, n)
            if n % 50 == 0:
                scheduler.submit(kill_me)
                scheduler.submit(time.sleep, GUARD)
        scheduler.call_later(0.1, scheduler.stop)

    scheduler.run(wait=False, on_exception="continue")
    counts = scheduler.event_counts
    ended = counts[scheduler.FUTURE_RESULT] + counts[scheduler.FUTURE_EXCEPTION] + counts[scheduler.FUTURE_CANCELLED]
    assert counts[scheduler.FUTURE_SUBMITTED] == ended == 208


def put(queue: Any, value: Any) -> None:
    queue.put(value)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
@pytest.mark.parametrize("method", METHODS)
def test_workers_can_use_the_parents_managers(method: str) -> None:
    """A proxy of a `multiprocessing.Manager` proves itself with the parent's key, as in children of multiprocessing."""
    with multiprocessing.get_context("fork").Manager() as manager, ProcessPool(1, mp_context=method) as pool:
        queue = manager.Queue()
        pool.submit(put, queue, "from a worker").result(GUARD)
        assert queue.get(timeout=GUARD) == "from a worker"


class CancelsAnother:
    """An argument whose pickling calls users' code that uses the pool."""

    def __init__(self, other: Future[Any]) -> None:
        self.other = other

    def __reduce__(self) -> Any:
        assert not self.other.running()
        assert self.other.cancel()
        return int, ()


def test_pickling_may_use_the_pool() -> None:
    """Users' code is called under no lock: an argument that cancels another call while it is pickled blocks nobody."""
    with Gate() as gate, ProcessPool(1) as pool:
        pool.submit(identity, 1).result(GUARD)
        pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
        blocker = pool.submit(pass_gate, gate.address)
        other = pool.submit(identity, 2)
        other.add_done_callback(lambda _: gate.open())
        assert pool.submit(identity, CancelsAnother(other)).result(GUARD) == 0
        assert other.cancelled()
        assert blocker.result(GUARD) is None


def test_more_buffers_than_a_message_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with very many arrays is computed: those that are too many for one message travel in its pickle."""
    monkeypatch.setattr(pickles, "OUT_OF_BAND_BYTES", 1)
    with ProcessPool(1) as pool:
        pieces = [pickle.PickleBuffer(b"%d" % n) for n in range(MAX_BUFFERS + 10)]
        assert pool.submit(join, pieces).result(GUARD) == b"".join(pieces)


def join(pieces: list[Any]) -> bytes:
    return b"".join(pieces)


class SaysNothing:
    """Can neither be pickled nor shown, and raises what takes no notes."""

    def __call__(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> Any:
        error = KeyError("no pickle")
        error.__notes__ = None  # type: ignore[assignment] # no list, so `add_note` raises
        raise error


def test_what_cannot_even_be_shown_fails_alone() -> None:
    """The message about a call that cannot be pickled does not break the pool, whatever the user's objects raise."""
    with ProcessPool(1) as pool:
        pid = pool.submit(os.getpid).result(GUARD)
        told = (KeyError, TypeError)  # the latter if pickle itself tried to add a note, as it does since CPython 3.14
        assert isinstance(pool.submit(SaysNothing()).exception(GUARD), told)
        assert isinstance(pool.submit(SaysNothing).exception(GUARD), told)
        assert pool.submit(os.getpid).result(GUARD) == pid


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_call_that_cannot_be_pickled_fails_whenever_it_comes(moment: int) -> None:
    """Also if it comes in the middle of a turn: the one that sends, receives, or follows after callbacks."""
    with ProcessPool(1) as pool:
        pool.submit(identity, 0).result(GUARD)
        exchange, late, turns = pool._engine._exchange, [], 0
        take_arrivals = exchange.take_arrivals
        came = threading.Event()

        def take_and_get_another() -> None:
            nonlocal turns
            take_arrivals()
            turns += 1
            if turns == moment:
                late.append(pool.submit(identity, threading.Lock()))
                came.set()

        exchange.take_arrivals = take_and_get_another  # type: ignore[method-assign]
        assert pool.submit(identity, 1).result(GUARD) == 1
        assert came.wait(GUARD)
        assert isinstance(late[0].exception(GUARD), TypeError)


def test_nothing_waits_behind_a_long_call_while_a_callback_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that becomes free gets what waits, though the loop is at the callback of what has just ended there."""
    monkeypatch.setattr(dispatcher, "MIN_WORK_TO_WAKE_SECONDS", 0)  # each worker gets its half

    async def run(pool: ProcessPool) -> None:
        assert pool.attach(asyncio.get_running_loop(), lambda put: put())
        results: list[int] = []
        for n in range(10):
            for _ in range(10):
                await asyncio.wrap_future(pool.submit(identity, 0))
            pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
            with Gate() as gate:
                short = [pool.submit(identity, 0) for _ in range(2)]
                long = pool.submit(pass_gate, gate.address)
                behind = pool.submit(identity, n)

                def wait(_: Any, gate: Gate = gate, behind: Any = behind) -> None:
                    try:
                        results.append(behind.result(GUARD))
                    finally:
                        gate.open()

                short[1].add_done_callback(wait)
                await asyncio.wrap_future(long)
        assert results == list(range(10))
        pool.detach()

    with Gate() as both, ProcessPool(2) as pool:
        calls = [pool.submit(pass_gate, both.address) for _ in range(2)]
        both.wait_begun(2)
        both.open()
        for call in calls:
            call.result(GUARD)
        asyncio.run(run(pool))


def test_a_call_that_has_ended_unseen_cannot_be_cancelled() -> None:
    """Its worker is at a later call, which is not lost."""
    holding = [threading.Event(), threading.Event()]
    going_on = [threading.Event(), threading.Event()]

    def hold(number: int) -> None:
        holding[number].set()
        assert going_on[number].wait(GUARD)

    with Gate() as before, Gate() as gate, ProcessPool(1) as pool:
        for n in range(100):
            pool.submit(identity, n).result(GUARD)
        pool.submit(identity, 0).add_done_callback(lambda _: hold(0))  # on the pool's thread
        assert holding[0].wait(GUARD)
        first = pool.submit(identity, 0)
        first.add_done_callback(lambda _: hold(1))
        calls = [pool.submit(pass_gate, before.address, 1), pool.submit(identity, 2)]
        calls.append(pool.submit(pass_gate, gate.address, 3))
        going_on[0].set()  # they are sent at once
        assert holding[1].wait(GUARD)
        before.open()
        gate.wait_begun()  # the thread has seen nothing of this
        try:
            assert not calls[1].cancel()
        finally:
            going_on[1].set()
        gate.open()
        assert [call.result(GUARD) for call in calls] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_ends_the_pools_thread_leaves_no_call_and_no_process() -> None:
    """`SystemExit` breaks the pool, and yet every call ends, those that have ended together among them."""
    holding, going_on = threading.Event(), threading.Event()
    pool = ProcessPool(1)
    for n in range(100):
        pool.submit(identity, n).result(GUARD)
    pids = pool.worker_pids

    def end(_: Future[Any]) -> None:
        raise SystemExit

    pool.submit(identity, 0).add_done_callback(lambda _: (holding.set(), going_on.wait(GUARD)))
    assert holding.wait(GUARD)
    calls = [pool.submit(identity, n) for n in range(300)]
    for call in calls:
        call.add_done_callback(end)
    going_on.set()
    for call in calls:
        assert isinstance(call.exception(GUARD), PoolBrokenError | None)
    pool.shutdown()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert not pool.worker_pids


def test_a_loop_that_was_detached_makes_no_turn_that_was_on_its_way() -> None:
    """What a submission has asked the loop for does not come after the pool is gone."""
    told: list[Any] = []

    async def run() -> None:
        pool = ProcessPool(1)
        assert pool.attach(asyncio.get_running_loop(), told.append)
        await asyncio.sleep(0)  # the turn that `attach` asks for
        pool.submit(identity, 1)
        pool.detach()
        pool.kill_workers()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert told == []


@pytest.fixture
def only_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the pool's thread leave the traffic to a loop that is attached, however long it takes."""
    monkeypatch.setattr("amltk.scheduling.executors.process_pool._engine.pool_thread.LOOP_IDLE_SECONDS", GUARD)


@pytest.mark.usefixtures("only_the_loop")
def test_a_callback_may_detach_the_loop() -> None:
    """Nothing is done on the loop afterwards, though the pool has ended or has something to tell."""
    errors: list[BaseException] = []
    told: list[str] = []

    def gather(put: Any) -> None:
        told.append("gathered")
        try:
            put()
        except BaseException as error:
            errors.append(error)

    async def detach_while(end: Any, pool: ProcessPool) -> None:
        assert pool.attach(asyncio.get_running_loop(), gather)
        is_attached = True

        def detach(_: Any) -> None:
            nonlocal is_attached
            if threading.current_thread() is threading.main_thread():  # the pool's may have been at it already
                end()
                pool.detach()
                told.append("detached")
                is_attached = False

        while is_attached:
            call = pool.submit(identity, 1)
            call.add_done_callback(detach)
            await asyncio.wrap_future(call)

    pool = ProcessPool(1)
    pool.submit(identity, 1).result(GUARD)
    left: list[Any] = []
    asyncio.run(detach_while(lambda: left.append(pool.submit(identity, threading.Lock())), pool))
    assert isinstance(left[0].exception(GUARD), TypeError)
    assert told[-1] == "detached"
    asyncio.run(detach_while(lambda: pool.shutdown(wait=True), pool))
    assert (errors, pool._broken, told[-1]) == ([], False, "detached")


@pytest.mark.usefixtures("only_the_loop")
def test_outcomes_are_told_while_others_submit_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread submits during a turn that has received something does not make this turn go on."""
    handle = WorkerIO.handle
    pool = ProcessPool(1)
    submitted: list[Any] = []
    log: list[str] = []

    def handle_while_another_submits(traffic: Any, events: Any) -> None:
        handle(traffic, events)
        if traffic.outcomes and len(submitted) < 50:
            log.append("received")
            another = threading.Thread(target=lambda: submitted.append(pool.submit(identity, 1)))
            another.start()
            another.join(GUARD)

    def gather(put: Any) -> None:
        log.append("told")
        put()

    async def run() -> None:
        assert pool.attach(asyncio.get_running_loop(), gather)
        assert await asyncio.wrap_future(pool.submit(identity, 1)) == 1
        while len(submitted) < 50:
            await asyncio.wrap_future(submitted[-1])
        pool.detach()

    monkeypatch.setattr(WorkerIO, "handle", handle_while_another_submits)
    asyncio.run(run())
    assert [call.result(GUARD) for call in submitted] == [1] * 50
    pool.shutdown()
    assert ("received", "received") not in itertools.pairwise(log)


def test_callbacks_may_use_the_pool() -> None:
    """A callback of a future, on the pool's own thread, submits, cancels and shuts down."""
    pool = ProcessPool(1)
    futures: list[Future[Any]] = []
    over = threading.Event()

    def use(_: Future[Any]) -> None:
        futures.append(pool.submit(identity, 2))
        futures.append(pool.submit(identity, 3))
        futures[1].cancel()
        pool.shutdown()
        over.set()

    pool.submit(identity, 1).add_done_callback(use)
    assert over.wait(GUARD)
    assert futures[0].result(GUARD) == 2
    assert futures[1].cancelled()
    pool.shutdown()


def test_a_loop_has_time_for_others_while_outcomes_come_in() -> None:
    """However many come: a run that is busy all the time does not keep the loop from other tasks."""
    most = 0

    async def main() -> None:
        nonlocal most
        scheduler = Scheduler.with_processes(2)
        task = scheduler.task(identity)

        @scheduler.on_start(repeat=64)
        def fill() -> None:
            task.submit(1)

        @task.on_result
        def submit_another(*_: Any) -> None:
            if task.event_counts[task.SUBMITTED] < 20_000:
                task.submit(1)

        async def look() -> None:
            nonlocal most
            told = 0
            while True:
                await asyncio.sleep(0)
                told, before = task.event_counts[task.RESULT], told
                most = max(most, told - before)

        looking = asyncio.create_task(look())
        await scheduler.async_run(timeout=GUARD)
        looking.cancel()
        assert task.event_counts[task.RESULT] == 20_000

    asyncio.run(main())
    assert most < 1_000


def test_two_runs_share_a_pool() -> None:
    """One loop does the traffic for both, and the pool goes on when the first run has ended."""

    def count_to(scheduler: Scheduler, number: int) -> list[int]:
        results: list[int] = []
        task = scheduler.task(identity)
        scheduler.on_start(lambda: [task.submit(n) for n in range(8)])

        @task.on_result
        def on_result(_future: Any, result: int) -> None:
            results.append(result)
            if len(results) < number:
                task.submit(result)

        return results

    with ProcessPool(2) as pool:
        first, second = (Scheduler(pool, terminate=False) for _ in range(2))
        few, many = count_to(first, 100), count_to(second, 1000)

        async def both() -> None:
            await asyncio.gather(first.async_run(), second.async_run())

        asyncio.run(both())
        assert (len(few), len(many)) == (107, 1007)
        assert pool.submit(identity, 1).result(GUARD) == 1
        assert second.run() == ExitState(ExitState.Code.EXHAUSTED)


def test_submitted_by_other_threads_while_the_loop_sleeps() -> None:
    """A call from another thread reaches a worker although nothing else happens in the run."""
    scheduler = Scheduler.with_processes(1)
    results: list[int] = []

    def submit_from_outside() -> None:
        for n in range(20):
            answered = threading.Event()
            future = scheduler.executor.submit(identity, n)
            future.add_done_callback(lambda _, answered=answered: answered.set())  # type: ignore[misc]
            assert answered.wait(GUARD)
            results.append(future.result())
        scheduler.stop()

    thread = threading.Thread(target=submit_from_outside)
    scheduler.on_start(thread.start)
    scheduler.run(end_on_empty=False)
    thread.join()
    assert results == list(range(20))


def test_a_program_with_signal_handlers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they raise would tear the traffic, so the loop leaves it to the pool's thread."""
    attached: list[bool] = []
    attach = ProcessPool.attach
    monkeypatch.setattr(ProcessPool, "attach", lambda *args: attached.append(True) or attach(*args))
    scheduler = Scheduler.with_processes(1)
    scheduler.on_start(lambda: scheduler.submit(identity, 1))
    scheduler.run()
    assert attached == [True]
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        scheduler.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert attached == [True]
    assert scheduler.event_counts[Scheduler.FUTURE_RESULT] == 2


def test_a_result_is_not_kept_alive() -> None:
    """Once the caller lets go of a result nobody else has it, whatever the pool waits for next."""
    gone = threading.Event()
    with ProcessPool(1) as pool:
        weakref.finalize(pool.submit(UserList, [1]).result(), gone.set)
        assert gone.wait(GUARD)
