"""The warm process: it has imported what calls need, and workers are forked from it.

It forks an intermediate process that forks the worker and ends at once, so the worker becomes a child of the fork
server, a *subreaper*. So the server waits for all workers, and a warm process can be replaced without any worker
noticing.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import pickle
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from amltk.scheduling.executors._transfer.descriptors import socket_of
from amltk.scheduling.executors.process_pool._child import orderly_exit, worker
from amltk.scheduling.executors.process_pool._child.start_guard import loading
from amltk.scheduling.executors.process_pool._system import resource_tracker
from amltk.scheduling.executors.process_pool._system.descendants import die_with_parent
from amltk.scheduling.executors.process_pool._workers.fork_server.fitness import Holdings, unfit
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import (
    MAX_DESCRIPTORS,
    Kind,
    Message,
    Preload,
    Receiver,
    send,
)

if TYPE_CHECKING:
    import socket

    from amltk.scheduling.executors.process_pool._child.start import Inheritance

MAX_FAILED_FORKS = 3
"""How many copies in succession may end before they are reported, before this process gives up."""

_failed_forks = 0

MANY_OBJECTS = 10_000_000
"""How many objects modules create before they are collected while they are imported."""

UNFIT = 3
"""The exit code of a warm process that is unfit for forking."""


def main(connection: socket.socket, inherited: Inheritance) -> NoReturn:
    """Import what the server asks for, and fork workers, until the server kills this process.

    Args:
        connection: The connection to the server; the modules to import come first.
        inherited: What workers inherit from the server.
    """
    _begin(inherited)
    if inherited.is_copy:
        orderly_exit.forget_parent()
    resource_tracker.use(inherited.tracker)
    receiver = Receiver(connection)
    while True:
        try:
            requests = receiver.receive()
        except (EOFError, OSError):
            os._exit(0)  # the server continues without it
        for request, descriptors in requests:
            if request.kind == Kind.PRELOAD:
                _preload(pickle.loads(request.payload), connection)
            elif request.kind == Kind.START:
                _start(request.number, descriptors, connection, inherited)
            elif descriptors and _fork(connection, Kind.FORKED_WARM, 0):
                # The new warm process continues here: calling `main` would deepen the stack each time.
                connection.close()
                connection = socket_of(descriptors.pop())
                receiver = Receiver(connection)
                _begin(inherited)
            for descriptor in descriptors:
                os.close(descriptor)


def _start(number: int, descriptors: list[int], connection: socket.socket, inherited: Inheritance) -> None:
    """Fork a worker, which continues here in the new process."""
    if len(descriptors) < MAX_DESCRIPTORS:
        _tell(connection, Message(Kind.FAILED, number, errno.EMFILE))
    elif _fork(connection, Kind.STARTED, number):
        connection.close()
        worker.run_forked(inherited, *descriptors)


def _begin(inherited: Inheritance) -> None:
    die_with_parent(inherited.parent)
    os.setpgid(0, 0)


def _preload(preload: Preload, connection: socket.socket) -> None:
    """Import modules; end the process if one of them leaves something behind that forks badly."""
    worker.prepare(preload.path, preload.argv, preload.program, preload.main)
    directory = os.open(".", os.O_PATH)
    before = Holdings.now()
    thresholds = gc.get_threshold()
    # The collector would take a tenth of an import. Not disabled: a module may have its own wishes, which then count.
    gc.set_threshold(MANY_OBJECTS)
    for name in preload.modules:
        _tell(connection, Message(Kind.IMPORTING, payload=name.encode()))
        try:
            with loading():
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - the call that needs the module raises it, in its worker
            _tell(connection, Message(Kind.SKIPPED, payload=f"{type(error).__name__}: {error}".encode()))
        if reason := unfit(before):
            _tell(connection, Message(Kind.UNFIT, payload=reason.encode()))
            _leave(UNFIT)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # in case a module has set it
    os.fchdir(directory)
    os.close(directory)
    orderly_exit.flush_output()  # else each worker would print the buffered output
    if gc.get_threshold()[0] == MANY_OBJECTS:
        gc.set_threshold(*thresholds)
    gc.freeze()  # pages that the collector does not touch stay shared
    _tell(connection, Message(Kind.READY))


def _fork(connection: socket.socket, report: int, number: int) -> bool:
    """Fork a process that becomes a child of the server; the server gets its pid before that.

    Returns:
        Whether this is the new process.
    """
    is_between = False
    try:
        between = _fork_once()
        if between:
            _wait(between, connection, number)
            return False
        is_between = True
        between = os.getpid()
        pid = _fork_once()
    except OSError as error:
        _tell(connection, Message(Kind.FAILED, number, error.errno or errno.EAGAIN))
        if is_between:
            os._exit(0)
        return False
    if pid:
        _tell(connection, Message(report, number, pid))
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0)  # until the intermediate process has ended
    return True


def _tell(connection: socket.socket, message: Message) -> None:
    """Report to the server; end this process if the server has ended."""
    try:
        send(connection, message)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)  # not raised: the callers above are the server's own, of which this process is a copy


def _fork_once() -> int:
    with resource_tracker.kept_in_copies():
        return os.fork()


def _wait(between: int, connection: socket.socket, number: int) -> None:
    """Wait for the intermediate process; end this one if its copies do not work."""
    global _failed_forks  # noqa: PLW0603 - a process is at most one warm process
    status = 0
    with contextlib.suppress(ChildProcessError):
        _, status = os.waitpid(between, 0)
    _failed_forks = _failed_forks + 1 if status else 0
    if status:
        _tell(connection, Message(Kind.FAILED, number))
    if _failed_forks == MAX_FAILED_FORKS:
        _tell(connection, Message(Kind.UNFIT, payload=b"copies of the process that has imported it end at once"))
        _leave(UNFIT)


def _leave(status: int) -> NoReturn:
    orderly_exit.remove_temporary()
    orderly_exit.flush_output()
    os._exit(status)
