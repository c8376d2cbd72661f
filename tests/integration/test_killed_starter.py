"""Whatever calls have started in sessions of its own ends when the process that starts workers is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._system.marks import VARIABLE
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.workers import METHODS, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="such programs are found on Linux only")


def start_program(address: tuple[str, int] | None = None) -> tuple[int, int]:
    """Start a program in a session of its own; return its pid and that of the starter of this worker."""
    program = subprocess.Popen(["sleep", "600"], start_new_session=True)
    if address is not None:
        pass_gate(address, program.pid)
    return program.pid, os.getppid()


@pytest.mark.parametrize("method", METHODS)
def test_programs_of_calls_end_with_a_killed_starter(method: str) -> None:
    """Both that of the running call and that of an earlier one, whose worker waits; later calls are computed."""
    with Gate() as gate, ProcessPool(1, method) as pool:
        earlier, starter = pool.submit(start_program).result(GUARD)
        running = pool.submit(start_program, gate.address)
        (worker,) = gate.wait_begun()
        started = [child.pid for child in psutil.Process(worker).children()]
        assert earlier in started
        os.kill(starter, signal.SIGKILL)
        assert isinstance(running.exception(GUARD), WorkerLostError)
        wait_for(lambda: not any(map(is_alive, started)))
        assert pool.submit(abs, -1).result(GUARD) == 1


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_programs_are_left_alone(method: str) -> None:
    """What the program itself has started, and what calls of another pool have, goes on."""
    own = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with Gate() as gate, Gate() as closed, ProcessPool(1, method) as other, ProcessPool(1, method) as pool:
            others = other.submit(start_program, gate.address)
            (worker,) = gate.wait_begun()
            (program,) = psutil.Process(worker).children()
            _, starter = pool.submit(start_program).result(GUARD)
            running = pool.submit(pass_gate, closed.address)
            closed.wait_begun()
            os.kill(starter, signal.SIGKILL)
            assert isinstance(running.exception(GUARD), WorkerLostError)
            assert pool.submit(abs, -1).result(GUARD) == 1
            assert own.poll() is None
            assert program.is_running()
            gate.open()
            assert others.result(GUARD)[0] == program.pid
    finally:
        own.kill()
        own.wait()


def test_this_process_has_no_mark() -> None:
    """The environment of the program is as it was."""
    with ProcessPool(1) as pool:
        pool.submit(abs, -1).result(GUARD)
        assert VARIABLE not in os.environ
