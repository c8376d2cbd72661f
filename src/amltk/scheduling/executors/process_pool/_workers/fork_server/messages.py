"""What a pool, its fork server and the warm process say to each other: short messages, some with descriptors."""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.scheduling.executors.process_pool._pickling.main_module import Description

HEADER = struct.Struct("<BIqI")
"""Kind, number, value and the length of the payload."""

CHUNK_BYTES = 1 << 16
MAX_DESCRIPTORS = 2


class Kind:
    """What a message says. `number` names the worker that is asked for, from its request to its end."""

    # to the server
    START = 1  # start a worker; carries its ends of its connection. Payload: see `Server._spawn`; empty to fork it
    ABANDON = 2  # the worker is not wanted any more, if it was not started yet
    PRELOAD = 3  # have these modules imported; the payload is a pickled `Preload`
    END = 4  # end everything
    # from the server
    STARTED = 5  # `value` is the worker's pid
    FAILED = 6  # it was not started: `value` is the errno, or 0 if nothing speaks against another try
    ENDED = 7  # `value` is its exit code; a negative one is a signal
    UNFIT = 8  # the payload is a pickle of a module that is not imported ahead, and why
    SKIPPED = 13  # likewise, of one that could not be imported
    # between the server and a warm process
    IMPORTING = 9  # the payload names the module that is imported now
    READY = 10  # all of them were
    FORK_WARM = 11  # fork another warm process; carries its end of its connection
    FORKED_WARM = 12  # `value` is its pid


class Message(NamedTuple):
    """One message."""

    kind: int
    number: int = 0
    value: int = 0
    payload: bytes = b""


class Preload(NamedTuple):
    """What is to be imported, and what the program that needs it looks like to the modules that are."""

    modules: tuple[str, ...]
    path: list[str]
    argv: list[str]
    program: str
    main: Description


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message, all of it."""
    kind, number, value, payload = message
    data = HEADER.pack(kind, number, value, len(payload)) + payload
    sent = socket.send_fds(sock, [data], list(descriptors)) if descriptors else 0
    sock.sendall(data[sent:])


class Receiver:
    """Makes messages of what a socket receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._data = b""
        self._descriptors: list[int] = []  # of a message that is not complete yet

    def receive(self, flags: int = 0) -> list[tuple[Message, list[int]]]:
        """Receive once: the messages that are complete by then, each with its descriptors.

        Descriptors that this process has no room for are missing.

        Raises:
            EOFError: The other side has gone.
            BlockingIOError: There is nothing, and `flags` or the socket say not to wait.
        """
        data, ancillary, _, _ = self._socket.recvmsg(CHUNK_BYTES, socket.CMSG_SPACE(4 * MAX_DESCRIPTORS), flags)
        if not data:
            raise EOFError("the other side has gone")
        new = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                new.frombytes(content[: len(content) - len(content) % new.itemsize])
        self._data += data
        messages: list[tuple[Message, list[int]]] = []
        while len(self._data) >= HEADER.size:
            kind, number, value, length = HEADER.unpack_from(self._data)
            end = HEADER.size + length
            if len(self._data) < end:
                break
            messages.append((Message(kind, number, value, self._data[HEADER.size : end]), []))
            self._data = self._data[end:]
        if messages:  # the first one was begun before
            messages[0][1].extend(self._descriptors)
            self._descriptors = []
        # The system hands out nothing that comes after the beginning of a message which carries descriptors.
        (self._descriptors if self._data or not messages else messages[-1][1]).extend(new)
        return messages
