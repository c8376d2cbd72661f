"""The listening socket of a run's driver."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Address = str | tuple[str, int]
"""The path of a Unix socket, or the host and port of a TCP one."""

BACKLOG = 128
"""How many connections may wait to be accepted."""

LONGEST_PATH = 100
"""The longest socket path in bytes; the system's own limit is 104 to 108."""

LOOPBACK = "127.0.0.1"


class Listener:
    """A listening socket.

    Args:
        bound: The socket; it starts listening.
        address: Where it can be reached.
        clean_up: Called after the socket was closed.
    """

    def __init__(self, bound: socket.socket, address: Address, clean_up: Callable[[], object] = lambda: None) -> None:
        self.socket: socket.socket = bound
        self.address: Address = address
        self._clean_up = clean_up
        bound.setblocking(False)
        bound.listen(BACKLOG)

    def close(self) -> None:
        """Stop listening."""
        hang_up(self.socket)
        self._clean_up()


def hang_up(connection: socket.socket) -> None:
    """Close a connection, even if a fork of this process, such as a worker, also holds the socket."""
    with contextlib.suppress(OSError):  # the peer closed first
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def listen(interface: str | None, *, remote: bool) -> Listener:
    """Listen on a Unix socket that only this user can open, or on TCP.

    Args:
        interface: Where to listen on TCP: the name of a network interface or an IP address of this machine; None for
            a Unix socket, or for the loopback interface if workers may be `remote`.
        remote: Whether workers may be on other machines.

    Raises:
        ValueError: The interface does not exist, or has no address.
        OSError: The operating system refuses.
    """
    if interface is None and not remote:
        return _listen_locally()
    host = LOOPBACK if interface is None else address_of(interface)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.bind((host, 0))
        return Listener(bound, (host, bound.getsockname()[1]))
    except BaseException:
        bound.close()
        raise


def _listen_locally() -> Listener:
    folder = _make_folder()
    bound = socket.socket(socket.AF_UNIX)
    try:
        path = f"{folder}/comm"
        bound.bind(path)
        return Listener(bound, path, lambda: shutil.rmtree(folder, ignore_errors=True))
    except BaseException:
        bound.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _make_folder() -> str:
    """A new folder that only this user can open, with a path short enough for a socket in it."""
    usual = Path(tempfile.gettempdir())
    parent = usual if len(bytes(usual / "amltk-comm-xxxxxxxx" / "comm")) <= LONGEST_PATH else Path("/tmp")
    return tempfile.mkdtemp(prefix="amltk-comm-", dir=parent)


def address_of(interface: str) -> str:
    """The IP address of an interface of this machine, IPv4 preferred; an IP address is returned as it is.

    Raises:
        ValueError: There is no such interface, it has no address, or the address is not specific to an interface.
    """
    try:
        given = ipaddress.ip_address(interface)
    except ValueError:
        return _look_up(interface)
    if given.is_unspecified or given.is_multicast:
        raise ValueError(f"interface={interface!r}: must be the address by which workers reach this machine")
    return interface


def _look_up(interface: str) -> str:
    import psutil

    known = psutil.net_if_addrs()
    found = [
        (entry.family != socket.AF_INET, entry.address)
        for entry in known.get(interface, ())
        if entry.family in {socket.AF_INET, socket.AF_INET6} and "%" not in entry.address  # valid on this link only
    ]
    if not found:
        raise ValueError(
            f"interface={interface!r}: must be the name of a network interface of this machine with an address, or"
            f" such an address; the interfaces are {', '.join(repr(name) for name in known)}"
        )
    return min(found)[1]
