"""What has a file descriptor: a socket, one end of a pipe, an open file.

As other objects are pickled, its *number* would travel, and mean another file there, or the worker's own connection.
So picklers ask here first. Where something can hand over descriptors, sockets and ends of pipes are lent and arrive as
real ones; elsewhere they are refused, and files always, since their positions and buffers are here.
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
    """Travels in place of a descriptor."""

    def redeem(self) -> int:
        """The descriptor, in the process that has the ticket."""
        ...


Lend: TypeAlias = Callable[[int], Ticket]
"""Makes a ticket for a descriptor."""


def refuse(descriptor: int) -> Ticket:
    """Lends nothing.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"its file descriptor, {descriptor}, means something else in another process")


def _reduce_file(file: Any, _lend: Lend) -> Any:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(
        f"the file {file.name!r} is open in this process, and what is read or written elsewhere is another one"
    )


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
"""How they are reduced, by their exact types; picklers look here before they do anything else."""


def know_connections() -> None:
    """Have the ends of pipes known as well; before that is called, none may be pickled."""
    from multiprocessing.connection import Connection

    RULES[Connection] = _reduce_connection


def refuse_connections() -> None:
    """Have the plain `pickle` of this process refuse the ends of pipes, of which it would send the numbers."""
    from multiprocessing.connection import Connection

    if Connection not in copyreg.dispatch_table:
        know_connections()
        copyreg.pickle(Connection, _refuse_connection)  # type: ignore[arg-type] # it returns nothing


def _refuse_connection(connection: Connection) -> None:
    refuse(connection.fileno())
