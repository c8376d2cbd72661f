"""Shared memory lives until the program is done with it, whichever workers have used it."""

from __future__ import annotations

import errno
import os
import signal
import sys
import textwrap
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding, inherit
from tests.chaos.siege import command
from tests.helpers.gate import GUARD
from tests.helpers.script import Script, run_script
from tests.helpers.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ["forkserver", "spawn", "fork"]

USE = """
    import multiprocessing, os, sys, time
    from multiprocessing import resource_tracker, shared_memory
    from amltk.scheduling import Scheduler

    METHOD = sys.argv[1]

    def block_of(n):
        block = shared_memory.SharedMemory(create=True, size=8)
        block.buf[:8] = bytes(range(8))
        return block

    def total(name):
        block = shared_memory.SharedMemory(name=name)
        try:
            return sum(block.buf[:8])
        finally:
            block.close()

    def make(n=8):
        block = block_of(n)
        block.close()
        return block.name

    def in_a_child(name):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(total, [name])[0]

    def with_lock():
        lock = multiprocessing.get_context("spawn").Lock()
        with lock:
            return 1

    def run(function, *arguments, n=1, **options):
        told = []
        scheduler = Scheduler.with_processes(2, mp_context=METHOD, **options)
        scheduler.on_start(lambda: [scheduler.submit(function, *arguments) for _ in range(n)])
        scheduler.on_future_result(lambda future, result: told.append(result))
        scheduler.run()
        return told

    def has_tracker():
        return resource_tracker._resource_tracker._fd is not None
"""

PROGRAMS = {
    "a block of the driver is used by several workers, in several runs": """
        block = block_of(8)
        for options in ({}, {"max_tasks_per_child": 1}, {}):
            print(run(total, block.name, n=4, **options))
        print(total(block.name))
        block.close()
        block.unlink()
        """,
    "a block is used by a child of a worker": """
        block = block_of(8)
        print(run(in_a_child, block.name), total(block.name))
        block.close()
        block.unlink()
        """,
    "the block of a worker that has ended": """
        (name,) = run(make)
        print(total(name), run(total, name, n=2), has_tracker())
        shared_memory.SharedMemory(name=name).unlink()
        """,
    "many blocks of workers, unlinked as soon as they are told of": """
        names = []
        scheduler = Scheduler.with_processes(2, mp_context=METHOD)
        scheduler.on_start(lambda: [scheduler.submit(make) for _ in range(50)])
        @scheduler.on_future_result
        def unlink(future, name):
            names.append(name)
            block = shared_memory.SharedMemory(name=name)
            block.close()
            block.unlink()
        scheduler.run()
        print(len(set(names)))
        """,
    "a lock": "print(run(with_lock, n=2))",
    "nothing": "print(run(os.getpid, n=2) != [], has_tracker())",
}

EXPECTED = {
    "a block of the driver is used by several workers, in several runs": ["[28, 28, 28, 28]"] * 3 + ["28"],
    "a block is used by a child of a worker": ["[28] 28"],
    "the block of a worker that has ended": ["28 [28, 28] True"],
    "many blocks of workers, unlinked as soon as they are told of": ["50"],
    "a lock": ["[1, 1]"],
    "nothing": ["True False"],
}


@pytest.mark.parametrize("what", PROGRAMS)
@pytest.mark.parametrize("method", METHODS)
def test_blocks_outlive_workers(method: str, what: str) -> None:
    """Workers and their children share the driver's resource tracker; nothing is lost, and there are no warnings.

    A tracker is started only if something is tracked.
    """
    source = USE.replace("sys.argv[1]", repr(method))
    ended = run_script(textwrap.dedent(source) + textwrap.dedent(PROGRAMS[what]))
    assert not ended.errors
    assert ended.lines == EXPECTED[what]
    assert ended.code == 0


def has_tracker(script: Script) -> bool:
    """Whether a resource tracker runs in the session of a script."""
    return any("resource_tracker" in " ".join(command(process)) for process in script.session())


@pytest.mark.skipif(sys.platform != "linux", reason="where shared memory can be seen as files")
@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGQUIT], ids=["closed", "Ctrl-backslash"])
@pytest.mark.parametrize("method", METHODS)
def test_no_block_outlives_a_program_that_its_terminal_has_ended(method: str, signum: signal.Signals) -> None:
    """What the terminal sends to all processes of the program does not kill the tracker, which removes the blocks."""
    source = """
        def make_and_stay():
            block = block_of(8)
            print("made", block._name, flush=True)
            time.sleep(600)

        run(make_and_stay)
        """
    source = textwrap.dedent(USE.replace("sys.argv[1]", repr(method))) + textwrap.dedent(source)
    with Script(source) as script:
        script.wait_for("made")
        wait_for(lambda: has_tracker(script))
        block = Path("/dev/shm", script.lines[-1].split("/")[-1])
        assert block.exists()
        script.send_to_all(signum)
        assert script.end().code == -signum
        wait_for(lambda: not block.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="where shared memory can be seen as files")
@pytest.mark.parametrize("method", METHODS)
def test_no_block_outlives_a_program_that_was_killed_before_it_knew_of_it(method: str) -> None:
    """What workers have registered, and a killed program has not forwarded, is removed all the same."""
    source = """
        from amltk.scheduling.executors import ProcessPool
        from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding, inherit

        def make_and_stay():
            block_of(8).unlink()
            block = block_of(8)
            print("made", block._name, flush=True)
            time.sleep(600)

        Forwarding.forward = lambda self: None  # as if the program were killed before it gets round to it
        ProcessPool(1, METHOD).submit(make_and_stay).result()
        """
    source = textwrap.dedent(USE.replace("sys.argv[1]", repr(method))) + textwrap.dedent(source)
    with Script(source) as script:
        script.wait_for("made")
        block = Path("/dev/shm", script.lines[-1].split("/")[-1])
        assert block.exists()
        assert not has_tracker(script)
        script.send(signal.SIGKILL)
        ended = script.end()
        wait_for(lambda: not block.exists())
    assert "1 leaked shared_memory" in ended.errors
    assert "Traceback" not in ended.errors


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pipe that stands in for the driver's tracker, which runs once it is requested."""
    reader, writer = os.pipe()
    monkeypatch.setattr(resource_tracker._resource_tracker, "_fd", None)
    monkeypatch.setattr(resource_tracker, "getfd", lambda: writer)
    os.set_blocking(reader, False)
    yield lambda: os.read(reader, 1 << 16)
    os.close(reader)
    os.close(writer)


def make_block() -> None:
    block = shared_memory.SharedMemory(create=True, size=8)
    block.close()
    block.unlink()


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_may_start_while_a_thread_uses_the_tracker(method: str) -> None:
    """Such as that of another pool: a copy of the program has the lock that the thread holds, but not the thread."""
    lock: Any = resource_tracker._resource_tracker._lock  # type: ignore[attr-defined]
    pool = ProcessPool(1, method)
    try:
        with lock:
            assert pool.submit(abs, -1).result(GUARD) == 1
        assert pool.submit(make_block).result(GUARD) is None
    finally:
        pool.kill_workers()


@pytest.mark.usefixtures("tracker")
def test_a_driver_that_lives_forwards_itself_what_is_left() -> None:
    """The process that starts workers does not: what is registered is still needed."""
    forwarding = Forwarding()
    os.write(forwarding.descriptor, b"REGISTER:/a:shared_memory\n")
    inherit(forwarding.fileno(), os.getppid())
    assert os.read(forwarding.fileno(), 100) == b"REGISTER:/a:shared_memory\n"
    forwarding.disown()


def test_what_is_left_depends_on_commands_only(tracker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may contain them; since CPython 3.14 lines may be JSON."""
    monkeypatch.setattr(resource_tracker.ResourceTracker, "getfd", lambda _: resource_tracker.getfd())
    forwarding = Forwarding()
    lines = [
        "PROBE:0:noop",
        "REGISTER:/UNREGISTER:shared_memory",
        "REGISTER:/REGISTER:shared_memory",
        "UNREGISTER:/REGISTER:shared_memory",
        '{"cmd":"REGISTER","rtype":"shared_memory","base64_name":"L2E="}',
        '{"cmd":"UNREGISTER","rtype":"shared_memory","base64_name":"L2E="}',
        '{"cmd":"REGISTER","rtype":"semaphore","base64_name":"L2E="}',
    ]
    os.write(forwarding.descriptor, "".join(f"{line}\n" for line in lines).encode())
    inherit(forwarding.fileno(), driver=-1)
    assert tracker().decode().split() == [lines[1], lines[-1]]
    forwarding.disown()


@pytest.mark.parametrize("why", [OSError(errno.EMFILE, "no descriptor"), TypeError("None"), UserWarning("it died")])
def test_a_tracker_that_cannot_be_started_breaks_nothing(why: Exception, tracker: Any, monkeypatch: Any) -> None:
    """Such as that of an embedded interpreter, or one that was killed where warnings are errors."""

    def fail(*_: object) -> int:
        raise why

    forwarding = Forwarding()
    os.write(forwarding.descriptor, b"REGISTER:/a:shared_memory\n")
    with monkeypatch.context() as patch:
        patch.setattr(resource_tracker, "getfd", fail)
        patch.setattr(resource_tracker.ResourceTracker, "getfd", fail)
        forwarding.forward()
        os.write(forwarding.descriptor, b"REGISTER:/b:shared_memory\n")
        inherit(forwarding.fileno(), driver=-1)
    forwarding.close()
    assert tracker() == b"REGISTER:/a:shared_memory\n"


def test_whole_lines_are_forwarded(tracker: Any) -> None:
    """Lines reach the tracker whole and in order, without those that only probe whether it is there."""
    forwarding = Forwarding()
    os.write(forwarding.descriptor, b"PROBE:0:noop\nREGISTER:/PROBE:shared_memory\nREGISTER:/b")
    forwarding.forward()
    assert tracker() == b"REGISTER:/PROBE:shared_memory\n"
    os.write(forwarding.descriptor, b':semaphore\n{"cmd":"PROBE","rtype":"noop"}\n{"cmd":"REGISTER"}\n')
    forwarding.close()
    assert tracker() == b'REGISTER:/b:semaphore\n{"cmd":"REGISTER"}\n'


def test_the_tracker_that_there_is_gets_the_lines_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the driver has a tracker when the pool starts, workers write to it directly, and nothing is forwarded."""
    reader, writer = os.pipe()
    monkeypatch.setattr(resource_tracker._resource_tracker, "_fd", writer)
    forwarding = Forwarding()
    assert forwarding.fileno() == -1
    os.write(forwarding.descriptor, b"REGISTER\n")
    forwarding.close()
    os.close(writer)
    assert os.read(reader, 100) == b"REGISTER\n"
    os.close(reader)


def test_lines_are_forwarded_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool's shutdown removes the pipe between two turns of a loop that may be forwarding."""
    is_between_turns: list[bool] = []

    def replace(worker_io: WorkerIO, forwarding: Forwarding | None) -> None:
        if forwarding is None and vars(worker_io).get("forwarding") is not None:
            is_between_turns.append(pool._engine._exchange.lock._is_owned())
        vars(worker_io)["forwarding"] = forwarding

    monkeypatch.setattr(
        WorkerIO, "forwarding", property(lambda worker_io: vars(worker_io)["forwarding"], replace), raising=False
    )
    with ProcessPool(1) as pool:
        assert pool.submit(abs, -1).result(GUARD) == 1
    assert is_between_turns == [True]
