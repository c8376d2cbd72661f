"""A call's measured usage is its actual usage: with real processes, on every start method."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest

from amltk.exceptions import CpuTimeLimitError, MemoryLimitError
from amltk.scheduling.executors import CallLimits, ProcessPool
from amltk.scheduling.executors.process_pool._system import processes
from tests.helpers.gate import GUARD

on_each = pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])

MB = 1_000_000

BURN = "import time\nwhile time.process_time() < {}: pass"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def run_program(seconds: float) -> None:
    subprocess.run([sys.executable, "-S", "-c", BURN.format(seconds)], check=True)


def leave_zombie(seconds: float) -> None:
    """Leave a child that has used CPU and ended without being waited for."""
    pid = os.fork()
    if pid == 0:
        burn(seconds)
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def take_zombie() -> None:
    """Wait for the child that an earlier call has left, and stay for a few measurements."""
    os.waitpid(-1, 0)
    time.sleep(0.3)


# ---------------------------------------------------------------------------------------------------------------- CPU


@on_each
def test_what_earlier_calls_have_used(method: str) -> None:
    """A call is not charged for programs of earlier calls, whether waited for then or only by itself."""
    with ProcessPool(1, method) as pool:
        pool.submit(run_program, 0.6).result(GUARD)
        pool.submit(leave_zombie, 0.6).result(GUARD)
        pool.submit_limited(CallLimits(cpu_time=0.5), take_zombie).result(GUARD)


def run_programs_for_ever() -> None:
    while True:
        run_program(0.02)


def wait_for_children(number: int, seconds: float) -> None:
    """Have children compute in parallel, each for less than the total limit."""
    children = [subprocess.Popen([sys.executable, "-S", "-c", BURN.format(seconds)]) for _ in range(number)]
    for child in children:
        child.wait()


def burn_by_orphan() -> None:
    """Have a process compute whose parent has ended."""
    subprocess.run(["/bin/sh", "-c", f"{sys.executable} -S -c '{BURN.format(GUARD)}' &"], check=True)
    time.sleep(GUARD)


def burn_by_unwaited() -> None:
    """Have children compute that the system reaps when they end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        pid = os.fork()
        if pid == 0:
            burn(0.3)
            os._exit(0)
        while psutil.pid_exists(pid):
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (run_program, (GUARD,)),
        (run_programs_for_ever, ()),
        (wait_for_children, (3, GUARD)),
        (burn_by_orphan, ()),
        (burn_by_unwaited, ()),
    ],
    ids=["a program", "many programs", "several at once", "an orphan", "not waited for"],
)
def test_what_children_use_counts(fn: Any, args: tuple[Any, ...]) -> None:
    """A call whose children use too much CPU time is ended."""
    with ProcessPool(1) as pool:
        future = pool.submit_limited(CallLimits(cpu_time=0.7), fn, *args)
        assert isinstance(future.exception(GUARD), CpuTimeLimitError)
        _kill_group(future.pid)  # the orphan


def _kill_group(group: int | None) -> None:
    for one in processes.snapshot().values():
        if one.group == group:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(one.pid, signal.SIGKILL)


def test_joblibs_kept_workers() -> None:
    """Processes that joblib keeps for later calls count in each call with what they used in that call."""
    with ProcessPool(1) as pool:
        try:
            pool.submit(use_joblib, 0.5).result(GUARD)  # to start them takes a second by itself
            for _ in range(2):
                pool.submit_limited(CallLimits(cpu_time=1), use_joblib, 0.25).result(GUARD)
            excess = pool.submit_limited(CallLimits(cpu_time=1), use_joblib, GUARD).exception(GUARD)
            assert isinstance(excess, CpuTimeLimitError)
        finally:
            pool.kill_workers()


def use_joblib(seconds: float) -> None:
    from joblib import Parallel, delayed

    Parallel(n_jobs=2)(delayed(burn)(seconds) for _ in range(2))


# ------------------------------------------------------------------------------------------------------------- memory


def call_programs(option: str) -> None:
    """Run programs beside 200 MB: before each program starts, its process seems to use as much."""
    data = bytearray(200 * MB)
    options: dict[str, Any] = {"preexec_fn": os.getpid} if option == "after a function" else {}
    for _ in range(40):
        subprocess.run(["true"], check=True, **options)
    del data


@pytest.mark.parametrize("option", ["at once", "after a function"])
def test_programs_that_are_about_to_begin(option: str) -> None:
    """A process about to become another program does not count its parent's memory again."""
    with ProcessPool(1) as pool:
        pool.submit_limited(CallLimits(memory=350 * MB), call_programs, option).result(GUARD)


def fork_children(number: int, size: int, seconds: float) -> int:
    """Fork processes that share this one's 150 MB and have some MB of their own; return the total they seem to use."""
    data = bytearray(150 * MB)
    context = multiprocessing.get_context("fork")
    ready, go_on = context.Semaphore(0), context.Event()

    def child() -> None:
        own = bytearray(size * MB)
        ready.release()
        go_on.wait(GUARD)
        del own

    children = [context.Process(target=child) for _ in range(number)]
    for one in children:
        one.start()
    for _ in children:
        ready.acquire()
    time.sleep(seconds)
    family = [one for one in processes.snapshot().values() if os.getpid() in {one.pid, one.parent}]
    total = sum(one.resident for one in family)
    go_on.set()
    for one in children:
        one.join()
    del data
    return total


def test_readers_of_the_same_memory() -> None:
    """Memory that forked processes share with their parent counts once."""
    with ProcessPool(1) as pool:
        seeming = pool.submit_limited(CallLimits(memory=400 * MB), fork_children, 4, 1, 0.5).result(GUARD)
        assert seeming > 600 * MB


def test_an_excess_by_children() -> None:
    """Forked processes that together use too much memory are ended with their parent."""
    with ProcessPool(1) as pool:
        error = pool.submit_limited(CallLimits(memory=400 * MB), fork_children, 4, 100, GUARD).exception(GUARD)
        assert isinstance(error, MemoryLimitError)
        assert error.used < 700 * MB


# ---------------------------------------------------------------------------------------------------------- processes


def test_both_ways_to_look_see_the_same() -> None:
    """/proc and psutil report the same values; psutil is only slower."""
    pid = os.getpid()
    one, other = processes.snapshot()[pid], {one.pid: one for one in processes.by_psutil()}[pid]
    assert one[:3] == other[:3] == (pid, os.getppid(), os.getpgid(pid))
    assert one.cpu == pytest.approx(other.cpu, abs=0.5)
    assert one.resident == pytest.approx(other.resident, rel=0.2)
    assert one.virtual == pytest.approx(other.virtual, rel=0.2)
    assert processes.me().key == one.key
    assert processes.me().cpu == pytest.approx(one.cpu, abs=0.5)


def test_when_processes_start() -> None:
    """A process started now has a start time of now, by the processes' clock."""
    before = processes.clock()
    with subprocess.Popen(["sleep", str(GUARD)]) as process:
        started = processes.snapshot()[process.pid].started
        process.kill()
    assert before - 0.02 <= started <= processes.clock()


def test_the_memory_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The footprint is shares, private memory or all resident memory, as available; zero once the process has ended."""
    me = processes.me()
    for look in (processes.footprint, processes.by_psutil_private):
        found = look(me)
        assert 0 < found.its <= sum(found) <= 1.5 * me.resident
        assert look(me._replace(pid=2**22 + 1)) == (0, 0)
    monkeypatch.setattr(psutil.Process, "memory_full_info", _denied)
    assert processes.by_psutil_private(me) == (me.resident, 0)
    if processes.ON_LINUX:
        monkeypatch.setattr(processes, "_SMAPS", None)
        assert processes.footprint(me) == (me.resident, 0)
        monkeypatch.setattr(processes, "open", _denied, raising=False)
        assert processes.footprint(me) == (me.resident, 0)


def _denied(*_: object) -> Any:
    raise psutil.AccessDenied if sys._getframe(1).f_code.co_name != "_proportional" else PermissionError


@pytest.mark.skipif(not processes.ON_LINUX, reason="elsewhere it is done by psutil anyway")
def test_by_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits also work without /proc."""
    monkeypatch.setattr(processes, "ON_LINUX", False)
    with ProcessPool(1) as pool:
        pool.submit(run_program, 0.5).result(GUARD)
        assert isinstance(
            pool.submit_limited(CallLimits(cpu_time=0.3), burn, GUARD).exception(GUARD), CpuTimeLimitError
        )
        error = pool.submit_limited(CallLimits(memory=300 * MB), fork_children, 3, 100, GUARD).exception(GUARD)
        assert isinstance(error, MemoryLimitError)
