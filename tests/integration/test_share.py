"""A shared object is in memory once, for as long as it is shared, and costs each call next to nothing."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import SharedObjectError
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.arrays import MB, Array, filled
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import run_script
from tests.helpers.workers import METHODS, wait_for

if TYPE_CHECKING:
    from pathlib import Path

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="what is measured is in /proc")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> list[str]:
    import threading

    return [thread.name for thread in threading.enumerate()]


def total(array: Array, step: int = 4096) -> int:
    return sum(array.data[::step])


def proportional_set_size(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def computed(scheduler: Scheduler, fn: Any, *calls: tuple[Any, ...]) -> list[Any]:
    """Return the outcomes of calls, in order."""
    futures: list[Any] = []
    scheduler.on_start(lambda: futures.extend(scheduler.submit(fn, *args) for args in calls), max_calls=1)
    scheduler.run(display=False, on_exception="continue")
    return [future.exception() or future.result() for future in futures]


@needs_linux
def test_it_is_in_memory_once() -> None:
    """However many workers and calls use it, all processes together have one copy."""
    size = 128 * MB
    with Scheduler.with_processes(3) as scheduler:
        assert computed(scheduler, abs, (-1,)) == [1]
        before = proportional_set_size(os.getpid())
        shared = scheduler.share(filled(1, size))
        with Gate() as gate:
            futures: list[Any] = []
            scheduler.on_start(lambda: futures.extend(scheduler.submit(look, shared, gate.address) for _ in range(3)))
            sizes: list[int] = []

            @scheduler.on_start
            async def measure() -> None:
                import asyncio

                await asyncio.to_thread(gate.wait_begun, 3)
                sizes.extend(proportional_set_size(pid) for pid in (os.getpid(), *gate.pids))
                gate.open()

            scheduler.run(display=False)
        assert [future.result() for future in futures] == [size // 4096] * 3
        alone = 40 * MB  # a worker without it, at most
        assert sum(sizes) - before <= 1.1 * size + 3 * alone


def look(array: Array, address: tuple[str, int]) -> int:
    found = total(array)
    pass_gate(address)
    return found


def test_a_call_sends_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The amount of data sent to a worker does not depend on the size of the object."""
    sent: Counter[str] = Counter()
    encode = "amltk.scheduling.executors.process_pool._io.worker_io.encode"
    from amltk.scheduling.executors.process_pool._io import worker_io

    plain = worker_io.encode

    def note(*args: Any, **kwargs: Any) -> Any:
        pieces = plain(*args, **kwargs)
        sent["bytes"] += sum(map(len, pieces))
        return pieces

    monkeypatch.setattr(encode, note)
    with Scheduler.with_processes(1) as scheduler:
        shared = scheduler.share(filled(1, 50 * MB))
        assert computed(scheduler, total, *[(shared,)] * 50) == [50 * MB // 4096] * 50
    assert sent["bytes"] < 100_000


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from CPython 3.12 on
@pytest.mark.parametrize("method", METHODS)
def test_workers_that_are_replaced_have_it(method: str) -> None:
    """A replacement worker maps it as well."""
    with Scheduler.with_processes(2, mp_context=method, max_tasks_per_child=1) as scheduler:
        shared = scheduler.share(filled(3))
        assert computed(scheduler, total, *[(shared,)] * 6) == [3 * 2 * MB // 4096] * 6


@needs_linux
@pytest.mark.parametrize("end", ["close", "collected", "scheduler"])
def test_its_life(end: str) -> None:
    """It is freed with nothing left when its handle is closed or collected, or its scheduler is closed."""
    before, threads_before = descriptors(), threads()
    with Scheduler.with_processes(1) as scheduler:
        shared = scheduler.share(filled(1))
        assert computed(scheduler, total, (shared,)) == [2 * MB // 4096]
        if end == "close":
            shared.close()
            assert shared.closed
            assert "closed" in repr(shared)
            with pytest.raises(SharedObjectError, match="not shared any more"):
                shared.get()
            with pytest.raises(SharedObjectError, match="not shared any more"):
                computed(scheduler, total, (shared,))
        elif end == "collected":
            del shared
    if end == "scheduler":
        assert shared.closed
    del scheduler
    gc.collect()
    wait_for(lambda: descriptors() == before and threads() == threads_before)


def test_a_worker_lets_go_of_what_is_not_shared_any_more() -> None:
    """The worker releases it when it gets another object."""
    with Scheduler.with_processes(1) as scheduler:
        for number in range(1, 5):
            shared = scheduler.share(filled(number))
            assert computed(scheduler, total, (shared,)) == [number * 2 * MB // 4096]
            assert computed(scheduler, n_received, ()) == [1]
            shared.close()


def n_received() -> int:
    from amltk.scheduling.executors import shared

    return len(shared._received)


def test_many_at_a_time() -> None:
    """However many objects there are, none is evicted for another."""
    with Scheduler.with_processes(1) as scheduler:
        shared = [scheduler.share(filled(number)) for number in range(20)]
        assert computed(scheduler, total, *[(one,) for one in shared * 2]) == [n * 512 for n in range(20)] * 2
        assert computed(scheduler, n_received, ()) == [20]


def test_in_other_pools_and_objects() -> None:
    """A handle is pickled as its object, so it may also be used where futures may not."""
    scheduler = Scheduler.with_threads(1)
    shared = scheduler.share(filled(2))
    with ProcessPool(1) as pool:
        assert pool.submit(total, shared).result(GUARD) == 1024
        assert pool.submit(sum_up, Holder(shared)).result(GUARD) == 1024
    scheduler.close()


class Holder:
    def __init__(self, array: Any) -> None:
        self.array = array


def sum_up(holder: Holder) -> int:
    return total(holder.array)


@needs_linux
def test_a_forked_child_does_not_end_it() -> None:
    """A forked copy of the program that exits or closes the handle leaves the object to its parent."""
    scheduler = Scheduler.with_processes(1)
    shared = scheduler.share(filled(2))
    if (pid := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            shared.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert computed(scheduler, total, (shared,)) == [1024]
    shared.close()


def test_what_cannot_be_pickled_is_refused() -> None:
    """`share` itself raises."""
    scheduler = Scheduler.with_processes(1)
    with pytest.raises(TypeError, match="lock"):
        scheduler.share(__import__("threading").Lock())
    scheduler.close()


def test_a_set_of_handles_is_refused() -> None:
    """A set is refused, as with futures, because the placeholder need not be hashable."""
    with Scheduler.with_sequential() as scheduler:
        shared = scheduler.share(1)

        @scheduler.on_start
        def launch() -> None:
            with pytest.raises(TypeError, match="is a set with a shared object in it"):
                scheduler.submit(len, {shared})

        scheduler.run(display=False)


JOURNALED = """
    import os, signal, sys
    from amltk.scheduling import Scheduler
    from tests.helpers.arrays import filled
    from tests.integration.test_share import total

    folder, number, kills = sys.argv[1:]
    scheduler = Scheduler.with_processes(1)
    shared = scheduler.share(filled(int(number)))

    @scheduler.on_start
    def launch():
        scheduler.submit(total, shared)

    @scheduler.on_future_result
    def tell(future, result):
        print(result, flush=True)
        if future.number == 0:
            scheduler.submit(total, shared)
        elif kills == "yes":
            os.kill(os.getpid(), signal.SIGKILL)

    scheduler.run(journal=folder, display=False)
"""


def test_a_journal_knows_it_by_its_contents(tmp_path: Path) -> None:
    """A restarted program may share the same contents, and no others."""
    source = textwrap.dedent(JOURNALED)

    def run(number: int, kills: str) -> Any:
        return run_script(source.replace("sys.argv[1:]", repr((str(tmp_path / "j"), str(number), kills))))

    assert run(1, "yes").code == -signal.SIGKILL
    other = run(2, "no")
    assert "JournalMismatchError" in other.errors
    again = run(1, "no")
    assert again.lines == ["512", "512"]
    assert again.code == 0, again.errors
