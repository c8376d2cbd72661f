"""Pickling of objects with a file descriptor: sockets, ends of pipes, open files.

Pickled as usual, the descriptor's *number* would be sent, and refer to another file there, or to the worker's own
connection. So picklers ask here first. If descriptors can be sent, sockets and ends of pipes arrive as real ones;
otherwise they are refused. Files are always refused, since their position and buffer are in this process.
"""

from __future__ import annotations

import copyreg
import io
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Ticket(Protocol):
    """Is sent in place of a descriptor."""

    def redeem(self) -> int:
        """The descriptor, in the process that received the ticket."""
        ...


Lend: TypeAlias = Callable[[int], Ticket]
"""Creates a ticket for a descriptor."""


def refuse(descriptor: int) -> Ticket:
    """Refuse to lend a descriptor.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"its file descriptor {descriptor} means nothing in another process")


def _reduce_file(file: Any, _lend: Lend) -> Any:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(f"the file {file.name!r} is open in this process; its position and buffer cannot be sent")


def _reduce_socket(sock: socket.socket, lend: Lend) -> Any:
    if sock.fileno() < 0:
        raise TypeError("it is closed")
    return _socket, (lend(sock.fileno()), sock.family, sock.type, sock.proto, sock.gettimeout())


def _socket(ticket: Ticket, family: int, kind: int, proto: int, timeout: float | None) -> socket.socket:
    sock = socket.socket(family, kind, proto, fileno=ticket.redeem())
    sock.settimeout(timeout)
    return sock


def _reduce_connection(connection: Connection, lend: Lend) -> Any:
    return _connection, (lend(connection.fileno()), connection.readable, connection.writable)


def _connection(ticket: Ticket, readable: bool, writable: bool) -> Connection:
    from multiprocessing.connection import Connection

    return Connection(ticket.redeem(), readable, writable)


RULES: dict[type, Callable[[Any, Lend], Any]] = {io.TextIOWrapper: _reduce_file, socket.socket: _reduce_socket}
"""The reduction of each exact type; picklers check here first."""


def know_connections() -> None:
    """Add a rule for ends of pipes; before this, none may be pickled."""
    from multiprocessing.connection import Connection

    RULES[Connection] = _reduce_connection


def refuse_connections() -> None:
    """Have the plain `pickle` of this process refuse the ends of pipes, since it would send their numbers."""
    from multiprocessing.connection import Connection

    if Connection not in copyreg.dispatch_table:
        know_connections()
        copyreg.pickle(Connection, _refuse_connection)  # type: ignore[arg-type] # it returns nothing


def _refuse_connection(connection: Connection) -> None:
    refuse(connection.fileno())


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, which wait as long as it takes, whatever `socket.setdefaulttimeout` was given.

    Raises:
        OSError: There can be no more descriptors.
    """
    one, other = socket.socketpair()
    one.settimeout(None)
    other.settimeout(None)
    return one, other


def socket_of(descriptor: int) -> socket.socket:
    """The socket with this descriptor, which closes it; it too waits as long as it takes."""
    sock = socket.socket(fileno=descriptor)
    sock.settimeout(None)
    return sock
