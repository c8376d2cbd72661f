"""The server of the page: whom it answers, what it returns, and what it tolerates."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from amltk.cli.main import main
from amltk.journal import Kind, Writer
from amltk.web.guard import Guard
from tests.helpers.gate import GUARD
from tests.helpers.page_server import page_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.gate import GUARD
from tests.helpers.page_server import PageServer

HOSTILE = "</script><script>alert(1)</script>"


def write(folder: Path, calls: range) -> None:
    """Write some calls that have returned a number, and one that has failed."""
    with Writer(folder) as writer:
        for call in calls:
            writer.add(Kind.SUBMISSION, {"task": "train", "arguments": f"(lr=0.{call})", "place": call + 20}, call=call)
            if call == 3:
                error = {"type": "OSError", "message": HOSTILE, "traceback": "line 1\n\x1b[31mline 2", "pid": 5}
                writer.add(Kind.EXCEPTION, error, call=call)
            else:
                writer.add(Kind.RESULT, {"number": float(call), "duration": 0.5, "pid": 5, "host": "node"}, call=call)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of ten calls."""
    folder = tmp_path_factory.mktemp("web") / HOSTILE.replace("/", "")
    write(folder, range(10))
    (folder / "calls" / "23").mkdir(parents=True)
    (folder / "calls" / "23" / "output.log").write_bytes(b"10 %\r100 %\n\x1b[1mdone\x1b[0m \xff\x07\n")
    return folder


@pytest.fixture(scope="module")
def server(search: Path) -> Iterator[PageServer]:
    """A server for it."""
    with page_server(search) as server:
        wait_for_calls(server, 10)
        yield server


def wait_for_calls(server: PageServer, n: int, place: int = 0) -> None:
    """Wait until the server has read so many calls."""
    end = time.monotonic() + GUARD
    while sum(server.ask(f"api/{place}/overview").data["counts"].values()) != n:
        assert time.monotonic() < end, "they never came"
        time.sleep(0.05)


def test_the_page_and_what_it_asks_for(server: PageServer, search: Path) -> None:
    """The page, its files, the overview, the table and a call are served; user texts are data in all of them."""
    page = server.ask()
    assert page.status == 200
    assert HOSTILE not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert server.ask("assets/main.js").headers["content-type"].startswith("text/javascript")
    assert server.ask("assets/page.css").headers["content-type"].startswith("text/css")
    overview = server.ask("api/0/overview").data
    assert overview["counts"] == {"pending": 0, "result": 9, "exception": 1, "lost": 0, "cancelled": 0}
    assert overview["series"][0]["lowest"][-1][1:] == [0.0, 0]
    assert overview["failures"]["kinds"][0]["message"] == HOSTILE
    table = server.ask("api/0/calls?states=exception,lost&search=train").data
    assert (table["count"], [call["number"] for call in table["calls"]]) == (1, [3])
    call = server.ask("api/0/calls/3").data
    assert call["traceback"] == "line 1\nline 2"
    assert call["output"] == "100 %\ndone \ufffd\n"
    assert server.ask("api/0/timeline?begin=0&end=9e9").data["calls"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("api/1/overview", 404),
        ("api/0/calls/99", 404),
        ("api/0/calls/99999999999999999999", 404),
        ("api/0/calls?sort=x", 400),
        ("api/0/calls?limit=x", 400),
        ("api/0/timeline?begin=1", 400),
        ("api/0/timeline?begin=5&end=1", 400),
        ("assets/../app.py", 404),
        ("assets/%2e%2e%2fapp.py", 404),
        ("assets/app.py", 404),
    ],
)
def test_nonsense_is_refused(path: str, status: int, server: PageServer) -> None:
    """The response says what is wrong, and nothing outside the page's own files is served."""
    assert server.ask(path).status == status


def test_only_who_has_the_key_is_answered(server: PageServer) -> None:
    """A request without the key, with another key, or with a part of it gets a 404."""
    for path in ("/", "/api/0/overview", f"/{'x' * 32}/", server.root[:-2] + "/", server.root.rstrip("/")):
        answer = server.ask(path, whole=True)
        assert answer.status == 404
        assert "script" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:9999"}, 200),  # another port: a tunnel
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:80"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:80"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:80", "origin": "http://localhost:80"}, 200),
        ({"host": "localhost:80", "origin": "http://localhost:81"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"host": "localhost", "sec_fetch_site": "cross-site"}, 403),
        ({"host": "localhost", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),
        ({"host": "localhost", "sec_fetch_site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str], status: int, server: PageServer) -> None:
    """This holds even if their name resolves to this machine (DNS rebinding), and even if they have the key."""
    assert server.ask(**headers).status == status


def test_a_name_can_be_allowed() -> None:
    """The name of a proxy, for example."""
    assert Guard().refusal("proxy.example", None, None, None)
    assert not Guard(("proxy.example",)).refusal("Proxy.Example:8080", None, None, None)


def test_nothing_can_be_changed(server: PageServer) -> None:
    """Whatever a request asks for, the server is read-only."""
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert server.ask(method=method).status == 405


def test_200_pages_and_one_that_does_not_read(tmp_path: Path) -> None:
    """Each page receives the updates; a page that does not read delays none of the others."""
    folder = tmp_path / "search"
    write(folder, range(3))
    with page_server(folder) as server:
        wait_for_calls(server, 3)
        stuck = socket.create_connection(server.address)
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stuck.sendall(f"GET {server.root}api/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        told: list[int] = []

        def read() -> None:
            with server.news() as news:
                for _, overview in news:
                    if sum(overview["counts"].values()) == 20:
                        told.append(1)
                        return

        pages = [threading.Thread(target=read) for _ in range(200)]
        for page in pages:
            page.start()
        for n in range(3, 20):
            write(folder, range(n, n + 1))
        for page in pages:
            page.join(GUARD)
        stuck.close()
        assert len(told) == 200


def test_a_journal_that_is_written_removed_and_there_again(tmp_path: Path) -> None:
    """An open page is notified of each change; the server starts before there is a journal."""
    folder = tmp_path / "search"
    with page_server(folder) as server, server.news() as news:
        _, overview = next(news)
        assert overview["state"] == "missing"

        def wait_for(*, calls: int, problem: str) -> None:
            for _, overview in news:
                if sum(overview["counts"].values()) == calls and problem in overview["problem"]:
                    return

        write(folder, range(4))
        wait_for(calls=4, problem="")
        shutil.rmtree(folder)
        wait_for(calls=4, problem="there is no journal")
        write(folder, range(2))
        wait_for(calls=2, problem="")


def test_a_journal_that_is_moved_away(tmp_path: Path) -> None:
    """An open page follows the journal that takes its place, even if it has more calls than the one before."""
    folder = tmp_path / "search"
    write(folder, range(4))
    with page_server(folder) as server, server.news() as news:
        next(overview for _, overview in news if overview["counts"]["pending"] == 0 and overview["reading"] is None)
        folder.rename(tmp_path / "last week")
        write(folder, range(2))
        next(overview for _, overview in news if sum(overview["counts"].values()) == 2)
        folder.rename(tmp_path / "yesterday")
        write(folder, range(9))
        last = next(overview for _, overview in news if sum(overview["counts"].values()) == 9)
        assert (last["problem"], last["counts"]["exception"]) == ("", 1)


def test_several_experiments(tmp_path: Path) -> None:
    """They are listed side by side; equal names are distinguished by their folders."""
    for name in ("a/search", "b/search"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name, range(2))
    with page_server(tmp_path / "a/search", tmp_path / "b/search") as server, server.news() as news:
        found = dict(next(news) for _ in range(2))
        assert [found[place]["name"] for place in (0, 1)] == ["a/search", "b/search"]


def test_without_the_extra_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It gives the pip command."""
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in ("amltk.web.serve", "amltk.web.app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert main(["serve", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "amltk: this needs 'starlette': pip install 'amltk[web]'\n"
