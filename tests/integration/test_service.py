"""examples/service.py, a web service over a scheduler: a real server, and real clients that misbehave."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = str(Path(__file__).parents[2] / "examples")

SERVER = """
import socket
import uvicorn
import service

if __name__ == "__main__":
    {prepare}
    listener = socket.create_server(("127.0.0.1", 0))
    print("port", listener.getsockname()[1])
    config = uvicorn.Config(service.app, log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
"""

ENDED_BY_SIGTERM = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Which one it is depends on uvicorn."""


@contextmanager
def served(prepare: str = "pass") -> Iterator[tuple[Script, httpx.Client]]:
    """Start the service, and a client for it."""
    with Script(SERVER.format(prepare=prepare), path=(*PATHS, EXAMPLES)) as script:
        script.wait_for("port")
        port = int(script.lines[-1].split()[1])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=GUARD) as client:
            yield script, client


def wait_until(client: httpx.Client, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Poll the state until it meets the condition."""
    deadline = time.monotonic() + GUARD
    while not condition(state := client.get("/state").json()):
        assert time.monotonic() < deadline, state
    return state


def ask_for_ever(client: httpx.Client, *, pending: int) -> socket.socket:
    """Send a request that is not answered in time; return its connection once so many calls are pending."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port), GUARD)
    connection.sendall(f"GET /root?x=9&seconds={10 * GUARD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    wait_until(client, lambda state: state["pending"] == pending)
    return connection


def test_requests_good_and_bad() -> None:
    """A failing call and an invalid request get error responses, and the service continues."""
    with served() as (script, client):
        assert client.get("/root", params={"x": 9}).json() == {"root": 3.0}
        assert client.get("/root", params={"x": "nine"}).status_code == 422
        bad = client.get("/root", params={"x": -1})
        assert (bad.status_code, bad.json()["detail"]) == (400, "math domain error")
        assert client.get("/root", params={"x": 16}).json() == {"root": 4.0}
        assert client.get("/state").json() == {"running": True, "pending": 0, "done": 2, "failed": 1, "cancelled": 0}
        script.send(signal.SIGTERM)
        ended = script.end()
    assert ended.code in ENDED_BY_SIGTERM, ended.errors


def test_a_client_that_goes_away() -> None:
    """Its call is cancelled and its worker replaced; other clients are served."""
    with served() as (script, client):
        ask_for_ever(client, pending=1).close()
        wait_until(client, lambda state: state["cancelled"] == 1 and state["pending"] == 0)
        assert client.get("/root", params={"x": 9}).json() == {"root": 3.0}
        script.send(signal.SIGTERM)
        ended = script.end()
    assert ended.code in ENDED_BY_SIGTERM, ended.errors


def test_the_end_of_the_server_with_work_pending() -> None:
    """SIGTERM ends the server although pending calls would never return; no process is left."""
    with served() as (script, client), ask_for_ever(client, pending=1), ask_for_ever(client, pending=2):
        script.send(signal.SIGTERM)
        ended = script.end()
    assert ended.code in ENDED_BY_SIGTERM, ended.errors


def test_a_run_that_has_ended_by_an_error() -> None:
    """The response to a request says why nothing is computed any more."""
    with served('service.roots.on_result(lambda *_: {}["the disk is full"])') as (script, client):
        assert client.get("/root", params={"x": 9}).json() == {"root": 3.0}
        wait_until(client, lambda state: not state["running"])
        refused = client.get("/root", params={"x": 9})
        assert refused.status_code == 503
        assert "KeyError('the disk is full')" in refused.json()["detail"]
        script.send(signal.SIGTERM)
        ended = script.end()
    assert "the disk is full" in ended.errors
