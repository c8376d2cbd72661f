"""The driver's side of the comm of a call that runs elsewhere: in a process, a thread or on another machine."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.plugins.comm import payloads
from amltk.scheduling.plugins.comm._driver.conversation import Conversation, nothing
from amltk.scheduling.plugins.comm.messages import MsgKind, Request
from amltk.scheduling.plugins.comm.protocol import CLOSED, Frame, FrameKind, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._run.run import Run
    from amltk.scheduling.call import Call, Outcome
    from amltk.scheduling.plugins.comm._driver.connection import Connection
    from amltk.scheduling.plugins.comm._driver.server import Server
    from amltk.scheduling.plugins.comm.ticket import Ticket

_log = logging.getLogger(__name__)

PATIENCE = 5.0
"""How many seconds the connection of an ended call may be silent; a fork may hold it open."""

KINDS = {FrameKind[kind.name]: kind for kind in MsgKind}
"""The kinds of frames that workers may send."""


class ConnectedConversation(Conversation):
    """A conversation over the connection that the call creates when it opens its comm.

    Each attempt to compute the call may connect, one at a time. The conversation is over when the call has ended.
    """

    def __init__(self, call: Call, run: Run, server: Server) -> None:
        super().__init__(call, run)
        self._server = server
        self._connection: Connection | None = None
        self._attempt = 0  # of the connection
        self._hold: _Hold | None = None
        self.ticket: Ticket = server.ticket(self)

    # ------------------------------------------------------------------ for the server, on the loop's thread

    def connected(self, connection: Connection) -> str:
        """Accept the connection of this attempt; there can be only one."""
        if self._connection is not None:
            if self._attempt == self._call.attempt:
                return "the comm of this call is already connected"
            self._connection.close()  # someone may still hold it, but its attempt is over
        self._connection = connection
        self._attempt = self._call.attempt
        return ""

    def received(self, frame: Frame) -> None:
        """Deliver the message in a frame.

        Raises:
            ProtocolError: A worker may not send this kind of frame, or not now.
        """
        kind = KINDS.get(frame.kind)
        if (
            kind is None
            or (kind is MsgKind.OPEN) is self._has_opened
            or (kind is MsgKind.REQUEST) is not bool(frame.number)
        ):
            raise ProtocolError(f"{frame.kind.name} is not valid now")
        assert self._connection is not None  # the frame came over it
        request = Request(frame.number, self._connection) if frame.number else None
        done = partial(self._connection.delivered, frame)
        payload = frame.payload
        self._tell(kind, partial(payloads.load, payload), request, done=done, payload=lambda: payload)

    def disconnected(self, connection: Connection) -> None:
        """Deliver the closing of the comm if the call has not closed it, and stop holding back the call's end."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._has_opened:
            self._tell(MsgKind.CLOSE, nothing)
        self.end_hold()

    def given_up(self, connection: Connection, error: Exception) -> None:
        """Close the comm, since one of its messages could not be read."""
        _log.warning("the comm of a call of %s is closed: %s", self.task.name, error)
        self.disconnected(connection)

    # ------------------------------------------------------------------ for the life of the call

    def review(self, outcome: Outcome) -> asyncio.Future[bool] | None:
        """Hold back the end of an attempt until all of its messages have been delivered."""
        if self._run.is_replaying and not outcome.cancelled:
            self._hold = _Hold(self._run.loop, lambda: None)  # until its record comes
            return self._hold
        if self._connection is None:
            return None
        if outcome.cancelled:  # it may keep running unnoticed
            self._connection.close()
            return None
        self._hold = _Hold(self._run.loop, self._connection.close)
        self._connection.expect_end(PATIENCE)
        return self._hold

    def end_hold(self) -> bool:
        """See `Conversing`."""
        hold = self._hold
        if hold is None or hold.done():
            return False
        hold.set_result(False)
        return True

    def drop(self) -> None:
        """Refuse new connections and close the current one: the call has ended."""
        self._server.forget(self.ticket.number)
        if self._connection is not None:
            self._connection.close()

    # ------------------------------------------------------------------ for users

    def send(self, data: Any) -> bool:
        """See `Conversation.send`."""
        sent = self._say(
            self._connection,
            Frame(FrameKind.MESSAGE, payload=payloads.for_worker(self._with_shared(data, is_pickled=True))),
        )
        return self._as_told(sent)

    def close(self, reason: str = "") -> bool:
        """See `Conversation.close`."""
        return self._as_told(self._say(self._connection, Frame(FrameKind.CLOSE, payload=(reason or CLOSED).encode())))

    def _say(self, connection: object, frame: Frame) -> bool:
        here = self._connection  # read once: the loop's thread may drop it meanwhile
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
        payload = payloads.for_worker(self._with_shared(response, is_pickled=True))
        return lambda request: self._say(request.connection, Frame(FrameKind.RESPONSE, request.number, payload))

    def _fail(self, request: Request, reason: str) -> None:
        connection = self._connection
        if connection is not None and connection is request.connection:
            # Deferred even on the loop's thread: a finalizer may call this at any point.
            self._say_soon(connection, Frame(FrameKind.FAILURE, request.number, reason.encode()))


class _Hold(asyncio.Future[bool]):
    """Holds an end back; cancelling it means waiting no longer.

    Args:
        loop: The loop of the run.
        give_up: Called when this is cancelled, before anything else, so that its events come before the end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[], None]) -> None:
        super().__init__(loop=loop)
        self._give_up = give_up

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self._give_up()
        return super().cancel(msg)
