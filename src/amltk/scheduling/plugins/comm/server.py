"""The driver's end: one listener for a run, on the run's own loop, without a thread.

The sockets are read by the loop directly and not through its transports: these drop what has arrived but was not read
as soon as something cannot be written, and so would lose the last messages of a call that has ended.
"""

from __future__ import annotations

import itertools
import logging
import socket
from typing import TYPE_CHECKING

from amltk.scheduling.plugins.comm.connection import Connection
from amltk.scheduling.plugins.comm.listener import BACKLOG, listen
from amltk.scheduling.plugins.comm.protocol import Stage, make_key
from amltk.scheduling.plugins.comm.ticket import SERVED, Ticket

if TYPE_CHECKING:
    import asyncio

    from amltk.scheduling.plugins.comm.connection import Receiver

_log = logging.getLogger(__name__)

MOST_STRANGERS = 4 * BACKLOG
"""How many connections may be there that have said nothing, and as many that have only said hello with the key.

Of more, the one goes that has been there for longest. It would have to be pushed out by a crowd that comes within a few
turns of the loop, for so long a worker takes, and no more than `BACKLOG` are let in in each.
"""

RESPITE = 1.0
"""Seconds for which nobody is let in when the system has no descriptor left."""


class Server:
    """Lets workers in that have the key of the run, and brings each together with the channel that it belongs to.

    Made and asked for tickets from any thread; everything else happens on the loop's.

    Args:
        loop: The loop of the run.
        interface: As in `listen`.
        remote: As in `listen`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interface: str | None, *, remote: bool) -> None:
        self._loop = loop
        self._listener = listen(interface, remote=remote)
        SERVED[self._listener.address] = loop
        self._host = socket.gethostname()
        self._key = make_key()
        self._numbers = itertools.count(1)
        self._channels: dict[int, Receiver] = {}
        self._waiting: dict[Stage, dict[Connection, None]] = {Stage.STRANGER: {}, Stage.ANNOUNCED: {}}
        self._known: set[Connection] = set()
        self._respite: asyncio.TimerHandle | None = None
        self._closed = False
        loop.call_soon_threadsafe(self._open)  # who connects before that waits at the door

    def ticket(self, channel: Receiver) -> Ticket:
        """Register a channel; what its worker needs to connect to it."""
        number = next(self._numbers)
        self._channels[number] = channel
        return Ticket(self._listener.address, number, self._key, self._host)

    def forget(self, number: int) -> None:
        """Let nobody in any more for a channel."""
        self._channels.pop(number, None)

    def close(self) -> None:
        """Let nobody in any more, and part with those who are there."""
        self._closed = True
        self._close_door()
        if self._respite is not None:
            self._respite.cancel()
        self._listener.close()
        del SERVED[self._listener.address]
        for connection in (*self._waiting[Stage.STRANGER], *self._waiting[Stage.ANNOUNCED], *self._known):
            connection.close()

    # ------------------------------------------------------------------ for connections

    def announced(self, connection: Connection) -> None:
        """Note that a stranger has said hello with the key."""
        del self._waiting[Stage.STRANGER][connection]
        self._let_wait(connection, Stage.ANNOUNCED)

    def known(self, connection: Connection, number: int) -> Receiver | None:
        """Note that a connection has shown the key; the channel that it belongs to, if there is one."""
        del self._waiting[Stage.ANNOUNCED][connection]
        self._known.add(connection)
        return self._channels.get(number)

    def gone(self, connection: Connection) -> None:
        """Note that a connection was closed."""
        for waiting in self._waiting.values():
            waiting.pop(connection, None)
        self._known.discard(connection)

    def _let_wait(self, connection: Connection, stage: Stage) -> None:
        waiting = self._waiting[stage]
        if len(waiting) >= MOST_STRANGERS:
            next(iter(waiting)).close()
        waiting[connection] = None

    # ------------------------------------------------------------------ the door

    def _open(self) -> None:
        self._respite = None
        if not self._closed:
            self._loop.add_reader(self._listener.socket, self._accept)

    def _close_door(self) -> None:
        self._loop.remove_reader(self._listener.socket)

    def _accept(self) -> None:
        """Let in who waits; not more at a time than there is room for, so that workers can say hello in between."""
        for _ in range(BACKLOG):
            try:
                accepted, _address = self._listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("a worker cannot be let in now, and waits: %s", error)
                self._close_door()
                self._respite = self._loop.call_later(RESPITE, self._open)
                return
            self._let_wait(Connection(self._loop, accepted, self._key, self), Stage.STRANGER)
