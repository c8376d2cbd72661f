"""Another user's processes cannot be signalled or killed: the pool continues, and ends what it can."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

from amltk.scheduling.executors.termination import kill_trees
from tests.helpers.script import run_script

PROGRAM = """
    import ctypes, logging, os, sys, time
    from concurrent.futures import CancelledError
    from amltk.scheduling.executors import CallLimits, ProcessPool

    logging.basicConfig(format="%(message)s")  # not among the printed lines: a thread of the pool may log meanwhile

    def give_up_the_right_to_kill():  # what root has of it; the program stays root's
        class Header(ctypes.Structure):
            _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

        class Data(ctypes.Structure):
            _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]

        libc, header, data = ctypes.CDLL(None), Header(0x20080522, 0), (Data * 2)()
        assert libc.prctl(24, 5, 0, 0, 0) == 0
        assert libc.capget(ctypes.byref(header), data) == 0
        for name in ("effective", "permitted", "inheritable"):
            setattr(data[0], name, getattr(data[0], name) & ~(1 << 5))
        assert libc.capset(ctypes.byref(header), data) == 0

    def become_another_user():
        gate = os.open("gate", os.O_RDONLY)
        open("begun", "x").close()
        os.setuid(1)
        os.read(gate, 1)

    def until(there):
        while not there():
            time.sleep(0.005)

    os.mkfifo("gate")
    gate = os.open("gate", os.O_RDWR)
    give_up_the_right_to_kill()
"""

needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can become another user"
)


@needs_root
@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("how", ["cancel", "limit", "kill"])
def test_a_worker_that_has_become_another_users(how: str, method: str) -> None:
    """It is left alone with one warning; its call ends, the others are computed, and the pool ends."""
    ended = run_script(f"""{PROGRAM}
    pool, how = ProcessPool(1, mp_context={method!r}), {how!r}
    limits = CallLimits(wall_time=3 if how == "limit" else 600)
    call = pool.submit_limited(limits, become_another_user)
    until(lambda: os.path.exists("begun"))
    waiting = pool.submit(abs, -1)
    pid, = pool.worker_pids
    until(lambda: "Uid:\\t1\\t1" in open(f"/proc/{{pid}}/status").read())
    if how == "cancel":
        call.cancel()
    if how == "kill":
        pool.kill_workers()
    try:
        print(type(call.exception()).__name__)
    except CancelledError:
        print("cancelled")
    if how != "kill":
        print(waiting.result())
        pool.shutdown()
    print(os.path.exists(f"/proc/{{pid}}"))
    os.write(gate, b"x")
    """)
    outcome = {"cancel": ["cancelled", "1"], "limit": ["WallTimeLimitError", "1"], "kill": ["WorkerLostError"]}[how]
    assert ended.lines == [*outcome, "True"], ended.errors
    assert ended.errors.count("this user may not do that") == 1
    assert ended.code == 0


@needs_root
@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_a_child_of_a_worker_that_is_another_users(method: str) -> None:
    """The call and its other processes are ended, but not that child, and nothing waits for it."""
    ended = run_script(f"""{PROGRAM}
    import subprocess

    def start_as_another_user():
        gate = os.open("gate", os.O_RDONLY)
        child = subprocess.Popen(["head", "-c1"], stdin=gate, stdout=subprocess.DEVNULL, user=1)
        open("begun", "x").write(str(child.pid))
        time.sleep(600)

    pool = ProcessPool(2, mp_context={method!r})
    call = pool.submit(start_as_another_user)
    until(lambda: os.path.exists("begun") and os.path.getsize("begun"))
    others = [pool.submit(abs, -n) for n in range(4)]
    print(call.cancel(), [other.result() for other in others], pool.submit(abs, -4).result())
    pool.shutdown()
    print(os.path.exists("/proc/" + open("begun").read()))
    os.write(gate, b"x")
    """)
    assert ended.lines == ["True [0, 1, 2, 3] 4", "True"], ended.errors
    assert ended.code == 0


def test_the_rest_of_a_tree_is_killed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A process that may not be signalled does not keep the others from being killed, and is named once."""
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    protected, other = (subprocess.Popen(program) for _ in range(2))
    kill = psutil.Process.kill

    def refuse(process: psutil.Process) -> Any:
        if process.pid == protected.pid:
            raise psutil.AccessDenied(process.pid)
        return kill(process)

    with protected, other:
        try:
            monkeypatch.setattr(psutil.Process, "kill", refuse)
            monkeypatch.setattr(psutil.Process, "suspend", refuse)
            with caplog.at_level(logging.WARNING):
                killed = kill_trees([protected.pid, other.pid])
            assert [process.pid for process in killed] == [other.pid]
            assert caplog.messages == [
                f"process {protected.pid} cannot be ended, since this user is not allowed to: it goes on"
            ]
            assert protected.poll() is None
        finally:
            protected.kill()
            other.kill()
