"""Starts workers from a small process, the fork server."""

from __future__ import annotations

import contextlib
import pickle
import select
import socket
import time
from typing import TYPE_CHECKING

from amltk._process.program import arguments, import_path
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN
from amltk.scheduling.executors.process_pool._system.marks import marked
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import (
    Kind,
    Message,
    Preload,
    Receiver,
    encode,
)
from amltk.scheduling.executors.process_pool._workers.server_process import (
    ServerProcess,
    command,
    find_executable,
    start_environment,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
        self.control.setblocking(False)
        self._receiver = Receiver(self.control)
        self._rest = b""  # of a message for which there was no room

    @property
    def is_sending(self) -> bool:
        """See `Starter`."""
        return bool(self._rest)

    def start(self, link: Link, others: Iterable[int]) -> None:
        """See `Starter`."""
        del others  # the server has none of these
        payload = b""
        if self._spawns:
            assert self._executable is not None
            assert isinstance(self._process, ServerProcess)
            variables = {**self._surroundings.variables, **start_environment(), **marked(self._process.mark)}
            payload = pickle.dumps((command(self._executable, WORKER, "run"), variables))
        theirs = [link.their_frames.fileno(), link.tokens.theirs]
        self._send(Message(Kind.START, link.slot.number, payload=payload), theirs, wait_seconds=SEND_SECONDS)

    def _send(self, message: Message, descriptors: Sequence[int] = (), *, wait_seconds: float) -> None:
        """Send a message, of which the rest may follow later: before the next one, or when reports are asked for.

        Raises:
            TimeoutError: There is no room for it in time: the process is stopped.
            OSError: The process has ended.
        """
        give_up = time.monotonic() + wait_seconds
        if not (self._send_rest(give_up) and self._has_room(give_up)):
            raise TimeoutError("the process that starts workers does not answer, and may be stopped")
        data = encode(message)
        sent = socket.send_fds(self.control, [data], list(descriptors)) if descriptors else 0
        self._rest = data[sent:]
        self._send_rest(give_up)

    def _send_rest(self, give_up: float) -> bool:
        """Send the rest of a message; return whether that was possible in time."""
        while self._rest:
            if not self._has_room(give_up):
                return False
            self._rest = self._rest[self.control.send(self._rest) :]
        return True

    def _has_room(self, give_up: float) -> bool:
        """Whether there is room for a message, or part of it, or will be in time."""
        waiting = select.poll()  # which needs no descriptor of its own
        waiting.register(self.control, select.POLLOUT)
        return bool(waiting.poll(1000 * max(0.0, give_up - time.monotonic())))

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
            self._send(Message(Kind.PRELOAD, payload=pickle.dumps(preload)), wait_seconds=SEND_SECONDS)

    def reports(self) -> list[Message]:
        """See `Starter`."""
        if self.is_sending:
            with contextlib.suppress(OSError):  # it has ended, which is noticed here
                self._send_rest(give_up=0)
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
