"""Runs the server until it is stopped. Loaded only when Starlette and uvicorn are installed."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

import uvicorn

from amltk.web.app import make_app
from amltk.web.experiment import Experiment
from amltk.web.guard import new_key
from amltk.web.names import names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from amltk.web.app import News

PORT = 8421
"""The port that is tried first if none is given."""

TRIES = 50
"""How many ports are tried, one after the other, if none is given."""

PATIENCE = 1
"""How many seconds the shutdown waits for answers that are being sent."""


def serve(
    folders: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    names: tuple[str, ...] = (),
    ready: Callable[[str], object],
    ends_with: int | None = None,
) -> None:
    """Serve the page of these experiments until Ctrl-C or SIGTERM.

    Args:
        folders: The folders of their journals, which need not be there yet.
        host: The address to listen at. Everyone who can reach it and has the link can see everything.
        port: The port; 0 for any free one, None for the usual one or one that follows it.
        names: Further host names under which the server answers.
        ready: Called with the link once it can be opened.
        ends_with: A descriptor; the server ends when its other side is closed. None for no such condition.

    Raises:
        OSError: The address cannot be used.
    """
    listener = _listener(host, port)
    key = new_key()
    experiments = [Experiment(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]
    app = make_app(experiments, key=key, names=(host, *names))
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        http="h11",
        loop="asyncio",
        lifespan="on",
        timeout_graceful_shutdown=PATIENCE,
    )
    server = _Server(config, app.news)
    if ends_with is not None:
        threading.Thread(target=_end_with, args=(ends_with, server), daemon=True).start()
    with listener:
        listener.listen(512)  # from now on a browser waits instead of being refused
        ready(f"http://{_shown(host)}:{listener.getsockname()[1]}/{key}/")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended in order, and then raises it again
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends what open pages wait for before it waits for their connections.

    Args:
        config: Its options.
        news: The news for open pages.
    """

    def __init__(self, config: uvicorn.Config, news: News) -> None:
        super().__init__(config)
        self._news = news

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down in order; a page that does not read neither delays this nor is an error."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await self._news.close()
        await super().shutdown(sockets)


def _end_with(descriptor: int, server: uvicorn.Server) -> None:
    while os.read(descriptor, 1024):
        pass
    server.should_exit = True


def _listener(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    ports = range(PORT, PORT + TRIES) if port is None else (port,)
    for number in ports:
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE and number != ports[-1]:
                continue
            raise OSError(error.errno, f"cannot listen at {host}, port {number}: {error.strerror}") from error
        except BaseException:
            listener.close()
            raise
        return listener
    raise AssertionError("one port at least is tried")


def _shown(host: str) -> str:
    """An address as it is written in a link."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host  # noqa: PLR2004 - of the protocol
