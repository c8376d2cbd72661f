"""What travels to real workers and back: pipe ends, sockets, exceptions; and what is rejected, with its place."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import RemoteTraceback, WorkerLostError
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._pickling import descriptor_lending
from amltk.scheduling.plugins import Retry
from tests.helpers.gate import GUARD, Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Iterator


METHODS = ("forkserver", "spawn", "fork")

HEAP = multiprocessing.get_context("spawn").RawValue("i", 0)
"""Keeps the arena that `multiprocessing` shares memory from, which otherwise looks like a leak of the first test."""


@pytest.fixture(params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPool]:
    with ProcessPool(1, mp_context=request.param) as pool:
        yield pool


def wait_for(condition: Any) -> None:
    give_up = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.002)


def nothing_is_lent() -> bool:
    return not descriptor_lending._lender._lent and descriptor_lending._lender._desk is None


# ------------------------------------------------------------------------------------------------------- descriptors


def send(connection: Connection, message: Any) -> Any:
    connection.send(message)
    return message


def receive(held: dict[str, list[Any]]) -> Any:
    return held["connections"][0].recv()


def test_an_end_of_a_pipe_travels(pool: ProcessPool) -> None:
    """Either end travels, even deep in an argument, and stays open here."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with receiver, sender:
        for n in range(3):
            assert pool.submit(send, sender, n).result(GUARD) == n
            assert receiver.recv() == n
        sender.send("from here")
        assert pool.submit(receive, {"connections": [receiver]}).result(GUARD) == "from here"
    wait_for(nothing_is_lent)


def test_the_end_of_a_pipe_is_seen(pool: ProcessPool) -> None:
    """No open copy of a pipe end remains once the call has ended and its owner has closed it."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with receiver:
        with sender:
            assert pool.submit(send, sender, 1).result(GUARD) == 1
        assert receiver.recv() == 1
        assert pool.submit(os.getpid).result(GUARD)  # the worker has forgotten the call before
        wait_for(nothing_is_lent)
        if pool._engine._manager._pool.options.method != "fork":  # a fork has what there was when it was made
            assert receiver.poll(GUARD)
            with pytest.raises(EOFError):
                receiver.recv()


def greet(sock: socket.socket) -> Any:
    sock.sendall(b"hello")
    return sock.recv(5), sock.gettimeout()


def accept(listener: socket.socket) -> Any:
    connection, _ = listener.accept()
    with connection:
        return connection.recv(5)


def test_a_socket_travels(pool: ProcessPool) -> None:
    """A connected socket keeps its timeout; a listening one travels too."""
    one, other = socket.socketpair()
    with one, other, socket.create_server(("127.0.0.1", 0)) as listener:
        one.settimeout(50.0)
        other.sendall(b"there")
        assert pool.submit(greet, one).result(GUARD) == (b"there", 50.0)
        assert other.recv(5) == b"hello"
        future = pool.submit(accept, listener)
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"right")
            assert future.result(GUARD) == b"right"


def make_pipe() -> Any:
    return multiprocessing.Pipe()


def make_ends() -> Any:
    one, other = multiprocessing.Pipe()
    other.send("from the worker")
    return {"end": one}


def test_an_end_of_a_pipe_comes_back(pool: ProcessPool) -> None:
    """The result or exception of a call may contain one."""
    with pool.submit(make_ends).result(GUARD)["end"] as end:
        assert end.recv() == "from the worker"
    one, other = pool.submit(make_pipe).result(GUARD)
    with one, other:
        one.send(1)
        assert other.recv() == 1


def test_a_closed_one_is_told() -> None:
    """A closed one cannot be sent, and the error names it."""
    receiver, sender = multiprocessing.Pipe()
    receiver.close()
    sender.close()
    sock = socket.socket()
    sock.close()
    with ProcessPool(1) as pool:
        with pytest.raises(
            TypeError, match=r"cannot send args\[0\], a multiprocessing.connection.Connection, .*closed"
        ):
            pool.submit(send, sender, 1).result(GUARD)
        with pytest.raises(TypeError, match=r"cannot send args\[0\], a socket.socket, .*closed"):
            pool.submit(greet, sock).result(GUARD)


def exit_with(_: Any) -> None:
    os._exit(3)


def test_what_is_lent_is_given_back_whatever_becomes_of_the_call() -> None:
    """This holds for a call that is cancelled while waiting or running, that cannot be pickled, or that is lost."""
    receiver, sender = multiprocessing.Pipe()
    with receiver, sender, Gate() as gate, ProcessPool(1) as pool:
        running = pool.submit(pass_gate, gate.address, sender)
        waiting = [pool.submit(send, sender, n) for n in range(3)]
        bad = pool.submit(send, sender, threading.Lock())
        gate.wait_begun()
        assert waiting[0].cancel()
        assert running.cancel()
        assert [future.result(GUARD) for future in waiting[1:]] == [1, 2]
        with pytest.raises(TypeError, match=r"args\[1\], a _thread.lock"):
            bad.result(GUARD)
        with pytest.raises(WorkerLostError):
            pool.submit(exit_with, sender).result(GUARD)
        wait_for(nothing_is_lent)


def test_strangers_get_nothing() -> None:
    """A client without the key is disconnected, and the next one is served."""
    receiver, sender = multiprocessing.Pipe()
    with receiver, sender:
        loan = descriptor_lending.Loan(sender.fileno())
        with pytest.raises(ConnectionError, match="has taken the file descriptor back"):
            descriptor_lending.Ticket(loan.ticket.address, b"x" * descriptor_lending.KEY_BYTES).redeem()
        with Connection(loan.ticket.redeem()) as end:
            end.send(1)
        assert receiver.recv() == 1
        ticket = loan.ticket
        del loan
        wait_for(nothing_is_lent)
        with pytest.raises(ConnectionRefusedError):
            ticket.redeem()


# ------------------------------------------------------------------------------------------------------ what is refused


class Model:
    def __init__(self) -> None:
        self._lock = threading.Lock()


def make_model() -> Any:
    return {"model": Model()}


def test_what_cannot_travel_is_named(pool: ProcessPool, tmp_path: Any) -> None:
    """A `TypeError` names the object in the call or the result; the worker and other calls continue."""
    pid = pool.submit(os.getpid).result(GUARD)
    with pytest.raises(TypeError, match=r"cannot send args\[1\]\['m'\]\._lock, a _thread.lock, to a worker process"):
        pool.submit(print, 1, {"m": Model()}).result(GUARD)
    with pytest.raises(TypeError, match=r"cannot send result\['model'\]\._lock, a _thread.lock, back"):
        pool.submit(make_model).result(GUARD)
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot send variable lock in the closure of test_what.*\.<lambda>"):
        pool.submit(lambda: lock).result(GUARD)
    for mode in ("r", "rb", "w"):
        with (tmp_path / "file").open("w" if mode == "w" else "a"), (tmp_path / "file").open(mode) as file:
            with pytest.raises(TypeError, match=r"cannot send args\[0\], a _io\..*; send the path"):
                pool.submit(print, file).result(GUARD)
            with pytest.raises(TypeError, match=r"cannot send result.*; send the path"):
                pool.submit(open, str(tmp_path / "file"), mode).result(GUARD)
    for obj in (multiprocessing.get_context("spawn").Lock(), multiprocessing.get_context("spawn").SimpleQueue()):
        with pytest.raises(TypeError, match=r"cannot send kwargs\['lock'\], a multiprocessing\..*initargs"):
            pool.submit(print, lock=obj).result(GUARD)
    assert pool.submit(os.getpid).result(GUARD) == pid


# --------------------------------------------------------------------------------------------------------- exceptions


class HTTPFailed(Exception):
    def __init__(self, url: str, *, status: int) -> None:
        super().__init__(f"{url} answered {status}")
        self.url, self.status = url, status


def fetch() -> None:
    try:
        raise KeyError("cause")
    except KeyError as error:
        raise HTTPFailed("http://x", status=503) from error


def fetch_all() -> None:
    raise ExceptionGroup("all", [HTTPFailed("http://x", status=1), ExceptionGroup("some", [HTTPFailed("y", status=2)])])


def test_exceptions_come_back_as_themselves(pool: ProcessPool) -> None:
    """They keep attributes, causes and members, whatever their `__init__` takes, and have the worker's traceback."""
    with pytest.raises(HTTPFailed, match="http://x answered 503") as caught:
        pool.submit(fetch).result(GUARD)
    assert caught.value.status == 503
    assert repr(caught.value.__cause__) == "KeyError('cause')"
    assert isinstance(caught.value.__cause__.__cause__, RemoteTraceback)  # type: ignore[union-attr]
    assert "in fetch" in caught.value.__cause__.__cause__.tb  # type: ignore[union-attr]
    with pytest.raises(ExceptionGroup) as group:
        pool.submit(fetch_all).result(GUARD)
    first, others = group.value.exceptions
    assert (first.status, others.exceptions[0].status) == (1, 2)


@pytest.mark.parametrize("make", [Scheduler.with_processes, Scheduler.with_loky])
def test_policies_and_retries_know_them(make: Any) -> None:
    """`on_exception` and `Retry` see the program's own class, even one local to a function."""

    class Local(Exception):
        def __init__(self, *, code: int) -> None:
            self.code = code

    def fail() -> None:
        raise Local(code=3)

    scheduler = make(1)
    task = scheduler.task(fail, plugins=[Retry(Local, attempts=2, wait=0)])
    codes: list[int] = []
    retries: list[Any] = []
    scheduler.on_start(lambda: task.submit())
    task.on("retry")(lambda *args: retries.append(args))
    task.on_exception(lambda _, error: codes.append(error.code))
    scheduler.run(on_exception={Local: "continue"}, timeout=GUARD)
    assert codes == [3]
    assert len(retries) == 1


# ------------------------------------------------------------------------------------------------------- initializers

HELD: list[Any] = []


def hold(*shared: Any) -> None:
    HELD[:] = shared


def use_all() -> Any:
    lock, semaphore, event, queue, simple, value, array, raw, barrier, end, sock = HELD
    with lock, value.get_lock():
        value.value += 1
        array[0] += 1
        raw.value += 1
    semaphore.release()
    queue.put("queue")
    queue.close()
    queue.join_thread()
    simple.put("simple")
    end.send("end")
    sock.sendall(b"sock")
    event.set()
    return barrier.parties


@pytest.mark.parametrize("method", METHODS)
def test_what_processes_share_travels_to_an_initializer(method: str) -> None:
    """Locks, events, queues, shared memory, pipe ends and sockets travel, also to replacement workers."""
    context: Any = multiprocessing.get_context(method)
    queue, simple, (receiver, sender), (one, other) = (
        context.Queue(),
        context.SimpleQueue(),
        context.Pipe(),
        socket.socketpair(),
    )
    semaphore, event, value, array, raw = (
        context.Semaphore(0),
        context.Event(),
        context.Value("i", 0),
        context.Array("i", 3),
        context.RawValue("i", 0),
    )
    shared = (context.Lock(), semaphore, event, queue, simple, value, array, raw, context.Barrier(5), sender, one)
    with receiver, sender, one, other, ProcessPool(1, method, hold, shared, max_tasks_per_child=1) as pool:
        for n in range(1, 4):
            assert pool.submit(use_all).result(GUARD) == 5
            assert (value.value, array[0], raw.value) == (n, n, n)
            assert semaphore.acquire(timeout=GUARD)
            assert event.is_set()
            assert (queue.get(timeout=GUARD), simple.get(), receiver.recv()) == ("queue", "simple", "end")
            assert other.recv(4) == b"sock"
    wait_for(nothing_is_lent)
    queue.close()
    simple.close()


class Settings:
    def __init__(self, held: Any) -> None:
        self.held = held


@pytest.mark.parametrize("make", [ProcessPool, Scheduler.with_processes])
def test_initializers_that_cannot_travel_are_refused_when_the_pool_is_made(make: Any) -> None:
    """A `TypeError` names the object; for a lock of the fork context it names the context to use."""
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot send initargs\[1\]\.held, a _thread.lock, to the worker processes"):
        make(1, initializer=hold, initargs=(1, Settings(lock)))
    with pytest.raises(TypeError, match=r"cannot send variable lock in the closure of .*<lambda>, a _thread.lock"):
        make(1, initializer=lambda: lock)
    context = multiprocessing.get_context("fork")
    with pytest.raises(TypeError, match=r'initargs\[0\], a .*Lock, .*fork context.*get_context\("forkserver"\)'):
        make(1, initializer=hold, initargs=(context.Lock(),))
    with pytest.raises(TypeError, match=r"initargs\[0\]\._lock, a .*get_context"):
        make(1, initializer=hold, initargs=(context.Value("i", 0),))
