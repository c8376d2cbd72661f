"""How worker processes are started, and how the pool learns that they have ended."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from amltk._compat import interpreter_flags
from amltk._process.program import arguments, environment, import_path
from amltk.scheduling.executors.process_pool._child import worker
from amltk.scheduling.executors.process_pool._child.library_threads import limit_forked, prepare_to_fork
from amltk.scheduling.executors.process_pool._child.orderly_exit import flush_output
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN
from amltk.scheduling.executors.process_pool._state.outcomes import UNKNOWN_EXIT_CODE
from amltk.scheduling.executors.process_pool._system.descendants import watch
from amltk.scheduling.executors.process_pool._system.marks import end_marked, marked, new_mark
from amltk.scheduling.executors.process_pool._workers.fork_server import server, supervisor
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind, Message, Preload, Receiver, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from amltk.scheduling.executors.process_pool._io.link import Link

_log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""How long to wait for the processes that start workers to end, in seconds."""

_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import {function}; {function}(*map(int, sys.argv[1:]))"


class Surroundings(NamedTuple):
    """The environment that workers start with.

    Attributes:
        directory: Their working directory; None for the current one.
        variables: Environment variables, unless this process sets them.
        tracker: The descriptor for the resource tracker, see `resource_tracker`.
    """

    directory: str | None
    variables: Mapping[str, str]
    tracker: int


class Starter(Protocol):
    """Starts workers. Created with environment variables for them, which apply unless this process sets them."""

    control: socket.socket
    """Readable when `reports` has something to report."""

    def start(self, link: Link, others: Iterable[int]) -> None:
        """Start a worker, which `reports` identifies by the number of the link's slot.

        Args:
            link: Has the worker's ends of its connection.
            others: The descriptors of the pool, which a copy of this process must not keep.

        Raises:
            OSError: This is impossible now. If the process that starts workers was killed, it is a `ConnectionError`.
        """
        ...

    def abandon(self, number: int) -> None:
        """Give up a worker that was not started yet; `reports` reports it as failed."""

    def preload(self, modules: Iterable[str]) -> None:
        """Import modules in advance, so that workers that are started from now on have them."""

    def reports(self) -> list[Message]:
        """What has happened since: workers `STARTED`, `FAILED` or `ENDED`, and modules `UNFIT` or `SKIPPED`.

        Raises:
            ConnectionError: The process that starts workers was killed, and its workers with it.
        """
        ...

    def close(self) -> None:
        """End what was needed to start workers, and what is left of them."""

    def disown(self) -> None:
        """Close its descriptors in this process, a forked copy of the one that created it."""


def _executable() -> str | None:
    """The interpreter; None if there is none that can be run again, as in a frozen program."""
    spawn = sys.modules.get("multiprocessing.spawn")
    executable: Any = spawn.get_executable() if spawn is not None else sys.executable  # users may have set it
    return None if getattr(sys, "frozen", False) or not executable else os.fsdecode(executable)


def _command(executable: str, module: str, function: str) -> list[str]:
    """The command for a function of this package in a fresh interpreter with the same path; its arguments follow.

    Without `-P`, if the current folder was removed, CPython 3.13.0 to 3.13.2 raise a SystemError for each attribute
    that a module lacks (gh-130932). It has no other effect here, since the path is replaced.
    """
    program = _PROGRAM.format(path=import_path(), module=module, function=function)
    return [executable, *interpreter_flags(), "-P", "-c", program]


def _receive(receiver: Receiver) -> list[Message]:
    """All available messages."""
    found: list[Message] = []
    try:
        while True:
            found += [message for message, _ in receiver.receive(socket.MSG_DONTWAIT)]
    except BlockingIOError:
        return found
    except (EOFError, ConnectionResetError):
        if found:
            return found
        raise ConnectionError("the process that starts workers has ended") from None


class ForkServer:
    """Starts workers from a small single-threaded process: its copies, or with `mp_context="spawn"` fresh interpreters.

    If this program cannot be run again as an interpreter, that process is a copy of this one.

    Args:
        surroundings: The environment that workers start with.
        spawn: Whether workers are fresh interpreters.
        others: The descriptors of the pool, which a copy of this process must not keep.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self, surroundings: Surroundings, *, spawn: bool, others: Iterable[int]) -> None:
        self._surroundings = surroundings
        self._executable = _executable()
        self._spawns = spawn and self._executable is not None
        self._mark = new_mark()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self.control: socket.socket
        self.control, theirs = socket.socketpair()
        try:
            with theirs:
                self._launch(theirs, others)
        except BaseException:
            self.control.close()
            raise
        self._receiver = Receiver(self.control)

    def _launch(self, theirs: socket.socket, others: Iterable[int]) -> None:
        parent, (directory, variables, tracker) = os.getpid(), self._surroundings
        if self._executable is None:
            _log.info("this program cannot be started again as a Python interpreter: workers are forked from it")
            self._pid = _fork()
            if self._pid == 0:
                _close_all((*others, self.control.fileno()))
                os.setpgid(0, 0)
                limit_forked(variables)
                server.main(theirs.detach(), parent, tracker, is_copy=True)
            return
        command = _command(self._executable, server.__name__, "main")
        command += map(str, (theirs.fileno(), parent, tracker))
        if directory is not None and not os.path.isdir(directory):  # a string, as it travels
            _log.warning(
                "%s, where this pool was made, no longer exists: its workers start in the current folder", directory
            )
            directory = None
        self._process = subprocess.Popen(
            command,
            env={**variables, **environment(), **marked(self._mark)},
            pass_fds=[theirs.fileno(), tracker],
            stdin=subprocess.DEVNULL,
            process_group=0,
            cwd=directory,
        )

    def start(self, link: Link, others: Iterable[int]) -> None:
        """See `Starter`."""
        del others  # the server has none of these
        payload = b""
        if self._spawns:
            assert self._executable is not None
            variables = {**self._surroundings.variables, **environment(), **marked(self._mark)}
            payload = pickle.dumps((_command(self._executable, worker.__name__, "run"), variables))
        self._send(
            Message(Kind.START, link.slot.number, payload=payload), [link.their_frames.fileno(), link.tokens.theirs]
        )

    def _send(self, message: Message, descriptors: Iterable[int] = ()) -> None:
        send(self.control, message, list(descriptors))

    def abandon(self, number: int) -> None:
        """See `Starter`."""
        with contextlib.suppress(OSError):  # the server has ended, which is noticed elsewhere
            self._send(Message(Kind.ABANDON, number))

    def preload(self, modules: Iterable[str]) -> None:
        """See `Starter`. Fresh interpreters do their own imports."""
        if self._spawns:
            return
        main = main_module.describe(MAIN)
        preload = Preload(tuple(modules), import_path(), arguments(), main_module.PROGRAM, main)
        with contextlib.suppress(OSError):
            self._send(Message(Kind.PRELOAD, payload=pickle.dumps(preload)))

    def reports(self) -> list[Message]:
        """See `Starter`."""
        return _receive(self._receiver)

    def close(self) -> None:
        """See `Starter`."""
        with contextlib.suppress(OSError):
            # An explicit message: a forked copy of this process may keep the socket open.
            self._send(Message(Kind.END))
        self.control.close()
        if self._process is None:
            _reap(self._pid)
            return
        try:
            _wait(self._process)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(PermissionError):  # it has become another user's: they end on their own
                self._process.kill()
                self._process.wait()
        if self._process.returncode:  # it was killed: nothing else finds what workers have left
            end_marked(self._mark)

    def disown(self) -> None:
        """See `Starter`."""
        self.control.close()
        if self._process is not None:
            self._process.returncode = 0  # not a child of this process, which cannot wait for it


class Fork:
    """Starts workers as copies of this process, for `mp_context="fork"`, each under a supervisor."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        prepare_to_fork()
        self.control: socket.socket
        self.control, self._theirs = socket.socketpair()
        self._receiver = Receiver(self.control)
        self._supervisors: dict[int, int] = {}  # their pids, by worker number
        self._leaving: list[int] = []  # those that have reported the end of their worker
        self._mark = new_mark()

    def start(self, link: Link, others: Iterable[int]) -> None:
        """See `Starter`."""
        number, parent = link.slot.number, os.getpid()
        pid = _fork()
        if pid == 0:
            _close_all((*others, link.frames.fileno(), *link.tokens.descriptors(), self.control.fileno()))
            descriptors = [link.their_frames.detach(), link.tokens.theirs]
            _, variables, tracker = self._surroundings
            variables = {**variables, **marked(self._mark_of(number))}
            supervisor.main(number, descriptors, self._theirs, parent, tracker=tracker, variables=variables)
        self._supervisors[number] = pid

    def _mark_of(self, number: int) -> str:
        return f"{self._mark}{number}."

    def abandon(self, number: int) -> None:
        """See `Starter`. All requested workers are started at once, so there is nothing to give up."""

    def preload(self, modules: Iterable[str]) -> None:
        """See `Starter`. A copy has what this process has."""

    def reports(self) -> list[Message]:
        """See `Starter`."""
        ended = {number for number, pid in self._supervisors.items() if _has_ended(pid)}
        found = _receive(self._receiver)
        for message in found:
            if message.kind in {Kind.ENDED, Kind.FAILED}:
                pid = self._supervisors.pop(message.number, None)
                if pid is not None and message.number not in ended:
                    self._leaving.append(pid)
        for number in ended & self._supervisors.keys():  # the supervisor was killed
            del self._supervisors[number]
            end_marked(self._mark_of(number))
            found.append(Message(Kind.ENDED, number, UNKNOWN_EXIT_CODE))
        self._leaving = [pid for pid in self._leaving if not _has_ended(pid)]
        return found

    def close(self) -> None:
        """See `Starter`."""
        self.control.shutdown(socket.SHUT_RDWR)  # supervisors end the workers that are left
        for pid in (*self._supervisors.values(), *self._leaving):
            _reap(pid)
        self.disown()

    def disown(self) -> None:
        """See `Starter`."""
        self.control.close()
        self._theirs.close()


_forking: set[int] = set()
"""The threads that are forking workers, or processes that start them."""


def is_forked_for_pool() -> bool:
    """Whether this process, a copy that was just forked, was forked for a pool. To be asked once in each copy."""
    is_ours = threading.get_ident() in _forking
    _forking.clear()  # the other threads are not in the copy, and new ones get their numbers
    return is_ours


def _fork() -> int:
    """Fork, such that buffered output is not printed twice."""
    flush_output()
    with warnings.catch_warnings():
        # CPython since 3.12 warns about forking a process with threads; the user has requested it.
        warnings.simplefilter("ignore", DeprecationWarning)
        _forking.add(threading.get_ident())
        try:
            return os.fork()
        finally:
            _forking.discard(threading.get_ident())


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:  # something else has waited for it
        return True


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process to end, and be told when it does: `Popen.wait` looks at longer and longer intervals.

    Raises:
        subprocess.TimeoutExpired: It has not ended in time.
    """
    end = watch(process.pid)
    if end is None:
        process.wait(END_SECONDS)
        return
    try:
        waiting = select.poll()  # which needs no descriptor of its own
        waiting.register(end, select.POLLIN)
        waiting.poll(END_SECONDS * 1000)
    finally:
        os.close(end)
    process.wait(0)


def _reap(pid: int) -> None:
    """Wait for a process; kill it if it takes too long and that is allowed."""
    give_up = time.monotonic() + END_SECONDS
    while not _has_ended(pid):
        if time.monotonic() > give_up:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:  # it has become another user's
                return
        time.sleep(0.001)


def make_starter(method: str, surroundings: Surroundings, others: Iterable[int]) -> Starter:
    """The starter for one of the `METHODS`.

    Raises:
        OSError: The starter could not be started.
    """
    if method == "fork":
        return Fork(surroundings)
    return ForkServer(surroundings, spawn=method == "spawn", others=others)


METHODS = ("forkserver", "spawn", "fork")
