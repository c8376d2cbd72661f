"""`amltk serve` in a separate process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Answer(NamedTuple):
    """The server's response to a request."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def data(self) -> Any:
        return json.loads(self.text)


class PageServer:
    """A running server.

    Attributes:
        link: The link that it printed.
        pid: Its process.
    """

    def __init__(self, link: str, pid: int) -> None:
        self.link: str = link
        self.pid: int = pid
        parts = urlsplit(link)
        assert parts.hostname is not None
        self.address: tuple[str, int] = parts.hostname, parts.port or 0
        self.root: str = parts.path

    def ask(self, path: str = "", *, whole: bool = False, method: str = "GET", **headers: str) -> Answer:
        """Request a path below the key; with `whole`, exactly this path."""
        connection = http.client.HTTPConnection(*self.address, timeout=GUARD)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path if whole else self.root + path, headers=given)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read().decode())
        finally:
            connection.close()

    @contextmanager
    def news(self) -> Iterator[Iterator[Any]]:
        """The updates that an open page receives, in order: the location of an experiment, and its overview."""
        connection = http.client.HTTPConnection(*self.address, timeout=GUARD)
        try:
            connection.request("GET", self.root + "api/events")
            yield self._messages(connection.getresponse())
        finally:
            connection.close()

    @staticmethod
    def _messages(answer: http.client.HTTPResponse) -> Iterator[Any]:
        while line := answer.readline():
            if line.startswith(b"id: "):
                yield int(line[4:]), json.loads(answer.readline()[6:])


@contextmanager
def page_server(*folders: Path, options: tuple[str, ...] = ()) -> Iterator[PageServer]:
    """Run it; at the end it must exit cleanly on Ctrl-C."""
    command = [sys.executable, "-m", "amltk", "serve", *map(str, folders), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        link = process.stdout.readline().strip()
        assert link, process.communicate()[1]
        yield PageServer(link, process.pid)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=GUARD)
        assert (process.returncode, errors) == (0, ""), errors
    finally:
        process.kill()
        process.communicate()
