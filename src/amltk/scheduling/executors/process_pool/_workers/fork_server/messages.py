"""The messages between a pool, its fork server and the warm process: short, some with descriptors."""

from __future__ import annotations

import array
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.scheduling.executors.process_pool._pickling.main_module import Description

HEADER = struct.Struct("<BIqI")
"""Kind, number, value, and the length of the payload."""

CHUNK_BYTES = 1 << 16
MAX_DESCRIPTORS = 2


class Kind:
    """The kinds of messages. `number` identifies a worker, from the request for it to its end."""

    # to the server
    START = 1  # start a worker; carries its ends of its connection. Payload: see `Server._spawn`; empty to fork it
    ABANDON = 2  # the worker is no longer wanted, if it was not started yet
    PRELOAD = 3  # import these modules; the payload is a pickled `Preload`
    END = 4  # end everything
    # from the server
    STARTED = 5  # `value` is the worker's pid
    FAILED = 6  # it was not started: `value` is the errno, or 0 if a retry may succeed
    ENDED = 7  # `value` is its exit code; a negative one is a signal
    UNFIT = 8  # the payload is a pickle of a module that is not imported in advance, and why
    SKIPPED = 13  # likewise, for a module that could not be imported
    # between the server and a warm process
    IMPORTING = 9  # the payload names the module that is being imported
    READY = 10  # all modules are imported
    FORK_WARM = 11  # fork another warm process; carries its end of its connection
    FORKED_WARM = 12  # `value` is its pid


class Message(NamedTuple):
    """One message."""

    kind: int
    number: int = 0
    value: int = 0
    payload: bytes = b""


class Preload(NamedTuple):
    """What to import, and how the program that needs it looks to these modules."""

    modules: tuple[str, ...]
    path: list[str]
    argv: list[Any]
    program: str
    main: Description


def encode(message: Message) -> bytes:
    """A message as it is sent."""
    kind, number, value, payload = message
    return HEADER.pack(kind, number, value, len(payload)) + payload


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a whole message."""
    data = encode(message)
    sent = socket.send_fds(sock, [data], list(descriptors)) if descriptors else 0
    sock.sendall(data[sent:])


class Receiver:
    """Assembles messages from what a socket receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._data = b""
        self._descriptors: list[int] = []  # of an incomplete message

    def receive(self, flags: int = 0) -> list[tuple[Message, list[int]]]:
        """Receive once: return the messages that are complete by then, each with its descriptors.

        Descriptors are missing if this process has no room for them.

        Raises:
            EOFError: The other side has closed its socket.
            BlockingIOError: Nothing has arrived, and `flags` or the socket are non-blocking.
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
        if messages:  # the first one began in an earlier call
            messages[0][1].extend(self._descriptors)
            self._descriptors = []
        # The system returns no data beyond the beginning of a message that carries descriptors.
        (self._descriptors if self._data or not messages else messages[-1][1]).extend(new)
        return messages

    def receive_all(self) -> list[Message]:
        """All messages that have arrived, without their descriptors.

        Raises:
            ConnectionError: Nothing has arrived, and nothing will: the other side has ended.
        """
        found: list[Message] = []
        try:
            while True:
                found += [message for message, _ in self.receive(socket.MSG_DONTWAIT)]
        except BlockingIOError:
            return found
        except (EOFError, ConnectionResetError):
            if found:
                return found
            raise ConnectionError("the process that starts workers has ended") from None
