"""Starts workers from a small process, the fork server."""

from __future__ import annotations

import contextlib
import pickle
import select
from typing import TYPE_CHECKING

from amltk._process.program import arguments, import_path
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN
from amltk.scheduling.executors.process_pool._system.marks import marked
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind, Message, Preload, Receiver, send
from amltk.scheduling.executors.process_pool._workers.server_process import (
    ServerProcess,
    command,
    find_executable,
    start_environment,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._workers.by_fork import ServerCopy
    from amltk.scheduling.executors.process_pool.options import Surroundings

SEND_SECONDS = 10.0
"""How long to wait until there is room for a message, in seconds."""

WORKER = "amltk.scheduling.executors.process_pool._child.worker"
"""The module that workers run; this process does not need it."""


class ForkServer:
    """Starts workers from a small single-threaded process: its copies, or with `mp_context="spawn"` fresh interpreters.

    If this program cannot be run again as an interpreter, that process is a copy of this one. A `Starter`.

    Args:
        surroundings: The environment that workers start with.
        spawn: Whether workers are fresh interpreters.
        others: The descriptors of the pool, which a copy of this process must not keep.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self, surroundings: Surroundings, *, spawn: bool, others: Iterable[int]) -> None:
        self._surroundings = surroundings
        self._executable = find_executable()
        self._spawns = spawn and self._executable is not None
        self._process: ServerProcess | ServerCopy
        if self._executable is not None:
            self._process = ServerProcess(surroundings, self._executable)
        else:
            from amltk.scheduling.executors.process_pool._workers.by_fork import ServerCopy  # few programs need it

            self._process = ServerCopy(surroundings, others)
        self.control: socket.socket = self._process.control
        self._receiver = Receiver(self.control)

    def start(self, link: Link, others: Iterable[int]) -> None:
        """See `Starter`."""
        del others  # the server has none of these
        payload = b""
        if self._spawns:
            assert self._executable is not None
            assert isinstance(self._process, ServerProcess)
            variables = {**self._surroundings.variables, **start_environment(), **marked(self._process.mark)}
            payload = pickle.dumps((command(self._executable, WORKER, "run"), variables))
        self._send(
            Message(Kind.START, link.slot.number, payload=payload), [link.their_frames.fileno(), link.tokens.theirs]
        )

    def _send(self, message: Message, descriptors: Iterable[int] = (), *, wait_seconds: float = SEND_SECONDS) -> None:
        """Send a message.

        Raises:
            TimeoutError: There is no room for it in time: the process is stopped.
            OSError: The process has ended.
        """
        waiting = select.poll()  # which needs no descriptor of its own
        waiting.register(self.control, select.POLLOUT)
        if not waiting.poll(1000 * wait_seconds):
            raise TimeoutError("the process that starts workers does not answer, and may be stopped")
        send(self.control, message, list(descriptors))

    def abandon(self, number: int) -> None:
        """See `Starter`."""
        with contextlib.suppress(OSError):  # the server has ended or is stopped, which is noticed elsewhere
            self._send(Message(Kind.ABANDON, number), wait_seconds=0)

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
        return self._receiver.receive_all()

    def close(self) -> None:
        """See `Starter`."""
        with contextlib.suppress(OSError):
            # An explicit message: a forked copy of this process may keep the socket open.
            self._send(Message(Kind.END), wait_seconds=0)
        self.control.close()
        self._process.end()

    def disown(self) -> None:
        """See `Starter`."""
        self.control.close()
        self._process.disown()
