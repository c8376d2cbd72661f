"""The warm process: it has imported what calls need, and workers are forked from it.

What it forks becomes a child of the fork server, a *subreaper*, since the process in between ends at once. So the
server waits for all workers, and a warm process can be replaced by another one without any worker noticing.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from amltk.scheduling.executors.process_pool import farewell, tracker, worker
from amltk.scheduling.executors.process_pool.fork_server.descendants import die_with_parent
from amltk.scheduling.executors.process_pool.fork_server.fitness import Holdings, unfit
from amltk.scheduling.executors.process_pool.fork_server.messages import Kind, Message, Preload, Receiver, send
from amltk.scheduling.executors.process_pool.starts import loading

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool.worker import Inheritance

UNFIT = 3
"""The exit code of a warm process that must not be forked from."""


def main(connection: socket.socket, inherited: Inheritance) -> NoReturn:
    """Import what the server asks for, and fork workers, until the server ends this process.

    Args:
        connection: To the server; what is to be imported comes first.
        inherited: What workers have of the server.
    """
    die_with_parent(inherited.parent)
    os.setpgid(0, 0)
    if inherited.is_copy:
        farewell.forget_parent()
    tracker.use(inherited.tracker)
    receiver = Receiver(connection)
    while True:
        for message, descriptors in receiver.receive():
            if message.kind == Kind.PRELOAD:
                _preload(pickle.loads(message.payload), connection)
            elif message.kind == Kind.START:
                _fork(partial(worker.run_forked, inherited, *descriptors), connection, Kind.STARTED, message.number)
            elif message.kind == Kind.FORK_WARM:
                _fork(partial(main_from, inherited, *descriptors), connection, Kind.FORKED_WARM, 0)
            for descriptor in descriptors:
                os.close(descriptor)


def _preload(preload: Preload, connection: socket.socket) -> None:
    """Import modules; end the process if one of them leaves something behind that forks badly."""
    worker.prepare(preload.path, preload.argv, preload.program, preload.main)
    directory = os.open(".", os.O_RDONLY)
    before = Holdings.now()
    for name in preload.modules:
        send(connection, Message(Kind.IMPORTING, payload=name.encode()))
        try:
            with loading():
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - the call that needs the module raises it, in its worker
            send(connection, Message(Kind.SKIPPED, payload=f"{type(error).__name__}: {error}".encode()))
        if reason := unfit(before):
            send(connection, Message(Kind.UNFIT, payload=reason.encode()))
            _leave(UNFIT)
    os.fchdir(directory)
    os.close(directory)
    _flush()  # else each worker would print it
    gc.collect()
    gc.freeze()  # pages that the collector leaves alone stay shared
    send(connection, Message(Kind.READY))


def _fork(child: Callable[[], NoReturn], connection: socket.socket, report: int, number: int) -> None:
    """Fork a process that becomes a child of the server, which is told its pid before that."""
    between = 0
    try:
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            return
        between = os.getpid()
        pid = os.fork()
    except OSError as error:
        send(connection, Message(Kind.FAILED, number, error.errno or 0))
        if between:
            os._exit(0)
        return
    if pid:
        send(connection, Message(report, number, pid))
        os._exit(0)
    connection.close()
    while os.getppid() == between:
        time.sleep(0)  # until the process in between has ended
    child()


def main_from(inherited: Inheritance, descriptor: int) -> NoReturn:
    """As `main`, in a process that was forked from another warm one."""
    main(socket.socket(fileno=descriptor), inherited)


def _leave(status: int) -> NoReturn:
    _flush()
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed, or nobody reads it
