"""Sockets that wait as long as it takes, whatever the program or a library has given to `socket.setdefaulttimeout`."""

from __future__ import annotations

import socket


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets that are connected with one another.

    Raises:
        OSError: There can be no more descriptors.
    """
    one, other = socket.socketpair()
    one.settimeout(None)
    other.settimeout(None)
    return one, other


def socket_of(descriptor: int) -> socket.socket:
    """The socket with this descriptor, which closes it."""
    sock = socket.socket(fileno=descriptor)
    sock.settimeout(None)
    return sock


def unix_socket() -> socket.socket:
    """A socket that is not connected, for processes of this machine."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(None)
    return sock
