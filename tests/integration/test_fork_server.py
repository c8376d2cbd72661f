"""The processes that start workers: bad requests, deaths and hangs, in any order."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pickle
import random
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import resource_tracker
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._child.worker import Inheritance
from amltk.scheduling.executors.process_pool._io import link
from amltk.scheduling.executors.process_pool._io.link import Link
from amltk.scheduling.executors.process_pool._state.dispatcher import WorkerSlot
from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding
from amltk.scheduling.executors.process_pool._workers import by_fork, server_process, start_problems, starts
from amltk.scheduling.executors.process_pool._workers.by_fork_server import WORKER, ForkServer
from amltk.scheduling.executors.process_pool._workers.fork_server import server, warm_processes
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import (
    Kind,
    Message,
    Preload,
    Receiver,
    send,
)
from amltk.scheduling.executors.process_pool._workers.starters import make_starter
from amltk.scheduling.executors.process_pool.options import Surroundings
from tests.helpers.gate import GUARD, Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

METHODS = ["forkserver", "spawn", "fork"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: only Linux has subreapers and /proc")


def wait_until(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain until {what}"
        time.sleep(0.001)


def status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "gone"


def has_ended(pid: int) -> bool:
    return status(pid) in {"gone", psutil.STATUS_ZOMBIE}


def stop(pid: int) -> None:
    """Stop a process until it is sent SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: status(pid) == psutil.STATUS_STOPPED, f"{pid} is stopped")


def system_call(pid: int) -> str:
    """Return the system call that a process waits in."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().partition(" ")[0].strip()


def is_at_its_end(sock: socket.socket) -> bool:
    """Return whether the other end of a connection is closed."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


class Served:
    """A starter of workers without a pool; the workers wait for their first message.

    Attributes:
        told: All messages that it has sent.
    """

    def __init__(self, method: str, forwarding: Forwarding) -> None:
        self.starter: Any = make_starter(method, Surroundings(None, {}, forwarding.descriptor, -1), ())
        self.told: list[Message] = []
        self.links: dict[int, Link] = {}

    @property
    def pid(self) -> int:
        """The pid of the fork server."""
        return int(self.starter._process._process.pid)

    def start(self, number: int) -> Link:
        """Request a worker."""
        self.links[number] = Link(WorkerSlot(number))
        self.starter.start(self.links[number], ())
        self.links[number].close_theirs()
        return self.links[number]

    def start_with(self, number: int, *descriptors: int) -> None:
        """Request a worker with the wrong descriptors; they belong to this process, which keeps them."""
        payload = b""
        if self.starter._spawns:
            command = server_process.command(sys.executable, WORKER, "run")
            payload = pickle.dumps((command, dict(os.environ)))
        send(self.starter.control, Message(Kind.START, number, payload=payload), descriptors)

    def close(self) -> None:
        """Close it, once."""
        if not self.starter.control._closed:
            self.starter.close()

    def find(self, kind: int, number: int) -> list[Message]:
        return [message for message in self.told if message[:2] == (kind, number)]

    def wait(self, kind: int, *numbers: int) -> list[int]:
        """Wait until such a message has arrived for each of these workers; return the values."""
        give_up = time.monotonic() + GUARD
        while not all(self.find(kind, number) for number in numbers):
            ready, _, _ = select.select([self.starter.control], [], [], max(0.0, give_up - time.monotonic()))
            assert ready, f"waited in vain for {kind} of {numbers}: {self.told}"
            self.told += self.starter.reports()
        return [self.find(kind, number)[0].value for number in numbers]

    def warm_process(self) -> int:
        """The child of the fork server that is not a worker."""
        workers = {message.value for message in self.told if message.kind == Kind.STARTED}
        (pid,) = {child.pid for child in psutil.Process(self.pid).children() if not has_ended(child.pid)} - workers
        return pid


@pytest.fixture
def serve() -> Iterator[Callable[[str], Served]]:
    """A factory of starters; they and their workers are ended afterwards."""
    with contextlib.ExitStack() as stack:

        def serve(method: str = "forkserver") -> Served:
            forwarding = Forwarding()
            stack.callback(forwarding.close)
            served = Served(method, forwarding)
            stack.callback(served.close)
            stack.callback(lambda: [one.close() for one in served.links.values()])
            return served

        yield serve


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_module(folder: Path, name: str, text: str = "X = 1\n") -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


def work(value: Any) -> Any:
    return value


def imported(*names: str) -> list[str]:
    """Return which modules a worker has before the call itself imports any."""
    return [name for name in names if name in sys.modules]


# ---------------------------------------------------------------------------------------------------- what is asked for


def test_descriptors_stay_with_their_message() -> None:
    """Descriptors arrive with their message, however large the messages are and however many are received at once."""
    sizes = (0, 1 << 18, 1 << 18, 100, 0, 1 << 17, 1 << 18, 0)
    counts = (0, 2, 2, 1, 2, 0, 1, 2)
    ours, theirs = socket.socketpair()
    pipes = [os.pipe() for count in counts for _ in range(count)]
    expected = [os.fstat(reader).st_ino for reader, _ in pipes]

    def send_all() -> None:
        readers = iter(reader for reader, _ in pipes)
        for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
            send(theirs, Message(Kind.START, number, payload=bytes(size)), [next(readers) for _ in range(count)])
        theirs.close()

    sender = threading.Thread(target=send_all)
    sender.start()
    receiver, received = Receiver(ours), []
    with contextlib.suppress(EOFError):
        while True:
            received += receiver.receive()
    sender.join()
    found = [os.fstat(descriptor).st_ino for _, descriptors in received for descriptor in descriptors]
    for descriptor in [*(one for _, some in received for one in some), *(one for pipe in pipes for one in pipe)]:
        os.close(descriptor)
    ours.close()
    assert [(len(message.payload), len(descriptors)) for message, descriptors in received] == [
        *zip(sizes, counts, strict=True)
    ]
    assert found == expected


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_workers_begin_with_may_be_large(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workers are requested at once, with more variables and arguments than a connection takes in one write."""
    monkeypatch.setenv("LARGE", "x" * 100_000)
    monkeypatch.setattr(sys, "argv", [*sys.argv, "y" * 100_000])
    with Gate() as gate, ProcessPool(3, method) as pool:
        calls = [pool.submit(pass_gate, gate.address, n) for n in range(3)]
        assert len(set(gate.wait_begun(3))) == 3
        gate.open()
        assert [call.result(GUARD) for call in calls] == [0, 1, 2]


@pytest.mark.parametrize("how", ["forkserver", "spawn", "warm"])
def test_a_bad_request_of_a_batch_costs_only_itself(how: str, folder: Path, serve: Callable[[str], Served]) -> None:
    """A worker whose descriptors are missing, closed or of the wrong kind is reported; the others start."""
    served = serve("spawn" if how == "spawn" else "forkserver")
    reader, writer = os.pipe()
    if how == "warm":
        add_module(folder, "plain")
        served.starter.preload(["plain"])
        served.start(9)
        served.wait(Kind.STARTED, 9)
    stop(served.pid)
    served.start(1)
    served.start_with(2, reader)
    with pytest.raises(OSError, match="descriptor"):
        served.start_with(3, reader, 1 << 20)
    served.start_with(4, reader, writer)
    served.start(5)
    os.kill(served.pid, signal.SIGCONT)
    assert served.wait(Kind.FAILED, 2) == [errno.EMFILE]
    assert served.wait(Kind.ENDED, 4) == [1]
    one, other = served.wait(Kind.STARTED, 1, 5)
    assert not has_ended(one)
    assert not has_ended(other)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("fit", [True, False])
def test_a_process_has_the_connection_of_no_other_worker(fit: bool, folder: Path, serve: Callable[..., Served]) -> None:
    """Neither a worker nor the preloading process holds another worker's connection, so that every end is noticed."""
    add_module(folder, "module", "X = 1\n" if fit else "import os\nPIPE = os.pipe()\n")
    served = serve()
    stop(served.pid)
    served.starter.preload(["module"])
    for number in (1, 2, 3):
        served.start(number)
    os.kill(served.pid, signal.SIGCONT)
    pids = served.wait(Kind.STARTED, 1, 2, 3)
    for number in (3, 1, 2):  # the others go on, those forked earlier and later
        assert not is_at_its_end(served.links[number].frames)
        os.kill(pids[number - 1], signal.SIGKILL)
        served.wait(Kind.ENDED, number)
        frames = served.links[number].frames
        wait_until(lambda frames=frames: is_at_its_end(frames), "nobody has the other end")


@pytest.mark.parametrize("how", ["blocked", "ignored"])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_program_does_with_sigchld(method: str, how: str) -> None:
    """SIGCHLD blocked or ignored in the program is neither in the workers, and their ends are noticed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD] if how == "blocked" else [])
    handler = signal.signal(signal.SIGCHLD, signal.SIG_IGN) if how == "ignored" else signal.getsignal(signal.SIGCHLD)
    try:
        with ProcessPool(1, method) as pool:
            lost = pool.submit(os._exit, 3).exception(GUARD)
            assert isinstance(lost, WorkerLostError)
            assert lost.exit_code == 3
            assert pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result(GUARD) == set()
            assert pool.submit(signal.getsignal, signal.SIGCHLD).result(GUARD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ------------------------------------------------------------------------------------------------- what dies, or hangs


def test_what_was_forgotten_is_not_heard_any_more(folder: Path, serve: Callable[..., Served]) -> None:
    """The process to be replaced dies just as its replacement reports that it is ready."""
    add_module(folder, "plain")
    add_module(folder, "waits", "open('begun', 'w').close()\nopen('go').read()\n")
    os.mkfifo(folder / "go")
    served = serve()
    served.starter.preload(["plain"])
    served.start(1)
    served.wait(Kind.STARTED, 1)
    old = served.warm_process()
    served.starter.preload(["waits"])
    wait_until((folder / "begun").exists, "the other one imports")
    worker = served.find(Kind.STARTED, 1)[0].value
    (new,) = {child.pid for child in psutil.Process(served.pid).children()} - {old, worker}
    stop(served.pid)
    wait_until(lambda: status(new) == psutil.STATUS_SLEEPING, "the other one waits")
    before = system_call(new)
    with open("go", "w"):
        pass
    wait_until(lambda: system_call(new) not in {before, "running", "-1"} and status(new) == "sleeping", "it is ready")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: has_ended(old), "the old one has ended")
    os.kill(served.pid, signal.SIGCONT)
    served.start(2)
    served.wait(Kind.STARTED, 2)


@pytest.mark.parametrize("how", ["dies", "dies, with others behind", "hangs"])
def test_another_process_takes_over_when_the_one_that_has_imported_ends(
    how: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests are made again; no call is lost, and workers have the imports as before."""
    for module in (link, start_problems):
        monkeypatch.setattr(module, "SLOW_START_SECONDS", 0.2)
    monkeypatch.setattr(start_problems, "HANGING_START_SECONDS", 1.0 if how == "hangs" else GUARD)
    monkeypatch.setattr(start_problems, "HANGING_START_RATIO", 1.0 if how == "hangs" else GUARD)
    add_module(folder, "counted", "with open('imports', 'a') as file: print('imported', file=file)\n")
    with Gate() as gate, ProcessPool(2, preload=["counted"]) as pool:
        first = pool.submit(pass_gate, gate.address, "first")
        (pid,) = gate.wait_begun(1)
        parent = psutil.Process(pid).ppid()
        (warm,) = {child.pid for child in psutil.Process(parent).children()} - {pid}
        stop(warm)
        second = pool.submit(imported, "counted")
        if how != "hangs":
            wait_until(lambda: len(pool._engine._io.links) == 2, "another worker is asked for")
            os.kill(warm, signal.SIGKILL)
        if how == "dies, with others behind":
            wait_until(lambda: has_ended(warm), "it has ended")
        assert second.result(GUARD) == ["counted"]
        assert psutil.Process(pid).ppid() == parent
        assert has_ended(warm)
        gate.open()
        assert first.result(GUARD) == "first"
    assert len((folder / "imports").read_text().split()) == 2


def test_nothing_is_imported_again_for_nobody(folder: Path, serve: Callable[..., Served]) -> None:
    """If the preloading process dies while no worker is requested, as at a pool's end, nothing is imported again."""
    add_module(folder, "plain")
    served = serve()
    served.starter.preload(["plain"])
    served.start(1)
    (worker,) = served.wait(Kind.STARTED, 1)
    stop(served.warm_process())
    served.start(2)
    served.starter.abandon(2)
    assert served.wait(Kind.FAILED, 2) == [0]
    served.start_with(3)
    served.wait(Kind.FAILED, 3)
    assert [child.pid for child in psutil.Process(served.pid).children()] == [worker]
    served.start(4)
    served.wait(Kind.STARTED, 4)
    assert not has_ended(served.warm_process())


def test_copies_that_end_at_once_are_given_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If a module ends each copy of the preloading process, workers do without it, and the log says why."""
    add_module(folder, "ends_copies", "import os\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n")
    with ProcessPool(2, preload=["ends_copies"]) as pool:
        assert [pool.submit(work, n).result(GUARD) for n in range(5)] == list(range(5))
        assert pool.submit(imported, "ends_copies").result(GUARD) == []
        wait_until(lambda: bool(caplog.records), "it is logged")
    (told,) = [record.getMessage() for record in caplog.records]
    assert "ends_copies" in told
    assert "copies of the process that has imported it end at once" in told


def test_a_module_has_its_own_ideas_of_sigchld(folder: Path) -> None:
    """A SIGCHLD handler that the module sets for its own children is not called for workers."""
    add_module(
        folder,
        "handles",
        """
        import signal

        with open("imports", "a") as file:
            print("imported", file=file)
        signal.signal(signal.SIGCHLD, lambda *_: 1 / 0)
        """,
    )
    with ProcessPool(1, preload=["handles"], max_tasks_per_child=1) as pool:
        assert [pool.submit(imported, "handles").result(GUARD) for _ in range(2)] == [["handles"]] * 2
    assert (folder / "imports").read_text().split() == ["imported"]  # the process that has imported it goes on


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_killed_fork_server_costs(method: str) -> None:
    """It costs the calls that its workers were running; waiting calls are computed by a new server's workers."""
    with Gate() as gate, ProcessPool(2, method) as pool:
        calls = [pool.submit(pass_gate, gate.address, n) for n in range(4)]
        pids = gate.wait_begun(2)
        os.kill(psutil.Process(pids[0]).ppid(), signal.SIGKILL)
        wait_until(lambda: all(map(has_ended, pids)), "the workers have ended with it")
        gate.open()
        outcomes = [call.exception(GUARD) for call in calls]
        assert [type(outcome) for outcome in outcomes] == [WorkerLostError] * 2 + [type(None)] * 2
        assert {outcome.pid for outcome in outcomes[:2] if isinstance(outcome, WorkerLostError)} == set(pids)


def test_a_fork_server_that_hangs_is_ended_with_its_pool(
    monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Served]
) -> None:
    """A fork server that does not answer is killed, and its workers end with it."""
    monkeypatch.setattr(server_process, "END_SECONDS", 0.2)
    served = serve()
    served.start(1)
    (worker,) = served.wait(Kind.STARTED, 1)
    stop(served.pid)
    served.close()
    assert has_ended(served.pid)
    wait_until(lambda: has_ended(worker), "the worker has ended")


@pytest.mark.parametrize("how", ["the fork server", "the warm process"])
def test_a_call_that_had_begun_before_its_worker_was_told_of_is_lost_once(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starter is killed before it can report the worker, which already runs a call and then ends."""
    hear = ForkServer.reports

    def hear_nothing_of_the_first(self: ForkServer) -> list[Message]:
        found = hear(self)
        others = [message for message in found if message.number != 1]
        has_failed = how == "the warm process" and Message(Kind.ENDED, 1, -signal.SIGKILL) in found
        return [*others, Message(Kind.FAILED, 1)] if has_failed else others

    monkeypatch.setattr(ForkServer, "reports", hear_nothing_of_the_first)
    scheduler = Scheduler.with_processes(1)
    endings: list[Any] = []
    scheduler.on_future_exception(lambda _, error: endings.append(error))
    scheduler.on_future_result(lambda _, result: endings.append(result))
    with Gate() as gate:

        def kill() -> None:
            (worker,) = gate.pids
            os.kill(psutil.Process(worker).ppid() if how == "the fork server" else worker, signal.SIGKILL)

        gate.when_begun(1, kill)
        gate.when_begun(2, gate.open)
        scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address, n) for n in range(2)])
        assert scheduler.run(on_exception="continue", display=False).code == ExitState.Code.EXHAUSTED
        lost, second = endings
        assert isinstance(lost, WorkerLostError)
        assert lost.pid == gate.pids[0]
        assert second == 1


# ------------------------------------------------------------------------------------------------------ in which order


@pytest.mark.parametrize("how", ["forkserver", "spawn", "warm", "fork"])
def test_workers_are_told_of_in_whichever_order_they_end(how: str, folder: Path, serve: Callable[..., Served]) -> None:
    """Each end is reported once with its own exit code, even if many have ended by the time they are checked."""
    numbers = list(range(1, 4 if how == "spawn" else 9))
    served = serve("forkserver" if how == "warm" else how)
    if how == "warm":
        add_module(folder, "plain")
        served.starter.preload(["plain"])
    for number in numbers:
        served.start(number)
    pids = dict(zip(numbers, served.wait(Kind.STARTED, *numbers), strict=True))
    signals = dict(zip(numbers, [signal.SIGKILL, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF] * 2, strict=False))
    if how != "fork":
        stop(served.pid)
    for number in random.Random(3).sample(numbers, len(numbers)):
        os.kill(pids[number], signals[number])
    if how != "fork":
        wait_until(lambda: all(map(has_ended, pids.values())), "they have ended")
        os.kill(served.pid, signal.SIGCONT)
    assert served.wait(Kind.ENDED, *numbers) == [-signals[number] for number in numbers]
    assert all(len(served.find(Kind.ENDED, number)) == 1 for number in numbers)


@pytest.mark.parametrize("how", ["forkserver", "warm", "fork"])
def test_a_worker_that_ends_at_once_is_told_of(how: str, folder: Path, serve: Callable[..., Served]) -> None:
    """Its start is reported, and then its end."""
    served = serve("forkserver" if how == "warm" else how)
    if how == "warm":
        add_module(folder, "plain")
        served.starter.preload(["plain"])
    for number in range(1, 9):
        served.start(number).frames.close()
    served.wait(Kind.ENDED, *range(1, 9))
    for number in range(1, 9):
        assert [message.kind for message in served.told if message.number == number] == [Kind.STARTED, Kind.ENDED]


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[server.Server, Receiver]]:
    """A fork server that is not running, and what it reports; this process does not become one."""
    monkeypatch.setattr(server, "become_subreaper", lambda: True)
    monkeypatch.setattr(server, "children", list)
    ours, theirs = socket.socketpair()
    served = server.Server(theirs, os.getpid(), Inheritance(os.getpid(), 0, is_copy=False), -1)
    yield served, Receiver(ours)
    served._selector.close()
    ours.close()
    theirs.close()


@pytest.fixture
def reader() -> Iterator[socket.socket]:
    """The socket that wakes the server."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours


def test_a_worker_that_has_ended_when_it_is_told_of(
    own_server: tuple[server.Server, Receiver], reader: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the warm process reports a start while ends are being collected, the end is still reported."""
    served, told = own_server
    warming = served._warm._base = warm_processes.WarmProcess(())

    def end() -> Iterator[tuple[int, int]]:
        send(warming.theirs, Message(Kind.STARTED, 7, 4242))
        yield 4242, 3

    monkeypatch.setattr(server, "ended_children", end)
    served._note_ends(reader)
    found = [message for message, _ in told.receive()]
    warming.connection.close()
    warming.theirs.close()
    assert found == [Message(Kind.STARTED, 7, 4242), Message(Kind.ENDED, 7, 3)]


@pytest.mark.parametrize("is_unfit", [True, False])
def test_a_warm_process_that_has_ended_is_heard_out(is_unfit: bool, own_server: tuple[server.Server, Receiver]) -> None:
    """A worker is requested before its end is noticed: if it has said that none is fit, no other one is started."""
    served, told = own_server
    served._warm.want(Preload(("wave",), [], [], "", None))  # type: ignore[arg-type]
    warming = served._warm._base = warm_processes.WarmProcess(("wave",))
    warming.ready, warming.importing, warming.asked = True, "wave", {1, 2}
    send(warming.theirs, Message(Kind.FAILED, 1))
    if is_unfit:
        send(warming.theirs, Message(Kind.UNFIT, payload=b"copies of it end"))
    warming.theirs.close()
    with pytest.raises(ConnectionError):
        served._warm.fork(3, [])
    unfit = [Message(Kind.UNFIT, payload=pickle.dumps(("wave", "copies of it end")))] if is_unfit else []
    assert [message for message, _ in told.receive()] == [Message(Kind.FAILED, 1), Message(Kind.FAILED, 2), *unfit]
    assert served._warm.is_missing is not is_unfit


@pytest.mark.parametrize("asked", [set(), {1}], ids=["idle", "busy"])
def test_a_warm_process_that_cannot_be_asked_is_dropped_when_it_has_reported(
    asked: set[int], own_server: tuple[server.Server, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system has no room for a request, what was requested before is still reported."""
    served, told = own_server
    warming = served._warm._base = warm_processes.WarmProcess(())
    warming.ready, warming.asked = True, asked
    served.listen(warming.connection, lambda: None)
    Once(warm_processes, "send", number=errno.ENOBUFS).patch(monkeypatch)
    with pytest.raises(ConnectionError):
        served._warm.fork(2, [])
    if asked:
        assert list(served._warm) == [warming]
        send(warming.theirs, Message(Kind.STARTED, 1, 4242))
        served._warm.receive()
        assert [message for message, _ in told.receive()] == [Message(Kind.STARTED, 1, 4242)]
    assert list(served._warm) == []
    assert warming.connection.fileno() < 0


# ------------------------------------------------------------------------------------------------------------ as copies


def test_a_warm_process_that_has_ended_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pid is not known any more, and 0 would stand for the fork server itself and its group."""
    killed: list[int] = []
    monkeypatch.setattr(warm_processes, "kill", killed.append)
    server_itself: Any = None
    warm = warm_processes.WarmProcesses(server_itself, Inheritance(0, 0, is_copy=False), is_possible=True)
    warming = warm._base = warm_processes.WarmProcess(())
    with warming.connection, warming.theirs:
        warming.pid = 7
        warming.asked.add(1)
        warm.abandon(1)
        assert killed == [7]
        warm.note_ended({7})
        warm.abandon(1)
        assert killed == [7]


def test_what_starts_copies_ends_them(serve: Callable[[str], Served], monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends them at once, whatever they are doing: it does not wait for a hanging worker or its supervisor."""
    monkeypatch.setattr(by_fork, "END_SECONDS", GUARD)
    served = serve("fork")
    served.start(1)
    (worker,) = served.wait(Kind.STARTED, 1)
    supervisor = psutil.Process(worker).ppid()
    stop(worker)
    began = time.monotonic()
    served.close()
    assert time.monotonic() - began < GUARD
    assert has_ended(worker)
    assert has_ended(supervisor)


def test_a_supervisor_that_hangs_is_killed(serve: Callable[[str], Served], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker ends with it."""
    monkeypatch.setattr(by_fork, "END_SECONDS", 0.1)
    served = serve("fork")
    served.start(1)
    (worker,) = served.wait(Kind.STARTED, 1)
    supervisor = psutil.Process(worker).ppid()
    stop(supervisor)
    served.close()
    assert has_ended(supervisor)
    wait_until(lambda: has_ended(worker), "the worker has ended")


def test_supervisors_that_hang_are_waited_for_together(
    serve: Callable[[str], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, the pool waits no longer than for one."""
    served = serve("fork")
    for number in (1, 2, 3):
        served.start(number)
    for worker in served.wait(Kind.STARTED, 1, 2, 3):
        stop(psutil.Process(worker).ppid())
    steps: list[int] = []  # a pid for each time that one is killed, 0 for a second on the clock
    pause, kill = time.sleep, os.kill
    clock = SimpleNamespace(monotonic=lambda: steps.count(0), sleep=lambda _: (steps.append(0), pause(0.001)))
    monkeypatch.setattr(by_fork, "time", clock)
    monkeypatch.setattr(os, "kill", lambda pid, signum: (steps.append(pid), kill(pid, signum)))
    served.close()
    first = next(n for n, step in enumerate(steps) if step)
    assert first > by_fork.END_SECONDS
    assert len({*steps} - {0}) == 3
    assert (0, 0) not in itertools.pairwise(steps[first:])


def test_a_supervisor_has_no_connection_of_the_pool(serve: Callable[[str], Served]) -> None:
    """A worker ends when the pool closes its connection, since no other process holds it."""
    served = serve("fork")
    given_up = served.start(1)
    served.wait(Kind.STARTED, 1)
    given_up.frames.close()
    assert served.wait(Kind.ENDED, 1) == [0]


def start_child_and_pass(address: tuple[str, int], path: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    with open(path, "w") as file:
        file.write(str(child.pid))
    pass_gate(address)


def test_what_a_killed_supervisor_costs(tmp_path: Path) -> None:
    """It costs the call its worker was running, reported once; processes that the call started are ended."""
    path = tmp_path / "child"
    with Gate() as gate, ProcessPool(1, "fork") as pool:
        call = pool.submit(start_child_and_pass, gate.address, str(path))
        told: list[object] = []
        call.add_done_callback(told.append)
        (worker,) = gate.wait_begun(1)
        os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)
        lost = call.exception(GUARD)
        assert isinstance(lost, WorkerLostError)
        assert lost.pid == worker
        assert pool.submit(work, 1).result(GUARD) == 1
        assert len(told) == 1
    wait_until(lambda: has_ended(int(path.read_text())), "the child has ended")


# ---------------------------------------------------------------------------------------------------- what runs out


class Once:
    """Stands in for a function of a module: one call raises; calls of other threads are not counted.

    Args:
        module: The module that has the function.
        name: The function's name.
        at: Which call raises; the first one is 1.
        number: The `errno` of the error raised.
    """

    def __init__(self, module: Any, name: str, at: int = 1, number: int = errno.EMFILE) -> None:
        self.name = name
        self._module = module
        self._calls = 0
        self._at = at
        self._number = number

    @property
    def has_failed(self) -> bool:
        return self._calls >= self._at

    def patch(self, monkeypatch: pytest.MonkeyPatch, pool: ProcessPool | None = None) -> None:
        """Install it; if a pool is given, only the calls of its thread count."""
        original = getattr(self._module, self.name)

        def fail(*args: Any, **options: Any) -> Any:
            if pool is None or threading.current_thread().name == "amltk-process-pool":
                self._calls += 1
                if self._calls == self._at:
                    raise OSError(self._number, os.strerror(self._number))
            return original(*args, **options)

        monkeypatch.setattr(self._module, self.name, fail)


def test_whatever_runs_out_while_a_worker_is_started_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failing step is retried in turn; no descriptor leaks, no worker starts twice, and the call is computed."""
    monkeypatch.setattr(start_problems, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(start_problems, "LAST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(start_problems, "MAX_SHORTAGES", 9)
    monkeypatch.setattr(resource_tracker._resource_tracker, "_fd", None)  # type: ignore[attr-defined]
    with ProcessPool(1) as pool:
        failing = [
            Once(os, "pipe"),  # for what workers send to the resource tracker
            Once(socket, "socketpair"),  # the connection of the fork server
            Once(subprocess, "Popen"),
            Once(os, "pipe", at=4),  # the tokens of a worker; the third one is that of `Popen`
            Once(os, "open", at=2),  # our end of them; likewise
            Once(socket, "socketpair", at=4),  # the connection of a worker
            Once(socket, "send_fds", number=errno.EBADF),
        ]
        for one in failing:
            one.patch(monkeypatch, pool)
        assert pool.submit(work, 1).result(GUARD) == 1
        monkeypatch.undo()
        assert all(one.has_failed for one in failing), [one.name for one in failing if not one.has_failed]
        assert len(pool.worker_pids) == 1


class Scarce:
    """An initializer's argument that needs a descriptor when it is pickled, and gets none the second time."""

    pickled = 0

    def __reduce__(self) -> Any:
        Scarce.pickled += 1
        if Scarce.pickled == 2:  # the first time is the check of the arguments
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return work, (1,)


@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_an_initializer_that_cannot_be_sent_now_is_sent_later(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is not started before its initializer can be sent."""
    monkeypatch.setattr(start_problems, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(Scarce, "pickled", 0)
    started: list[Link] = []

    def make(*args: Any) -> Any:
        starter: Any = make_starter(*args)
        start = starter.start

        def start_and_note(link: Link, others: Any) -> None:
            started.append(link)
            start(link, others)

        starter.start = start_and_note
        return starter

    monkeypatch.setattr(starts, "make_starter", make)
    with ProcessPool(1, method, work, (Scarce(),)) as pool:
        assert pool.submit(work, 2).result(GUARD) == 2
        assert Scarce.pickled == 3
        assert len(started) == 1
        assert len(pool.worker_pids) == 1


def test_without_a_connection_to_it_there_is_no_warm_process(
    own_server: tuple[server.Server, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the fork server has no descriptor for the connection, workers are forked without a warm process."""
    served, _ = own_server
    processes = warm_processes.WarmProcesses(served, Inheritance(os.getpid(), 0, is_copy=False), is_possible=True)
    Once(warm_processes.socket, "socketpair").patch(monkeypatch)
    processes.want(Preload(("wave",), [], [], "", None))  # type: ignore[arg-type]
    processes.start_next()
    assert list(processes) == []


def test_strays_are_looked_for_again(
    own_server: tuple[server.Server, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork server retries when it had no descriptor to list its children with."""
    served, _ = own_server
    Once(server, "children").patch(monkeypatch)
    served._end_strays()
    assert served._strays_left
    served._end_strays()
    assert not served._strays_left


@pytest.mark.parametrize("failing", ["getfd", "write"])
def test_what_workers_tell_the_resource_tracker_waits_for_it(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the tracker cannot be started or written to, lines wait; all arrive in order, once, including the last."""
    monkeypatch.setattr(resource_tracker._resource_tracker, "_fd", None)  # type: ignore[attr-defined]
    reader, writer = os.pipe()
    forwarding = Forwarding()
    lines = [b"REGISTER:a:shared_memory", b"PROBE:0:noop", b"REGISTER:b:shared_memory", b"UNREGISTER:a:shared_memory"]
    first, last = b"\n".join(lines)[:-5], lines[-1][-5:] + b"\n"
    os.write(forwarding.descriptor, first)
    with monkeypatch.context() as patch:
        patch.setattr(resource_tracker, "getfd", lambda: writer)
        Once(resource_tracker if failing == "getfd" else os, failing, at=2, number=errno.EAGAIN).patch(patch)
        forwarding.forward()
        assert select.select([reader], [], [], 0)[0]
    os.write(forwarding.descriptor, last)
    with monkeypatch.context() as patch:
        patch.setattr(resource_tracker, "getfd", lambda: writer)
        Once(resource_tracker, "getfd", number=errno.EAGAIN).patch(patch)
        forwarding.forward()
        forwarding.close()  # nothing more has arrived, and yet there is something to send
    os.close(writer)
    with open(reader, "rb") as told:
        assert told.read().split(b"\n") == [lines[0], lines[2], lines[3], b""]


# -------------------------------------------------------------------------------------------------------- what is fit

UNFIT = {
    "a file that it reads": ("TABLE = open(__file__)", "a file whose position all copies would share"),
    "a temporary folder": (
        "import tempfile\nFOLDER = tempfile.TemporaryDirectory(dir='.')",
        "something that is removed when the process ends",
    ),
    "a lock of multiprocessing": ("import multiprocessing\nLOCK = multiprocessing.Lock()", "it made a lock"),
    "a thread of a library": (
        """
        import ctypes
        libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
        assert libc.pthread_create(ctypes.byref(thread), None, libc.pause, None) == 0
        """,
        "it started a thread that Python does not know",
    ),
}
"""What a module does at import, and what the log says about it; `test_preload` has more."""


@pytest.mark.parametrize("kind", UNFIT)
def test_no_worker_is_a_copy_of_what_forks_badly(kind: str, folder: Path, serve: Callable[..., Served]) -> None:
    """The module and the reason are reported once; workers have only what forks safely, and nothing is left."""
    text, reason = UNFIT[kind]
    note = "import os\nwith open('imports', 'a') as file: print(os.getpid(), __name__, file=file)\n"
    add_module(folder, "fit", f"{note}if os.path.exists('go'): open('go').read()\n")
    add_module(folder, "unfit", note + textwrap.dedent(text))
    os.mkfifo("go")
    served = serve()
    served.starter.preload(["fit", "unfit"])
    served.start(1)
    served.start(2)
    served.start_with(3)
    served.wait(Kind.FAILED, 3)  # it has received the other requests, too
    with open("go", "w"):
        os.unlink("go")
    served.wait(Kind.STARTED, 1, 2)
    lost, *imports = (folder / "imports").read_text().split()
    assert imports == ["fit", lost, "unfit", str(served.warm_process()), "fit"]
    assert has_ended(int(lost))
    assert not [name for name in os.listdir() if name.startswith("tmp")]
    (told,) = served.find(Kind.UNFIT, 0)
    module, why = pickle.loads(told.payload)
    assert module == "unfit"
    assert reason in why


def test_a_thread_that_its_library_restarts_after_a_fork_is_fit(folder: Path, serve: Callable[..., Served]) -> None:
    """Workers fork from a process that has imported pyarrow or pandas, although jemalloc runs a thread there."""
    _, (source, _) = list(UNFIT.items())[-1]
    name = "assert libc.pthread_setname_np(thread, b'jemalloc_bg_thd') == 0\n"
    note = "import os\nwith open('imports', 'a') as file: print(os.getpid(), file=file)\n"
    add_module(folder, "fit", note + textwrap.dedent(source) + name)
    served = serve()
    served.starter.preload(["fit"])
    served.start(1)
    served.wait(Kind.STARTED, 1)
    assert (folder / "imports").read_text().split() == [str(served.warm_process())]
    assert not served.find(Kind.UNFIT, 0)


def test_what_is_unfit_ends_by_itself_where_nobody_needs_it(folder: Path, serve: Callable[..., Served]) -> None:
    """Its temporary folder is removed with it."""
    add_module(folder, "unfit", "import tempfile\nFOLDER = tempfile.TemporaryDirectory(dir='.', prefix='temporary-')\n")
    served = serve()
    served.starter.preload(["unfit"])
    served.wait(Kind.UNFIT, 0)
    wait_until(lambda: not psutil.Process(served.pid).children(), "it has ended")
    assert not list(folder.glob("temporary-*"))
