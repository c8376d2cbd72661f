"""How worker processes are started, and how the pool learns that they have ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Protocol

from amltk.scheduling.executors.process_pool import fork_server, worker
from amltk.scheduling.executors.process_pool.library_threads import limit_forked, prepare_to_fork

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNKNOWN = -signal.NSIG
"""Stands for the exit code of a worker whose fork server has ended before it."""

_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import {function}; {function}({arguments})"


class Starter(Protocol):
    """Starts workers. Made with environment variables for them, for what is not set in this process."""

    control: socket.socket | None
    """Readable when `ended` has something to tell; None where `ended` is to be asked when a worker has hung up."""

    def start(self, frames: socket.socket, tokens: socket.socket, *, others: list[socket.socket]) -> int:
        """Start a worker with its ends of two sockets; `others` are the pool's. Returns its pid."""
        ...

    def ended(self) -> Iterator[tuple[int, int]]:
        """The pids of workers that have ended since, and their exit codes; a negative one is a signal."""
        ...

    def close(self) -> None:
        """End what was needed to start workers, once these have ended."""


def _interpreter(
    module: str, function: str, *descriptors: int, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Run a function of a module of this package in a fresh interpreter, which finds what this one finds.

    Its environment is that of this process, and `variables` as far as they are not set here.
    """
    program = _PROGRAM.format(
        path=sys.path, module=module, function=function, arguments=", ".join(map(str, descriptors))
    )
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, *flags, "-c", program],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        process_group=0,
        env={**variables, **os.environ},
    )


class ForkServer:
    """Starts workers from a small process with one thread. A server that was killed is replaced."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._control, other = socket.socketpair()
        self.control: socket.socket | None = self._control
        with other:
            self._process = _interpreter(fork_server.__name__, "main", other.fileno(), variables=variables)
        self._ends: list[tuple[int, int]] = []  # that were told while a start was waited for

    def start(self, frames: socket.socket, tokens: socket.socket, *, others: list[socket.socket]) -> int:
        """See `Starter`.

        Raises:
            ConnectionError: The server was killed.
        """
        del others  # the server has none of them
        socket.send_fds(self._control, [fork_server.START], [frames.fileno(), tokens.fileno()])
        while True:
            what, pid, code = self._receive()
            if what == fork_server.STARTED:
                return pid
            self._ends.append((pid, code))

    def _receive(self) -> tuple[bytes, int, int]:
        report = self._control.recv(fork_server.REPORT.size, socket.MSG_WAITALL)
        if len(report) < fork_server.REPORT.size:
            raise ConnectionError("the fork server has ended")
        what, pid, code = fork_server.REPORT.unpack(report)
        return what, pid, code

    def ended(self) -> Iterator[tuple[int, int]]:
        """See `Starter`.

        Raises:
            ConnectionError: The server was killed, and its workers end with it.
        """
        while self._ends:
            yield self._ends.pop()
        while self._has_report():
            _, pid, code = self._receive()
            yield pid, code

    def _has_report(self) -> bool:
        try:
            if self._control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return True
        except BlockingIOError:
            return False
        raise ConnectionError("the fork server has ended")

    def close(self) -> None:
        """See `Starter`."""
        self._control.close()
        self._process.wait()


class _Children:
    """Workers that are children of this process."""

    control: socket.socket | None = None

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._pids: set[int] = set()

    def ended(self) -> Iterator[tuple[int, int]]:
        """See `Starter`."""
        for pid in list(self._pids):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                found, status = pid, 0
            if found:
                self._pids.discard(pid)
                yield pid, os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """See `Starter`."""


class Fork(_Children):
    """Starts workers as copies of this process, as `mp_context="fork"` asks for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        prepare_to_fork()

    def start(self, frames: socket.socket, tokens: socket.socket, *, others: list[socket.socket]) -> int:
        """See `Starter`."""
        with warnings.catch_warnings():
            # CPython 3.12 and later warn of forking where there are threads; the user has asked for it.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                for sock in others:
                    with contextlib.suppress(OSError):
                        sock.close()
                limit_forked(self._variables)
                fork_server.run_worker(frames.detach(), tokens.detach())
            finally:
                os._exit(1)  # whatever happens, this must not go on as its parent does
        self._pids.add(pid)
        return pid


class Spawn(_Children):
    """Starts each worker as a fresh interpreter, as `mp_context="spawn"` asks for."""

    def start(self, frames: socket.socket, tokens: socket.socket, *, others: list[socket.socket]) -> int:
        """See `Starter`."""
        del others  # not inherited
        process = _interpreter(worker.__name__, "run", frames.fileno(), tokens.fileno(), variables=self._variables)
        process.returncode = 0  # waited for by `ended`
        self._pids.add(process.pid)
        return process.pid


STARTERS: dict[str, type[ForkServer | Fork | Spawn]] = {
    "forkserver": ForkServer,
    "spawn": Spawn,
    "fork": Fork,
}
