"""Large buffers cross to workers and back in shared memory, and each side has its own copy."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import signal
import sys
import textwrap
import time
from typing import Any

import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors import CallLimits, ProcessPool
from tests.helpers.arrays import MB, Array, filled, is_filled
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import run_script
from tests.helpers.workers import METHODS, identity, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere buffers go through sockets")

_kept: list[Any] = []


def used(pool: ProcessPool) -> tuple[int, int]:
    """Return how many bytes of shared memory there are, and how many are unused, once all have been reported."""
    gc.collect()
    segments = pool._engine._io.segments
    with pool._engine._exchange.lock:
        segments.take_returned()
        return segments._table.used, segments._table.kept


def all_is_given_back(pool: ProcessPool) -> None:
    """Wait until no shared memory of this pool is in use."""

    def is_given_back() -> bool:
        # When a call ends, its worker reports what it has released, including what it was sent and did not begin.
        list(pool.map(time.sleep, [0.02] * 4))
        of_all, kept = used(pool)
        return of_all == kept

    wait_for(is_given_back)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def change(array: Array, number: int) -> Array:
    array.data[:] = bytes([number]) * array.data.nbytes
    return array


def keep(array: Array) -> None:
    _kept.append(array)


def give_kept() -> list[Array]:
    return _kept


def first_byte(array: Array) -> int:
    return array.data[0]


def make(number: int, size: int = 2 * MB) -> Array:
    return filled(number, size)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
@pytest.mark.parametrize("method", METHODS)
def test_everybody_has_their_own(method: str) -> None:
    """Changes that a worker makes to an argument, or the program to a result, are private; both are writable."""
    before = descriptors()
    with ProcessPool(1, method) as pool:
        mine = filled(1)
        results = [pool.submit(change, mine, number).result(GUARD) for number in range(10)]
        assert is_filled(mine, 1)
        assert all(is_filled(result, number) for number, result in enumerate(results))
        for result in results:
            change(result, 7)
        assert is_filled(pool.submit(identity, mine).result(GUARD), 1)
        assert all(is_filled(result, 7) for result in results)
        assert used(pool)[0] >= 20 * MB, "they did not cross in shared memory"
        del result, results
        all_is_given_back(pool)
    del pool
    gc.collect()
    assert descriptors() == before


def test_memory_is_used_again() -> None:
    """A hundred arrays sent both ways take no more memory than what is in use at a time."""
    with ProcessPool(1) as pool:
        for number in range(100):
            assert is_filled(pool.submit(identity, filled(number)).result(GUARD), number)
        assert used(pool)[0] <= 5 * 2 * MB


def test_what_a_worker_keeps_stays_as_it_is() -> None:
    """An argument that a call has kept does not change when others arrive."""
    with ProcessPool(1) as pool:
        for number in range(5):
            pool.submit(keep, filled(number)).result(GUARD)
            pool.submit(identity, filled(100 + number)).result(GUARD)
        kept = pool.submit(give_kept).result(GUARD)
        assert [first_byte(array) for array in kept] == list(range(5))


def wait_for_end(pool: ProcessPool, pid: int) -> None:
    wait_for(lambda: pid not in pool.worker_pids)


@pytest.mark.parametrize("is_killed", [False, True])
def test_results_outlive_the_pool(is_killed: bool) -> None:
    """Results stay unchanged and writable when their worker and the pool are gone."""
    before = descriptors()
    with ProcessPool(1) as pool:
        results = [pool.submit(make, number).result(GUARD) for number in range(5)]
        if is_killed:
            pid = pool.worker_pids[0]
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pool, pid)
            assert is_filled(pool.submit(identity, filled(9)).result(GUARD), 9)
    del pool
    gc.collect()
    assert descriptors() == before
    assert all(is_filled(result, number) for number, result in enumerate(results))
    assert is_filled(change(results[0], 8), 8)


def test_calls_that_are_sent_in_advance_and_taken_back() -> None:
    """A call prefetched by one worker and then moved to another keeps its argument, and no memory stays lent."""
    with Gate() as gate, ProcessPool(2) as pool:
        pool.submit(identity, 1).result(GUARD)
        pool._engine._dispatcher.expected = 1e-5  # short calls, so that what comes next is sent in advance
        blocker = pool.submit(pass_gate, gate.address)
        gate.wait_begun(1)
        calls = [pool.submit(first_byte, filled(number)) for number in range(20)]
        assert [call.result(GUARD) for call in calls] == list(range(20))
        gate.open()
        blocker.result(GUARD)
        del calls
        all_is_given_back(pool)


def wait_with(array: Array, address: tuple[str, int]) -> Array:
    pass_gate(address)
    return array


@pytest.mark.parametrize("way", ["cancel", "kill", "wall_time", "kill_workers"])
def test_a_lost_call_gives_its_memory_back(way: str) -> None:
    """However a worker with an argument ends, its memory is returned, and so is that of the call queued behind it."""
    with Gate() as gate, ProcessPool(1) as pool:
        pool.submit(make, 1).result(GUARD)
        if way == "wall_time":
            call = pool.submit_limited(CallLimits(wall_time=0.2), wait_with, filled(1), gate.address)
        else:
            call = pool.submit(wait_with, filled(1), gate.address)
        if way != "wall_time":  # which a busy machine may exceed before the call gets to the gate
            gate.wait_begun(1)
        waiting = pool.submit(first_byte, filled(2))
        if way == "cancel":
            assert call.cancel()
        elif way == "kill":
            os.kill(gate.pids[0], signal.SIGKILL)
        elif way == "kill_workers":
            pool.kill_workers()
        if way == "cancel":
            assert call.cancelled()
        else:
            assert call.exception(GUARD) is not None
        if way == "kill_workers":
            assert waiting.cancelled()
            return
        assert waiting.result(GUARD) == 2
        del call, waiting
        all_is_given_back(pool)


def fork_and_change(array: Array) -> tuple[int, int]:
    """Fork; change the array in the child, then in this process; return what each sees at the end."""
    read_end, write_end = os.pipe()
    told, tell = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            change(array, 50)
            os.write(tell, b"x")
            os.read(read_end, 1)
            os.write(tell, bytes([array.data[0]]))
        finally:
            os._exit(0)
    os.read(told, 1)
    here = array.data[0]
    change(array, 60)
    os.write(write_end, b"x")
    there = os.read(told, 1)[0]
    os.waitpid(pid, 0)
    for end in (read_end, write_end, told, tell):
        os.close(end)
    return here, there


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
@pytest.mark.parametrize("method", METHODS)
def test_a_forked_process_has_its_own(method: str) -> None:
    """Like all memory, a call's arguments and the program's results are not shared with a forked child."""
    with ProcessPool(1, method) as pool:
        assert pool.submit(fork_and_change, filled(1)).result(GUARD) == (1, 50)
        result = pool.submit(make, 2).result(GUARD)
        assert fork_and_change(result) == (2, 50)
        assert pool.submit(identity, result).result(GUARD) == result
        del result
        all_is_given_back(pool)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
def test_a_result_that_a_forked_child_has_is_not_written_over() -> None:
    """The child's copy stays unchanged when the program has released its own and other results arrive."""
    with ProcessPool(1) as pool:
        result = pool.submit(make, 3).result(GUARD)
        ask, wait = os.pipe()
        told, tell = os.pipe()
        if (pid := os.fork()) == 0:
            os.read(ask, 1)
            os.write(tell, b"1" if is_filled(result, 3) else b"0")
            os._exit(0)
        del result
        for number in range(10):
            pool.submit(make, number + 10).result(GUARD)
        os.write(wait, b"x")
        assert os.read(told, 1) == b"1"
        os.waitpid(pid, 0)
        for end in (ask, wait, told, tell):
            os.close(end)


def leave_no_room(what: str) -> None:
    """Limit this process to the descriptors it has, or to little more memory than it uses."""
    if what == "descriptors":
        most = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    else:
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        most = size + 48 * MB
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


@pytest.mark.parametrize("what", ["descriptors", "memory"])
def test_a_worker_without_room(what: str) -> None:
    """If a worker cannot map what it is sent, or cannot map any more, buffers still cross."""
    size = 20 * MB
    with ProcessPool(1) as pool:
        pool.submit(leave_no_room, what).result(GUARD)
        for number in range(5):
            assert pool.submit(first_byte, filled(number, size)).result(GUARD) == number
            assert is_filled(pool.submit(make, number, 4 * MB).result(GUARD), number, 4 * MB)
        all_is_given_back(pool)


DRIVER_WITHOUT_ROOM = """
    import os, sys
    from amltk.scheduling.executors import ProcessPool
    from tests.helpers.arrays import MB, filled, is_filled
    from tests.integration.test_large_buffers import first_byte, leave_no_room, make

    with ProcessPool(1) as pool:
        pool.submit(make, 0, 4 * MB).result()
        leave_no_room(sys.argv[1])
        kept = []
        for number in range(5):
            assert pool.submit(first_byte, filled(number, 6 * MB)).result() == number
            kept.append(pool.submit(make, number, 4 * MB).result())
            assert is_filled(kept[-1], number, 4 * MB)
        print("well")
"""


@pytest.mark.parametrize("what", ["descriptors", "memory"])
def test_a_program_without_room(what: str) -> None:
    """The same holds if it is the program that has no room."""
    ended = run_script(textwrap.dedent(DRIVER_WITHOUT_ROOM).replace("sys.argv[1]", repr(what)))
    assert ended.lines == ["well"], ended.errors
    assert ended.code == 0


@pytest.mark.parametrize("limit", [0, "3 MB", "9 MB"])
def test_what_finds_no_room_goes_through_the_socket(limit: int | str) -> None:
    """It works however little shared memory there is: none, enough for one array, or for some."""
    with ProcessPool(2, shared_memory=limit) as pool:
        calls = [pool.submit(change, filled(0), number) for number in range(10)]
        results = [call.result(GUARD) for call in calls]
        assert all(is_filled(result, number) for number, result in enumerate(results))
        assert used(pool)[0] <= (limit if isinstance(limit, int) else int(limit.split()[0]) * 1_000_000)


def test_what_is_kept_is_limited() -> None:
    """A quarter of the limit is kept for reuse; the rest is returned to the system."""
    with ProcessPool(1, shared_memory="40 MB") as pool:
        results = [pool.submit(make, number).result(GUARD) for number in range(10)]
        assert used(pool)[0] >= 20 * MB
        del results
        all_is_given_back(pool)
        assert used(pool)[0] <= 10_000_000


def test_what_is_let_go_is_given_back_though_nothing_else_happens() -> None:
    """An idle pool returns the memory of results that the program releases."""
    with ProcessPool(1, shared_memory="40 MB") as pool:
        results = [pool.submit(make, number).result(GUARD) for number in range(10)]
        table = pool._engine._io.segments._table
        assert table.used >= 20 * MB
        del results
        wait_for(lambda: table.used <= 10_000_000)


def test_what_is_let_go_in_the_middle_of_a_turn_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the turn has looked for it, and before it receives what wakes the pool for it."""
    with ProcessPool(1, shared_memory="40 MB") as pool:
        results = [pool.submit(make, number).result(GUARD) for number in range(10)]
        table, exchange = pool._engine._io.segments._table, pool._engine._exchange
        assert table.used >= 20 * MB
        send = exchange._send

        def send_and_let_go() -> None:
            send()
            results.clear()

        monkeypatch.setattr(exchange, "_send", send_and_let_go)
        wait_for(lambda: not results or pool._engine._wakeup.set())  # a turn that has begun before may receive one
        wait_for(lambda: table.used <= 10_000_000)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[2]) * resource.getpagesize()


def test_a_call_with_a_limit_on_memory_counts_its_own() -> None:
    """Its worker maps no shared memory of other calls, and its arguments and result are in its own memory."""
    with ProcessPool(1) as pool:
        assert is_filled(pool.submit(identity, filled(1, 60 * MB)).result(GUARD), 1, 60 * MB)
        limits = CallLimits(memory="2 GB")
        there = pool.submit_limited(limits, resident).result(GUARD)
        assert there < 40 * MB
        before = used(pool)[0]
        assert is_filled(pool.submit_limited(limits, change, filled(1), 2).result(GUARD), 2)
        assert used(pool)[0] == before


def change_slowly(array: Array, number: int) -> Array:
    time.sleep(0.001 * (number % 5))
    return change(array, number)


def wait_for_another(calls: list[Any]) -> list[Any]:
    """Wait until one of these calls has ended, or none is left; return those that have not."""
    wait_for(lambda: not calls or any(call.done() for call in calls))
    return [call for call in calls if not call.done()]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
@pytest.mark.parametrize("method", METHODS)
def test_random_kills_while_arrays_cross(method: str) -> None:
    """Whenever workers are killed, results are right, losses are reported, and no memory or descriptor leaks."""
    chance = random.Random(method)
    before = descriptors()
    with ProcessPool(2, method) as pool:
        calls = {pool.submit(change_slowly, filled(0), number): number for number in range(80)}
        lost = 0
        waiting = list(calls)
        for _ in range(12):
            waiting = wait_for_another(waiting)
            time.sleep(chance.random() * 0.01)
            if pids := [call.pid for call in pool.running_calls() if call.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)
            chance.choice(list(calls)).cancel()
        for call, number in calls.items():
            if call.cancelled():
                continue
            if call.exception(GUARD) is None:
                assert is_filled(call.result(), number)
            else:
                assert isinstance(call.exception(), WorkerLostError)
                lost += 1
        del calls, call, waiting
        all_is_given_back(pool)
        assert lost, "no call was lost"
    del pool
    gc.collect()
    assert descriptors() == before


KILLED = """
    import os, signal, threading
    from amltk.scheduling.executors import ProcessPool
    from tests.helpers.arrays import filled
    from tests.helpers.workers import identity

    with ProcessPool(2) as pool:
        pool.submit(identity, filled(1)).result()
        calls = [pool.submit(identity, filled(1)) for _ in range(50)]
        calls[10].result()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_by_a_killed_program() -> None:
    """Shared memory has no name that could be left behind."""
    before = set(os.listdir("/dev/shm"))
    assert run_script(textwrap.dedent(KILLED)).code == -signal.SIGKILL
    assert {name for name in os.listdir("/dev/shm") if "amltk" in name} <= before


@pytest.mark.parametrize("limit", [-1, "many", [], "-1 GB", float("nan")])
def test_a_limit_that_is_none(limit: Any) -> None:
    """A limit that is neither a number of bytes nor a string with a unit is rejected."""
    with pytest.raises((TypeError, ValueError), match="shared_memory="):
        ProcessPool(1, shared_memory=limit)
