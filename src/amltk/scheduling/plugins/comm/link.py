"""The worker's end of a connection: blocking, and usable by several threads at once."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from amltk.exceptions import CloseRequestError, CommClosedError, CommTimeoutError
from amltk.scheduling.plugins.comm import payloads
from amltk.scheduling.plugins.comm.messages import MsgKind
from amltk.scheduling.plugins.comm.protocol import GONE, Decoder, Frame, FrameKind, NoMemoryError, ProtocolError, encode

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 16
"""How many bytes are received at once."""


class SocketLink:
    """A connection to the run.

    Several threads may use it: one sends at a time, and of the threads that wait, one reads for all.

    Args:
        connection: The socket; closed by `end`.
        decoder: The decoder, with the data received so far.
        is_remote: Whether closing the connection may lose data in transit.
    """

    def __init__(self, connection: socket.socket, decoder: Decoder, *, is_remote: bool) -> None:
        self._socket = connection
        self._decoder = decoder
        self._is_remote = is_remote
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._is_reading = False
        self._numbers = 0
        self._answers: dict[int, Frame | None] = {}  # by request; None until the answer arrives
        self._messages: deque[bytes] = deque()
        self._over: Exception | None = None  # why nothing can be sent any more; None while it can
        self._sort()

    # ------------------------------------------------------------------ for the call

    def is_here(self) -> bool:
        """Whether this is the process that created the link, and not a fork of it."""
        return os.getpid() == self._pid

    def tell(self, kind: MsgKind, data: Any) -> None:
        """Send a message that needs no answer; waits while the driver is busy.

        Raises:
            CloseRequestError: A callback has closed the comm.
            CommClosedError: The driver is gone.
        """
        payload = payloads.for_driver(data)
        if kind is not MsgKind.CLOSE:  # which is also sent if the driver has asked for it
            self._glance()
        self._send(Frame(FrameKind[kind.name], 0, payload))

    def request(self, data: Any, timeout: float | None) -> Any:
        """Send a request and wait for the answer.

        Raises:
            CommTimeoutError: No answer arrived in time.
            CloseRequestError: There will be no answer, or a callback has closed the comm.
            CommClosedError: The driver is gone.
        """
        payload = payloads.for_driver(data)
        until = _until(timeout)
        self._glance()
        with self._changed:
            self._numbers += 1
            number = self._numbers
            self._answers[number] = None
        try:
            self._send(Frame(FrameKind.REQUEST, number, payload), until)
            self._wait(lambda: self._answers[number] is not None, until, f"no response within {timeout} s")
        finally:
            with self._changed:
                answer = self._answers.pop(number)
        assert answer is not None
        if answer.kind is FrameKind.FAILURE:
            raise CloseRequestError(answer.payload.decode())
        return payloads.load(answer.payload)

    def receive(self, timeout: float | None) -> Any:
        """Wait for the next message from the driver.

        Raises:
            CommTimeoutError: No message arrived in time.
            CloseRequestError: A callback has closed the comm, after the last message.
            CommClosedError: The driver is gone.
        """
        until = _until(timeout)
        payload: bytes | None = None
        while payload is None:
            self._wait(lambda: self._messages, until, f"no message within {timeout} s")
            with self._changed:
                payload = self._messages.popleft() if self._messages else None  # another thread may have taken it
        return payloads.load(payload)

    def poll(self) -> bool:
        """Whether a message is there. If none is and no more can arrive, it raises like `receive`."""
        if not self._messages:
            self._glance()
        return bool(self._messages)

    def end(self) -> None:
        """Close the connection: the call has ended. Sent data still arrives."""
        if self.is_here():
            self._finish(CommClosedError("the call of this comm has ended"))
            try:
                self._socket.shutdown(socket.SHUT_WR)  # effective even if a fork also holds the socket
                while self._is_remote and self._socket.recv(CHUNK):
                    pass  # closing with unread data would discard data in transit
            except OSError:
                pass  # the driver closed first
        self._socket.close()

    # ------------------------------------------------------------------ sending

    def _send(self, frame: Frame, until: float | None = None) -> None:
        """Send a frame. Waits if it must, but only `until` that time before the frame has begun."""
        data = encode(frame)
        if not self._sending.acquire(timeout=-1 if until is None else _left(until)):
            raise CommTimeoutError("the run did not take the request in time: other messages are ahead of it")
        try:
            if until is not None and not _is_ready(self._socket, select.POLLOUT, _left(until)):
                raise CommTimeoutError("the run did not take the request in time: its callbacks are busy")
            try:
                self._socket.sendall(data)
            except OSError:
                # The peer no longer reads. It may have sent the reason.
                self._wait(lambda: False, None, "")
            except BaseException:
                self._finish(CommClosedError("sending was interrupted in the middle of a message"))
                raise
        finally:
            self._sending.release()

    # ------------------------------------------------------------------ receiving

    def _glance(self) -> None:
        """Read what has arrived, without waiting; then raise if nothing more can be sent."""
        self._check_process()
        with self._changed:
            is_first = not self._is_reading and self._over is None
            self._is_reading = self._is_reading or is_first
        if is_first:
            self._read(0.0)
        self._check_over()

    def _wait(self, is_there: Callable[[], object], until: float | None, late: str) -> None:
        """Wait until `is_there()`, reading for all threads unless another one does."""
        self._check_process()
        while True:
            with self._changed:
                if is_there():
                    return
                self._check_over()
                left = None if until is None else _left(until)
                if left == 0.0:
                    raise CommTimeoutError(late)
                if self._is_reading:
                    self._changed.wait(left)
                    continue
                self._is_reading = True
            self._read(left)

    def _read(self, timeout: float | None) -> None:
        """Receive once, for at most `timeout` seconds. Only for the thread that has set `_is_reading`."""
        over: Exception | None = None
        try:
            if _is_ready(self._socket, select.POLLIN, timeout):
                data = self._socket.recv(CHUNK)
                self._decoder.feed(data)
                over = None if data else CommClosedError(GONE)
        except NoMemoryError as error:
            over = CommClosedError(str(error))
        except OSError as error:
            over = CommClosedError(f"{GONE} ({error})")
        finally:
            with self._changed:
                self._is_reading = False
                self._sort()
                if over is not None:
                    self._over = self._over or over
                self._changed.notify_all()

    def _sort(self) -> None:
        """Sort the received frames to the threads that wait for them."""
        try:
            while (frame := self._decoder.next()) is not None:
                if frame.kind is FrameKind.MESSAGE:
                    self._messages.append(frame.payload)
                elif frame.kind is FrameKind.FAILURE and not frame.number:
                    self._over = self._over or CommClosedError(frame.payload.decode())
                elif frame.kind is FrameKind.CLOSE:
                    self._over = self._over or CloseRequestError(frame.payload.decode())
                elif frame.number in self._answers:  # else no thread waits for it any more
                    self._answers[frame.number] = frame
        except ProtocolError as error:
            self._over = self._over or CommClosedError(f"the connection is out of step: {error}")
        except NoMemoryError as error:
            self._over = self._over or CommClosedError(str(error))

    def _finish(self, over: Exception) -> None:
        with self._changed:
            self._over = self._over or over
            self._changed.notify_all()

    def _check_over(self) -> None:
        if self._over is not None:
            raise type(self._over)(*self._over.args)  # a new exception each time: several threads may raise

    def _check_process(self) -> None:
        if not self.is_here():
            raise CommClosedError(
                f"process {self._pid} opened this comm, so its fork {os.getpid()} cannot use it: pass the"
                " data to that process"
            )


def _until(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _is_ready(connection: socket.socket, event: int, timeout: float | None) -> bool:
    """Whether the socket can be read or written, or is broken, within `timeout` seconds."""
    poll = select.poll()
    poll.register(connection, event)
    return bool(poll.poll(None if timeout is None else timeout * 1000))
