"""One connection as the driver sees it: unauthenticated at first, then the worker of a call."""

from __future__ import annotations

import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol

from amltk.exceptions import CommError
from amltk.scheduling.plugins.comm._driver.listener import hang_up
from amltk.scheduling.plugins.comm.protocol import (
    OVER,
    Decoder,
    DriverHandshake,
    Frame,
    FrameKind,
    NoMemoryError,
    ProtocolError,
    Stage,
    encode,
)

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)

CHUNK = 1 << 16
"""How many bytes are received at once."""

HANDSHAKE_PATIENCE = 10.0
"""How many seconds a peer has to prove that it knows the key; counted again once it has sent a valid hello."""

ROOM = 1 << 20
"""How much of one call may be undelivered before reading from it pauses; `weight` gives the share of a frame."""

MOST_UNREAD = 1 << 26
"""How many bytes callbacks may send to a call that does not read them."""


def weight(frame: Frame) -> int:
    """What a frame counts while it is undelivered: at most 64 frames fit, and fewer if they are long."""
    return len(frame.payload) + (ROOM >> 6)


class Receiver(Protocol):
    """The channel of a call."""

    def connected(self, connection: Connection) -> str:
        """Accept an authenticated connection; a non-empty text is the reason for refusing it."""
        ...

    def received(self, frame: Frame) -> None:
        """Take a frame; `Connection.delivered` must be called with it when it has been handled.

        Raises:
            ProtocolError: The frame is not valid now.
        """
        ...

    def disconnected(self, connection: Connection) -> None:
        """The connection is closed; nothing more arrives on it."""
        ...

    def given_up(self, connection: Connection, error: Exception) -> None:
        """The same, because a message could not be read."""
        ...


class ConnectionRegistry(Protocol):
    """Accepts connections, and knows the channels."""

    def announced(self, connection: Connection) -> None:
        """Note that the connection has sent a valid hello."""
        ...

    def known(self, connection: Connection, number: int) -> Receiver | None:
        """Note that the connection is authenticated; returns the channel of that number, if there is one."""
        ...

    def gone(self, connection: Connection) -> None:
        """Note that the connection was closed."""
        ...


class Connection:
    """A connected socket, served by a loop. Only for the loop's thread.

    Args:
        loop: The loop.
        accepted: The socket; closed with the connection.
        key: The key that the peer must know.
        registry: The server that accepted it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, accepted: socket.socket, key: bytes, registry: ConnectionRegistry
    ) -> None:
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._loop = loop
        self._socket = accepted
        self._registry = registry
        self._handshake = DriverHandshake(key)
        self._decoder = Decoder()
        self._receiver: Receiver | None = None
        self._undelivered = 0
        self._is_reading = False
        self._outgoing: deque[memoryview] = deque()
        self._unsent = 0
        self._write_closed = False  # the peer no longer reads, but what it has sent still counts
        self._closed = False
        self._is_given_up = False  # whatever is received is dropped
        self._idle_limit: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expect(HANDSHAKE_PATIENCE)
        self._read_on()

    # ------------------------------------------------------------------ for channels

    def send(self, frame: Frame) -> None:
        """Send a frame, as fast as the peer reads."""
        self._write(encode(frame))

    def check_room(self) -> None:
        """Check that the peer reads what it is sent. May be called from any thread.

        Raises:
            CommError: The peer does not read.
        """
        if self._unsent > MOST_UNREAD:
            raise CommError(
                f"{self._unsent:,} bytes wait for the call to read them: it must call comm.receive() or comm.poll()"
            )

    def delivered(self, frame: Frame) -> None:
        """Note that a frame has been handled, and resume reading if it was paused for lack of room."""
        if self._is_given_up:
            return
        self._undelivered -= weight(frame)
        if not self._closed:
            self._take_frames()

    def expect_end(self, patience: float) -> None:
        """Close the connection once it was silent for `patience` seconds: its call has ended, so it should end soon."""
        self._idle_limit = patience
        if self._is_reading:
            self._expect(patience)

    def close(self) -> None:
        """Close the connection at once; unread data is lost."""
        if self._closed:
            return
        self._closed = True
        self._expect(None)
        self._stop_reading()
        self._loop.remove_writer(self._socket)
        hang_up(self._socket)
        self._registry.gone(self)
        receiver, self._receiver = self._receiver, None  # which knows this one
        if receiver is not None:
            receiver.disconnected(self)

    # ------------------------------------------------------------------ reading

    def _read_on(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._socket, self._readable)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset: treated like a normal end
            data = b""
        if not data:
            self.close()
            return
        if self._is_given_up:
            return
        try:
            if self._handshake.stage is Stage.KNOWN:
                self._decoder.feed(data)
            else:
                self._shake_hands(data)
        except ProtocolError as error:
            self._refuse(error)
        except NoMemoryError as error:
            self._give_up(error)
        self._take_frames()

    def _refuse(self, error: ProtocolError) -> None:
        _log.debug("a connection was closed: %s", error)
        self.close()

    def _give_up(self, error: NoMemoryError) -> None:
        """End the conversation, since a message cannot be read; what the peer still sends is dropped.

        The socket stays open until the peer has read why: data in transit is lost when a socket is closed that has
        unread data.
        """
        self._is_given_up = True
        self._undelivered = 0
        self.send(Frame(FrameKind.FAILURE, payload=str(error).encode()))
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.given_up(self, error)

    def _take_frames(self) -> None:
        """Hand over as many frames as fit, and continue reading if there is still room."""
        try:
            self._hand_over()
        except ProtocolError as error:
            self._refuse(error)
        except NoMemoryError as error:
            self._give_up(error)
        if self._closed:
            return
        has_room = self._undelivered < ROOM
        if has_room:
            self._read_on()
        else:
            self._stop_reading()
        if self._idle_limit is not None:
            self._expect(self._idle_limit if has_room else None)  # while we do not read, silence means nothing

    def _hand_over(self) -> None:
        while not (self._closed or self._is_given_up) and self._undelivered < ROOM:
            frame = self._decoder.next()
            if frame is None:
                break
            self._undelivered += weight(frame)
            assert self._receiver is not None  # only an authenticated peer can send frames
            self._receiver.received(frame)

    def _expect(self, patience: float | None) -> None:
        """Close the connection after `patience` seconds, unless this is called again before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if patience is None else self._loop.call_later(patience, self.close)

    # ------------------------------------------------------------------ authentication

    def _shake_hands(self, data: bytes) -> None:
        before = self._handshake.stage
        reply = self._handshake.receive(data)
        if reply:
            self._write(reply)
        if self._handshake.stage is before or self._closed:
            return
        if self._handshake.stage is Stage.ANNOUNCED:
            self._expect(HANDSHAKE_PATIENCE)
            self._registry.announced(self)
        else:
            self._come_in()

    def _come_in(self) -> None:
        self._expect(None)
        channel = self._registry.known(self, self._handshake.number)
        why_not = OVER if channel is None else channel.connected(self)
        if why_not:
            self.send(Frame(FrameKind.REFUSAL, payload=why_not.encode()))
            self.close()
            return
        self._receiver = channel
        self._decoder.feed(self._handshake.rest)
        self.send(Frame(FrameKind.WELCOME))

    # ------------------------------------------------------------------ writing

    def _write(self, data: bytes) -> None:
        if self._write_closed or self._closed:
            return
        self._outgoing.append(memoryview(data))
        self._unsent += len(data)
        if len(self._outgoing) == 1:
            self._writable()
            if self._outgoing:
                self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            while self._outgoing:
                piece = self._outgoing[0]
                sent = self._socket.send(piece)
                self._unsent -= sent
                if sent == len(piece):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = piece[sent:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._write_closed = True
            self._outgoing.clear()
            self._unsent = 0
        self._loop.remove_writer(self._socket)
