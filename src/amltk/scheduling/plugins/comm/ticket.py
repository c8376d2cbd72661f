"""How a call reaches its run: the data sent to the worker, and how it connects there."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amltk.exceptions import CommConnectError
from amltk.scheduling.plugins.comm.link import CHUNK, SocketLink
from amltk.scheduling.plugins.comm.protocol import CHALLENGE_SIZE, Decoder, FrameKind, ProtocolError, WorkerHandshake

if TYPE_CHECKING:
    from amltk.scheduling.plugins.comm._driver.listener import Address

CONNECT_PATIENCE = 30.0
"""How many seconds to wait for a host that does not answer."""

REMEDY = (
    "; if workers are on other machines, set the network interface by which they reach the driver's machine, as in"
    " Comm.Plugin(interface='eth0')"
)

SERVED: dict[Address, asyncio.AbstractEventLoop] = {}
"""The loops of this process that listen, by address."""


@dataclass(frozen=True)
class Ticket:
    """What a call needs to connect to its run. Valid while the call is pending.

    Attributes:
        address: Where the driver listens.
        number: The channel of the call.
        key: The key of the run.
        host: The name of the driver's machine, for messages.
    """

    address: Address
    number: int
    key: bytes = field(repr=False)
    host: str

    def connect(self) -> SocketLink:
        """Connect to the run; waits while a callback keeps the run's loop busy.

        Raises:
            CommConnectError: Nothing answers, the peer does not know the key, the run does not know the call any more,
                or this is the thread that would have to answer.
        """
        if self.address in SERVED and SERVED[self.address] is _running_loop():
            raise CommConnectError(
                "this call is computed on the thread of its run, which must stay free to answer: use"
                " Scheduler.with_sequential(), which allows for that, or another executor"
            )
        try:
            connection = _reach(self.address)
        except OSError as error:
            here = socket.gethostname()
            raise CommConnectError(
                f"cannot reach the run at {self.address!r} on {self.host!r}, from {here!r}: {error}"
                + ("" if here == self.host else REMEDY)
            ) from error
        try:
            decoder = self._shake_hands(connection)
            return SocketLink(connection, decoder, is_remote=isinstance(self.address, tuple))
        except BaseException:
            connection.close()
            raise

    def _shake_hands(self, connection: socket.socket) -> Decoder:
        """Run the handshake; returns a decoder with the data received after it."""
        handshake = WorkerHandshake(self.key, self.number)
        try:
            connection.sendall(handshake.hello)
            connection.sendall(handshake.answer(_receive_exactly(connection, CHALLENGE_SIZE)))
            decoder = Decoder()
            while (frame := decoder.next()) is None:
                decoder.feed(_receive(connection, CHUNK))
        except (OSError, ProtocolError) as error:
            raise CommConnectError(
                f"the run is not (or no longer) at {self.address!r} on {self.host!r}: {error}"
            ) from error
        if frame.kind is not FrameKind.WELCOME:
            raise CommConnectError(frame.payload.decode())
        return decoder


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _reach(address: Address) -> socket.socket:
    if isinstance(address, tuple):
        connection = socket.create_connection(address, timeout=CONNECT_PATIENCE)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(None)  # `socket.setdefaulttimeout` is not for this one
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size)
    if not data:
        raise ConnectionError("the peer has closed the connection")
    return data


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += _receive(connection, size - len(data))
    return data
