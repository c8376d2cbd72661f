"""However a worker ends, it leaves no process behind, whatever its calls have started."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors import CallLimits, ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import Script
from tests.helpers.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable


METHODS = ["forkserver", "spawn", "fork"]

SLEEP = [sys.executable, "-c", "import time; time.sleep(100)"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


def sleep(_: Any = None) -> None:
    time.sleep(100)


def start_pool() -> list[int]:
    """Start a pool as a data loader does, without waiting for its end."""
    pool = multiprocessing.get_context("fork").Pool(2)
    pool.map_async(sleep, range(2))
    globals()["kept"] = pool
    return [process.pid for process in pool._pool]


def start_program() -> list[int]:
    """Start a simulator."""
    return [subprocess.Popen(SLEEP).pid]


def start_program_in_background() -> list[int]:
    """Start a program from a shell that exits at once."""
    out = subprocess.run(["sh", "-c", "sleep 100 > /dev/null 2>&1 & echo $!"], capture_output=True, check=True)
    return [int(out.stdout)]


def start_program_with_session() -> list[int]:
    """Start a program that leaves the worker's process group."""
    return [subprocess.Popen(SLEEP, start_new_session=True).pid]


def start_daemon() -> list[int]:
    """Start an orphan in a session of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            time.sleep(100)
        os.write(writer, b"%d" % pid)
        os._exit(0)
    return [int(os.read(reader, 100))]


KINDS: dict[str, Callable[[], list[int]]] = {
    "a pool": start_pool,
    "a program": start_program,
    "a program in the background": start_program_in_background,
    "a program with a session": start_program_with_session,
    "a daemon": start_daemon,
}


def start(kind: str) -> list[int]:
    pids = KINDS[kind]()
    assert all(psutil.pid_exists(pid) for pid in pids)
    return pids


def start_and(kind: str, how: str, path: str) -> None:
    """Start processes, write down their pids, and end in the given way."""
    pids = start(kind)
    with open(path, "w") as file:
        file.write(" ".join(map(str, pids)))
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    time.sleep(100)


def is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_when_a_worker_ends(method: str, kind: str) -> None:
    """When a worker is no longer needed, it ends, and so do the processes that it started."""
    with ProcessPool(1, method) as pool:
        pids = pool.submit(start, kind).result(GUARD)
        assert all(map(is_there, pids))
    assert not any(map(is_there, pids))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["crash", "exit", "limit", "cancel"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_when_a_worker_dies(method: str, how: str, kind: str, tmp_path: Any) -> None:
    """Whether it crashes, hits a limit or is cancelled, nothing is left, and the pool continues."""
    path = tmp_path / "pids"
    with ProcessPool(1, method) as pool:
        if how == "limit":
            call = pool.submit_limited(CallLimits(wall_time=0.5), start_and, kind, how, str(path))
        else:
            call = pool.submit(start_and, kind, how, str(path))
        give_up = time.monotonic() + GUARD
        while not (path.exists() and path.read_text()) and not call.done():
            assert time.monotonic() < give_up
            time.sleep(0.001)
        if how == "cancel":
            assert call.cancel()
        elif how == "limit":
            assert isinstance(call.exception(GUARD), TimeoutError)
        else:
            assert isinstance(call.exception(GUARD), WorkerLostError)
        pids = list(map(int, path.read_text().split())) if path.exists() else []
        assert pool.submit(pow, 2, 3).result(GUARD) == 8
    assert not any(map(is_there, pids))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_when_the_program_is_killed(method: str) -> None:
    """Even processes in a session of their own are ended."""
    with Script(f"""
        import subprocess, sys, time
        from amltk.scheduling.executors import ProcessPool

        def work():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
            return child.pid

        pool = ProcessPool(1, {method!r})
        print("started", pool.submit(work).result(), *pool.worker_pids, flush=True)
        time.sleep(100)
    """) as script:
        script.wait_for("started")
        pids = list(map(int, script.lines[-1].split()[1:]))
        assert all(map(is_there, pids))
        script.process.kill()
        give_up = time.monotonic() + GUARD
        while any(map(is_there, pids)):
            assert time.monotonic() < give_up
            time.sleep(0.01)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_when_the_program_is_killed_while_what_starts_workers_is_stopped(method: str) -> None:
    """The system then lets it continue, and sends it SIGHUP, which does not end it before it has ended all else."""
    with Script(f"""
        import os, subprocess, sys, time
        from multiprocessing.shared_memory import SharedMemory
        from amltk.scheduling.executors import ProcessPool
        from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding

        def work():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
            block = SharedMemory(create=True, size=8)
            print("started", block._name, os.getppid(), os.getpid(), child.pid, flush=True)
            time.sleep(100)

        Forwarding.forward = lambda self: None  # as if the program were killed before it gets round to it
        ProcessPool(1, {method!r}).submit(work).result()
    """) as script:
        script.wait_for("started")
        name, starter, *others = script.lines[-1].split()[1:]
        block, pids = Path("/dev/shm", name.strip("/")), [int(starter), *map(int, others)]
        os.kill(int(starter), signal.SIGSTOP)
        wait_for(lambda: psutil.Process(int(starter)).status() == psutil.STATUS_STOPPED)
        assert all(map(is_there, pids))
        assert block.exists()
        script.process.kill()
        wait_for(lambda: not any(map(is_there, pids)) and not block.exists())


def test_nothing_is_left_when_the_program_is_killed_before_its_worker_is_watched(tmp_path: Path) -> None:
    """Who watches a copy of the program finds out that the program has ended before."""
    with Script(f"""
        import os, signal, time
        from pathlib import Path
        from amltk.scheduling.executors import ProcessPool
        from amltk.scheduling.executors.process_pool._workers.fork_server import supervisor

        begun, driver, watch = Path({str(tmp_path / "begun")!r}), os.getpid(), supervisor.watch

        def initialize():
            begun.touch()
            time.sleep(600)

        def watch_late(pid):
            while not begun.exists():
                time.sleep(0.001)
            if os.getppid() == driver:
                os.kill(driver, signal.SIGKILL)
            while Path("/proc", str(driver)).exists():  # until something has waited for it
                time.sleep(0.001)
            return watch(pid)

        supervisor.watch = watch_late
        ProcessPool(1, "fork", initialize).submit(abs, -1).result()
    """) as script:
        assert script.end().code == -signal.SIGKILL


@pytest.mark.parametrize("program", ["an interpreter", "frozen"])
@pytest.mark.parametrize("is_stopped", [False, True])
def test_nothing_is_left_when_what_starts_workers_is_killed(program: str, is_stopped: bool) -> None:
    """By someone, or by the pool since it is stopped; a program that cannot be run again has a copy of itself there."""
    with Script(f"""
        import os, signal, subprocess, sys
        from amltk.scheduling.executors import ProcessPool
        from amltk.scheduling.executors.process_pool._workers import by_fork, kills, server_process

        by_fork.END_SECONDS = kills.REPORT_SECONDS = server_process.END_SECONDS = 0.1
        sys.frozen = {program == "frozen"}

        def work():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
            return os.getppid(), child.pid

        with ProcessPool(1) as pool:
            starter, child = pool.submit(work).result()
            os.kill(starter, signal.{"SIGSTOP" if is_stopped else "SIGKILL"})
        print(child)
    """) as script:
        assert not is_there(int(script.end().lines[0]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_ignored", [False, True])
def test_sighup_does_to_workers_what_it_does_to_the_program(method: str, is_ignored: bool) -> None:
    """Unless `nohup` has the program ignore it, it ends them, although not what starts them."""
    action = "SIG_IGN" if is_ignored else "SIG_DFL"
    with Script(f"""
        import signal
        from amltk.scheduling.executors import ProcessPool

        signal.signal(signal.SIGHUP, signal.{action})
        with ProcessPool(1, {method!r}) as pool:
            print(repr(pool.submit(signal.getsignal, signal.SIGHUP).result()))
    """) as script:
        assert script.end().lines == [repr(signal.SIG_IGN if is_ignored else signal.SIG_DFL)]


def start_in_driver(kind: str) -> Any:
    """Fork processes from the program while it has a pool; they inherit its descriptors."""
    context = multiprocessing.get_context("fork")
    if kind == "a manager":
        return context.Manager()
    process: Any = context.Process(target=sleep, daemon=True)
    process.start()
    return process


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["a manager", "a daemon"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from CPython 3.12 on, of forking beside threads
def test_a_pool_ends_while_a_forked_child_has_its_sockets(method: str, kind: str) -> None:
    """The pool's processes are asked to end; they do not rely on connections closing, which the child holds open."""
    pool = ProcessPool(1, method)
    assert pool.submit(pow, 2, 3).result(GUARD) == 8
    child = start_in_driver(kind)
    try:
        assert pool.submit(pow, 2, 3).result(GUARD) == 8
        pids = pool.worker_pids
        pool.shutdown()
        assert not any(map(is_there, pids))
    finally:
        getattr(child, "shutdown", None) and child.shutdown()
        if kind == "a daemon":
            child.kill()
            child.join()
            child.close()


def test_a_worker_takes_two_descriptors() -> None:
    """In the program that has the pool: one for messages, one for tokens."""
    with ProcessPool(8) as pool:
        pool.submit(pow, 2, 3).result(GUARD)
        before, workers = len(os.listdir("/proc/self/fd")), len(pool.worker_pids)
        with Gate() as gate:
            calls = [pool.submit(pass_gate, gate.address) for _ in range(8)]
            gate.wait_begun(8)
            gate.open()
            for call in calls:
                call.result(GUARD)
        assert len(os.listdir("/proc/self/fd")) - before == 2 * (8 - workers)


def use_in_copy(pool: ProcessPool, call: Any) -> int:
    """Do in a forked copy of the program what it may do with the parent's pool; return 0 if it changes nothing."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        try:
            pool.submit(pow, 2, 3)
        except RuntimeError:
            call.cancel()
            pool.shutdown(cancel_futures=True)
            pool.kill_workers()
            status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from CPython 3.12 on, of forking beside threads
def test_a_forked_copy_of_the_program_leaves_the_pool_alone(method: str) -> None:
    """Whatever the copy does with the pool, the parent's calls are computed; its own are refused."""
    with Gate() as gate, ProcessPool(1, method) as pool:
        calls = [pool.submit(pass_gate, gate.address, n) for n in range(5)]
        gate.wait_begun(1)
        assert use_in_copy(pool, calls[0]) == 0
        gate.open()
        assert [call.result(GUARD) for call in calls] == list(range(5))
