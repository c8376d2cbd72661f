"""Which requests the server answers: those with its key, for one of its own names, and not from another site's page."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

KEY_BYTES = 24
"""How many random bytes a key has."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: load its own files, and ask its own server."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address has the key in it
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer."""


def new_key() -> str:
    """A key that cannot be guessed."""
    return secrets.token_urlsafe(KEY_BYTES)


def is_key(given: str, key: str) -> bool:
    """Whether this is the key. Takes the same time for every wrong one."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


class Guard:
    """Checks where a request comes from.

    Another site can have its own name resolved to this machine, and its page can then request anything: the browser
    takes that for the same site (DNS rebinding). But the request contains that name, so only requests for names of this
    machine are answered, and for addresses, which cannot be rebound.

    Args:
        names: Further host names under which the server answers, such as that of a proxy.
    """

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        here = {"localhost", socket.gethostname(), socket.getfqdn()}
        self._names = frozenset(name.lower() for name in (*here, *names))

    def refusal(self, host: str | None, origin: str | None, fetch_site: str | None, fetch_mode: str | None) -> str:
        """Why a request is not answered; empty if it is.

        Args:
            host: Its `Host` header.
            origin: Its `Origin` header; None if there is none.
            fetch_site: Its `Sec-Fetch-Site` header.
            fetch_mode: Its `Sec-Fetch-Mode` header.
        """
        if not self._is_here(host):
            return (
                f"this server does not answer to the name {_name(host)!r}. "
                "If it is yours, start `amltk serve` with --name and that name"
            )
        if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
            return "this server answers its own page only"
        if fetch_site not in {None, "same-origin", "none"} and fetch_mode != "navigate":
            return "this server answers its own page only"
        return ""

    def _is_here(self, host: str | None) -> bool:
        name = _name(host)
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(host: str | None) -> str:
    """The name or address in a `Host` header, without port and brackets; empty if it is invalid."""
    try:
        return (urlsplit(f"//{host or ''}").hostname or "").rstrip(".")
    except ValueError:
        return ""
