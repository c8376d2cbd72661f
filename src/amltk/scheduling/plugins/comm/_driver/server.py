"""The driver's end: one listener per run, on the run's own loop, without a thread.

The loop reads the sockets directly and not through its transports: as soon as a write fails, these drop data that has
arrived but was not read, and so would lose the last messages of a call that has ended.
"""

from __future__ import annotations

import itertools
import logging
import socket
from typing import TYPE_CHECKING

from amltk.scheduling.plugins.comm._driver.connection import Connection
from amltk.scheduling.plugins.comm._driver.listener import BACKLOG, listen
from amltk.scheduling.plugins.comm.protocol import Stage, make_key
from amltk.scheduling.plugins.comm.ticket import SERVED, Ticket

if TYPE_CHECKING:
    import asyncio

    from amltk.scheduling.plugins.comm._driver.connection import Receiver

_log = logging.getLogger(__name__)

MOST_STRANGERS = 4 * BACKLOG
"""How many connections that have sent nothing may be open, and as many again that have only sent a valid hello.

Beyond that, the oldest is closed. To push out a worker that way, a crowd would have to arrive within the few turns of
the loop that the worker's handshake takes, and each turn accepts no more than `BACKLOG` connections.
"""

RESPITE = 1.0
"""How many seconds to stop accepting connections when the system has no descriptors left."""


class Server:
    """Accepts workers that know the key of the run, and connects each to its channel.

    It is created, and tickets are requested, on any thread; everything else happens on the loop's.

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
        loop.call_soon_threadsafe(self._open)  # earlier connections wait in the backlog

    def ticket(self, channel: Receiver) -> Ticket:
        """Register a channel; returns what its worker needs to connect to it."""
        number = next(self._numbers)
        self._channels[number] = channel
        return Ticket(self._listener.address, number, self._key, self._host)

    def forget(self, number: int) -> None:
        """Accept no more connections for a channel."""
        self._channels.pop(number, None)

    def close(self) -> None:
        """Accept no more connections, and close the existing ones."""
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
        """Note that a connection has sent a valid hello."""
        del self._waiting[Stage.STRANGER][connection]
        self._let_wait(connection, Stage.ANNOUNCED)

    def known(self, connection: Connection, number: int) -> Receiver | None:
        """Note that a connection is authenticated; returns the channel that it belongs to, if there is one."""
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

    # ------------------------------------------------------------------ accepting

    def _open(self) -> None:
        self._respite = None
        if not self._closed:
            self._loop.add_reader(self._listener.socket, self._accept)

    def _close_door(self) -> None:
        self._loop.remove_reader(self._listener.socket)

    def _accept(self) -> None:
        """Accept waiting connections; only as many at once as fit, so that workers can send their hello in between."""
        for _ in range(BACKLOG):
            try:
                accepted, _address = self._listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("cannot accept the connection of a worker now, will try again: %s", error)
                self._close_door()
                self._respite = self._loop.call_later(RESPITE, self._open)
                return
            self._let_wait(Connection(self._loop, accepted, self._key, self), Stage.STRANGER)
