"""Where the driver of a run listens."""

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
"""How many may wait to be let in."""

LONGEST_PATH = 100
"""Bytes; the system's own limit is 104 to 108."""

LOOPBACK = "127.0.0.1"


class Listener:
    """A socket that listens.

    Args:
        bound: The socket; it listens from now on.
        address: Where it can be reached.
        clean_up: Called after it was closed.
    """

    def __init__(self, bound: socket.socket, address: Address, clean_up: Callable[[], object] = lambda: None) -> None:
        self.socket: socket.socket = bound
        self.address: Address = address
        self._clean_up = clean_up
        bound.setblocking(False)
        bound.listen(BACKLOG)

    def close(self) -> None:
        """Listen no more."""
        hang_up(self.socket)
        self._clean_up()


def hang_up(connection: socket.socket) -> None:
    """Close a socket, also where a fork of this process has it, as workers may be."""
    with contextlib.suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def listen(interface: str | None, *, remote: bool) -> Listener:
    """Listen on a Unix socket that nobody else may open, or on TCP.

    Args:
        interface: Where to listen by TCP: the name of a network interface or an IP address of this machine; None for
            a Unix socket, or for the loopback interface where workers may be `remote`.
        remote: Whether workers may be on other machines.

    Raises:
        ValueError: There is no such interface, or it has no address.
        OSError: The system does not let us.
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
    """A new folder that is only ours, with a path that is short enough for a socket in it."""
    usual = Path(tempfile.gettempdir())
    parent = usual if len(bytes(usual / "amltk-comm-xxxxxxxx" / "comm")) <= LONGEST_PATH else Path("/tmp")
    return tempfile.mkdtemp(prefix="amltk-comm-", dir=parent)


def address_of(interface: str) -> str:
    """The IP address that an interface of this machine has, IPv4 before IPv6; an IP address is one already.

    Raises:
        ValueError: There is no such interface, it has no address, or the address does not say which interface.
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
        if entry.family in {socket.AF_INET, socket.AF_INET6} and "%" not in entry.address  # one of this link only
    ]
    if not found:
        raise ValueError(
            f"interface={interface!r}: must be the name of a network interface of this machine that has an address, or"
            f" such an address; there are {', '.join(repr(name) for name in known)}"
        )
    return min(found)[1]
