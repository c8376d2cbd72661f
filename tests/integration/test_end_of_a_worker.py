"""A worker that is no longer needed exits like any Python program, and leaves no process behind."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import Any

import psutil
import pytest

from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._workers import kills, manager
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import run_script
from tests.helpers.workers import wait_for

METHODS = ["forkserver", "spawn", "fork"]

LEAVES = """
    import atexit, concurrent.futures, gzip, multiprocessing, os, sys, tempfile, threading, weakref
    from multiprocessing import util
    from pathlib import Path
    from amltk.scheduling import Scheduler

    class Kept:
        pass

    def write(name):
        for _ in range(20):  # some time, in which the worker is hung up on
            threading.Event().wait(0.01)
        Path(name).write_text("done")

    def for_ever():
        while True:
            threading.Event().wait(60)

    def leave():
        global uploads, kept, folder, buffered, packed, manager
        threading.Thread(target=write, args=("thread",)).start()
        uploads = concurrent.futures.ThreadPoolExecutor(1)
        uploads.submit(write, "upload")
        atexit.register(write, "atexit")
        kept = Kept()
        weakref.finalize(kept, write, "finalize")
        util.Finalize(kept, write, ("Finalize",), exitpriority=0)
        folder = tempfile.TemporaryDirectory(dir=".", prefix="temporary-")
        buffered = open("buffered", "w")
        buffered.write("done")
        packed = gzip.open("packed", "wt")
        packed.write("done")
        context = multiprocessing.get_context("fork")
        context.Process(target=write, args=("process",)).start()
        context.Process(target=for_ever, daemon=True).start()
        manager = context.Manager()
        print("printed", end="")

    def show():
        names = ("thread", "upload", "atexit", "finalize", "Finalize", "buffered", "process")
        print("never written:", [name for name in names if not os.path.exists(name) or open(name).read() != "done"])
        print("packed:", gzip.open("packed", "rt").read())
        print("left:", [name for name in os.listdir() if name.startswith("temporary-")])
"""


@pytest.mark.parametrize("options", ["", "max_tasks_per_child=1"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_call_has_left_to_do_is_done(method: str, options: str) -> None:
    """A call's threads, handlers, finalizers, files and children are cleaned up when its worker exits."""
    ended = run_script(f"""{LEAVES}
    scheduler = Scheduler.with_processes(1, mp_context={method!r}, {options})
    scheduler.on_start(lambda: scheduler.submit(leave))
    scheduler.run()
    print()
    show()
    """)
    assert ended.lines == ["printed", "never written: []", "packed: done", "left: []"], ended.errors
    assert not ended.errors
    assert ended.code == 0


@pytest.mark.parametrize("method", METHODS)
def test_what_is_printed_by_a_buffered_program_appears_once(method: str) -> None:
    """What the driver has buffered when workers start, on stdout and in files, is written by the driver alone."""
    ended = run_script(
        f"""
        import atexit, multiprocessing, os, sys, tempfile, time, weakref
        from concurrent.futures import ThreadPoolExecutor
        from amltk.scheduling import Scheduler

        class Kept:
            pass

        def use(pool=None):
            return len(os.listdir())

        if __name__ == "__main__":
            print("line of the driver")
            file = open("buffered", "w")
            file.write("line of the driver's file\\n")
            atexit.register(print, "handler of the driver")
            kept = Kept()
            weakref.finalize(kept, print, "finalizer of the driver")
            folder = tempfile.TemporaryDirectory()
            threads = ThreadPoolExecutor(2)
            threads.submit(print, "in a thread of the driver").result()
            child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
            child.start()
            scheduler = Scheduler.with_processes(2, mp_context={method!r}, max_tasks_per_child=1)
            scheduler.on_start(lambda: [scheduler.submit(use) for _ in range(4)])
            scheduler.run()
            file.close()
            print(open("buffered").read(), end="")
            print(os.path.isdir(folder.name), child.is_alive())
        """,
        env={"PYTHONUNBUFFERED": ""},
    )
    assert ended.lines == [
        "line of the driver",
        "in a thread of the driver",
        "line of the driver's file",
        "True True",
        "finalizer of the driver",
        "handler of the driver",
    ]
    assert not ended.errors


@pytest.mark.parametrize("method", METHODS)
def test_nobody_reads_what_a_worker_prints(method: str) -> None:
    """A closed pipe causes no error when a worker exits, and does not stop the rest of the cleanup."""
    ended = run_script(
        f"""
        import atexit, os, sys
        from pathlib import Path
        from amltk.scheduling import Scheduler

        def print_in_vain():
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, 1)
            os.close(writer)
            sys.stdout = open(1, "w", closefd=False)
            atexit.register(Path("atexit").touch)
            print("in vain")

        if __name__ == "__main__":
            scheduler = Scheduler.with_processes(1, mp_context={method!r})
            scheduler.on_start(lambda: scheduler.submit(print_in_vain))
            scheduler.run()
            print(os.path.exists("atexit"))
        """,
        env={"PYTHONUNBUFFERED": ""},
    )
    assert ended.lines == ["True"]
    assert not ended.errors


@pytest.mark.parametrize("method", METHODS)
def test_a_handler_that_raises_is_shown(method: str) -> None:
    """An exception in an atexit handler is printed, the other handlers are called, and the run is unaffected."""
    ended = run_script(f"""
        import atexit, os
        from pathlib import Path
        from amltk.scheduling import Scheduler

        def divide():
            1 / 0

        def register():
            atexit.register(Path("first").touch)
            atexit.register(divide)
            atexit.register(Path("last").touch)

        scheduler = Scheduler.with_processes(1, mp_context={method!r})
        scheduler.on_start(lambda: scheduler.submit(register))
        print(scheduler.run().code.name, sorted(name for name in ("first", "last") if os.path.exists(name)))
        """)
    assert ended.lines == ["EXHAUSTED ['first', 'last']"]
    assert "ZeroDivisionError" in ended.errors


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_globals_are_finalized(method: str) -> None:
    """A worker with an interpreter of its own also calls `__del__` of its globals."""
    ended = run_script(f"""
        import os
        from amltk.scheduling import Scheduler

        class Library:
            def __del__(self, exists=os.path.exists, mkdir=os.mkdir):
                mkdir("deleted")

        def use():
            global library
            library = Library()

        scheduler = Scheduler.with_processes(1, mp_context={method!r})
        scheduler.on_start(lambda: scheduler.submit(use))
        scheduler.run()
        print(os.path.exists("deleted"))
        """)
    assert ended.lines == ["True"], ended.errors


def test_no_process_of_joblib_is_left() -> None:
    """Three trials that use joblib, each in a worker of its own, leave none of joblib's processes behind."""
    pytest.importorskip("joblib")
    ended = run_script("""
        from amltk.scheduling import Scheduler

        def train(x):
            from joblib import Parallel, delayed
            return sum(Parallel(2)(delayed(abs)(-y) for y in range(x)))

        scheduler = Scheduler.with_processes(1, max_tasks_per_child=1)
        scheduler.on_start(lambda: [scheduler.submit(train, x) for x in range(3)])
        scheduler.on_future_result(lambda future, result: print(result))
        scheduler.run()
        """)
    assert ended.lines == ["0", "0", "1"], ended.errors


def wait_in_a_thread(address: tuple[str, int]) -> None:
    threading.Thread(target=pass_gate, args=(address,), name="checkpoint").start()


def wait_in_a_process(address: tuple[str, int]) -> None:
    import multiprocessing

    multiprocessing.get_context("fork").Process(target=pass_gate, args=(address,), name="child").start()


def wait_in_a_handler(address: tuple[str, int]) -> None:
    import atexit

    atexit.register(pass_gate, address)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("leave", "text"),
    [
        (wait_in_a_thread, "thread 'checkpoint' (pass_gate in gate.py)"),
        (wait_in_a_process, "process {pid} (child)"),
        (wait_in_a_handler, "a function registered to run at exit (pass_gate in gate.py)"),
    ],
)
def test_a_worker_says_what_its_end_waits_for(method: str, leave: Any, text: str) -> None:
    """The pool can name the thread, process or handler that keeps a worker from exiting."""
    with Gate() as gate:
        pool = ProcessPool(1, mp_context=method)
        pool.submit(leave, gate.address).result(GUARD)
        (link,) = pool._engine._io.links.values()
        pool.shutdown(wait=False)
        (pid,) = gate.wait_begun()
        deadline = time.monotonic() + GUARD
        while link.ending != text.format(pid=pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert link.ending == text.format(pid=pid)
        gate.open()
        pool.shutdown(wait=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_does_not_end_is_killed(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is killed after `exit_timeout` seconds, with a warning that names what it waited for; nothing is left."""
    with Gate() as gate:
        with caplog.at_level(logging.WARNING, "amltk"), ProcessPool(1, method, exit_timeout=2) as pool:
            pool.submit(wait_in_a_thread, gate.address).result(GUARD)
            gate.wait_begun(1)
        (record,) = caplog.records
        told = record.getMessage()
    assert "did not end in 2 s, and is killed" in told
    assert "thread" in told


def pass_and_exit(address: tuple[str, int]) -> None:
    pass_gate(address)
    os._exit(3)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: it stops what starts workers, which is found in /proc")
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_whose_end_is_reported_late(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how it ended, however long a busy machine takes to report that after its connection has closed."""
    looks = 0
    overdue = kills.Kills._overdue

    def look(self: Any, link: Any, now: float) -> Any:
        nonlocal looks
        looks += link.silent_since is not None
        return overdue(self, link, now)

    monkeypatch.setattr(kills.Kills, "_overdue", look)
    with Gate() as gate, ProcessPool(1, method) as pool:
        call = pool.submit(pass_and_exit, gate.address)
        (pid,) = gate.wait_begun()
        worker = psutil.Process(pid)
        starter = worker.parent()
        assert starter is not None
        starter.suspend()
        try:
            wait_for(lambda: starter.status() == psutil.STATUS_STOPPED)
            gate.open()
            wait_for(lambda: worker.status() == psutil.STATUS_ZOMBIE)
            monkeypatch.setattr(kills, "SILENCE_SECONDS", 0.0)
            looks = 0
            wait_for(lambda: looks > 3)
        finally:
            starter.resume()
        assert "ended with exit code 3" in str(call.exception(GUARD))


@pytest.mark.parametrize("timeout", [-1, "ten", float("inf")])
def test_how_long_an_end_may_take_is_checked(timeout: Any) -> None:
    """A bad value is rejected at once, by an error that names it."""
    with pytest.raises((TypeError, ValueError), match="exit_timeout="):
        ProcessPool(1, exit_timeout=timeout)


def linger(address: Any) -> None:
    """Let the end of this worker wait for a gate."""
    import atexit

    atexit.register(pass_gate, address)


@pytest.mark.parametrize("idle_timeout", [None, 0.01])
def test_a_pool_does_nothing_while_a_worker_ends(idle_timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread sleeps until the worker has ended, whether the pool is closed or the worker was idle for too long."""
    looks = 0
    look_after = manager.WorkerManager.look_after

    def count(self: Any, *, closing: bool) -> bool:
        nonlocal looks
        looks += 1
        return look_after(self, closing=closing)

    monkeypatch.setattr(manager.WorkerManager, "look_after", count)
    with Gate() as gate:
        pool = ProcessPool(1, idle_timeout=idle_timeout)
        pool.submit(linger, gate.address).result(GUARD)
        if idle_timeout is None:
            pool.shutdown(wait=False)
        gate.wait_begun()
        looks = 0
        time.sleep(0.2)
        assert looks < 50
        gate.open()
        pool.shutdown()
