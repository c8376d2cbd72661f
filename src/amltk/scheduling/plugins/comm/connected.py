"""The driver's side of the comm of a call that is made elsewhere: in a process, a thread or on another machine."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.plugins.comm import payloads
from amltk.scheduling.plugins.comm.conversation import Conversation, nothing
from amltk.scheduling.plugins.comm.messages import MsgKind, Request
from amltk.scheduling.plugins.comm.protocol import CLOSED, Frame, FrameKind, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call, Outcome
    from amltk.scheduling.plugins.comm.connection import Connection
    from amltk.scheduling.plugins.comm.server import Server
    from amltk.scheduling.plugins.comm.ticket import Ticket
    from amltk.scheduling.run import Run

PATIENCE = 5.0
"""Seconds for which the connection of a call that has ended may be silent; somebody else may hold it open: a fork."""

KINDS = {FrameKind[kind.name]: kind for kind in MsgKind}
"""What workers may say."""


class ConnectedConversation(Conversation):
    """A conversation over the connection that the call makes when it opens its comm.

    Every attempt to compute the call may make one, one at a time. It is over when the call has ended.
    """

    def __init__(self, call: Call, run: Run, server: Server) -> None:
        super().__init__(call, run)
        self._server = server
        self._connection: Connection | None = None
        self._attempt = 0  # that the connection belongs to
        self._hold: _Hold | None = None
        self.ticket: Ticket = server.ticket(self)

    # ------------------------------------------------------------------ to the server, on the loop's thread

    def connected(self, connection: Connection) -> str:
        """Take the connection of this attempt; there can be only one."""
        if self._connection is not None:
            if self._attempt == self._call.attempt:
                return "the comm of this call is connected already"
            self._connection.close()  # whoever still holds it, the attempt that it belongs to is over
        self._connection = connection
        self._attempt = self._call.attempt
        return ""

    def received(self, frame: Frame) -> None:
        """Tell what a frame says.

        Raises:
            ProtocolError: A worker does not say such things, or not now.
        """
        kind = KINDS.get(frame.kind)
        if (
            kind is None
            or (kind is MsgKind.OPEN) is self.is_open
            or (kind is MsgKind.REQUEST) is not bool(frame.number)
        ):
            raise ProtocolError(f"{frame.kind.name} makes no sense now")
        assert self._connection is not None  # it brings the frame
        request = Request(frame.number, self._connection) if frame.number else None
        done = partial(self._connection.delivered, frame)
        self._tell(kind, partial(payloads.load, frame.payload), request, done=done)

    def disconnected(self, connection: Connection) -> None:
        """Tell that it is closed, if the call has not, and let the ending of the call be told."""
        if connection is not self._connection:
            return
        self._connection = None
        if self.is_open:
            self._tell(MsgKind.CLOSE, nothing)
        if self._hold is not None and not self._hold.done():
            self._hold.set_result(False)

    # ------------------------------------------------------------------ to the call's life

    def review(self, outcome: Outcome) -> asyncio.Future[bool] | None:
        """Hold the ending of an attempt back until everything that it has said was told."""
        if self._connection is None:
            return None
        if outcome.cancelled:  # it may go on unseen
            self._connection.close()
            return None
        self._hold = _Hold(self._run.loop, self._connection.close)
        self._connection.expect_end(PATIENCE)
        return self._hold

    def drop(self) -> None:
        """Let nobody connect any more, and part with who is connected: the call has ended."""
        self._server.forget(self.ticket.number)
        if self._connection is not None:
            self._connection.close()

    # ------------------------------------------------------------------ to users

    def send(self, data: Any) -> bool:
        """See `Conversation.send`."""
        return self._say(self._connection, Frame(FrameKind.MESSAGE, payload=payloads.for_worker(data)))

    def close(self, reason: str = "") -> bool:
        """See `Conversation.close`."""
        return self._say(self._connection, Frame(FrameKind.CLOSE, payload=(reason or CLOSED).encode()))

    def _say(self, connection: object, frame: Frame) -> bool:
        here = self._connection  # read once: it may go on the loop's thread meanwhile
        if here is None or here is not connection:
            return False
        here.check_room()
        if not self._run.is_here():
            return self._say_soon(here, frame)
        here.send(frame)
        return True

    def _say_soon(self, connection: Connection, frame: Frame) -> bool:
        try:
            self._run.loop.call_soon_threadsafe(connection.send, frame)
        except RuntimeError:
            return False  # the loop is closed: the run is over
        return True

    def _answer_with(self, response: Any) -> Callable[[Request], bool]:
        payload = payloads.for_worker(response)
        return lambda request: self._say(request.connection, Frame(FrameKind.RESPONSE, request.number, payload))

    def _fail(self, request: Request, reason: str) -> None:
        connection = self._connection
        if connection is not None and connection is request.connection:
            # Not at once, even on the loop's thread: a finalizer may call this in the middle of anything.
            self._say_soon(connection, Frame(FrameKind.FAILURE, request.number, reason.encode()))


class _Hold(asyncio.Future[bool]):
    """Holds an ending back; to cancel it is to wait no longer.

    Args:
        loop: The loop of the run.
        give_up: Called when it is cancelled, before anything else: what this tells is told before the ending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[], None]) -> None:
        super().__init__(loop=loop)
        self._give_up = give_up

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self._give_up()
        return super().cancel(msg)
