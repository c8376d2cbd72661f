"""By which address of this machine workers on other machines reach it."""

from __future__ import annotations

import socket

ROUTE_PORT = 9
"""A port for a route to be looked up: nothing is sent there."""


def address_towards(host: str) -> str | None:
    """The address with which this machine reaches another one; None if that has no address, or there is no route."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, ROUTE_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as route:
            route.connect(address)
            found: str = route.getsockname()[0]
    except OSError:
        return None
    return found
