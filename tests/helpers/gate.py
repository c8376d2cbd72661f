"""A gate that blocks a test's work until the test opens it: starts, runs and deaths are observed, never guessed."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD = 180.0
"""Seconds to wait for something before it counts as a failure; no passing test waits this long."""


def pass_gate(address: tuple[str, int], value: Any = None) -> Any:
    """Work, in any process or thread: report to the gate, wait until it opens, return `value`."""
    with socket.create_connection(address, timeout=GUARD) as connection:
        connection.sendall(b"%d\n" % os.getpid())
        connection.recv(1)
    return value


class Gate:
    """Listens on the loopback interface, so that the death of a visitor shows as the end of its connection.

    Attributes:
        address: The argument of `pass_gate`.
        pids: The processes of the visitors, in the order of arrival.
    """

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()
        self.pids: list[int] = []
        self._present: set[socket.socket] = set()
        self._calls: list[tuple[int, Callable[[], object]]] = []
        self._is_open = False
        self._changed = threading.Condition()
        self._stop, self._stopped = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._selector.register(self._stopped, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._serve, name="gate")

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._stop.send(b"x")
        self._thread.join()
        for end in (self._server, self._stop, self._stopped, self._selector, *self._present):
            end.close()

    def open(self) -> None:
        """Let all visitors pass, including later ones."""
        with self._changed:
            self._is_open = True
            for connection in self._present:
                self._let_go(connection)

    def when_begun(self, n: int, call: Callable[[], object]) -> None:
        """Call `call()` on the gate's thread once `n` visitors have arrived in total. Use it before they arrive."""
        self._calls.append((n, call))

    def wait_begun(self, n: int = 1) -> list[int]:
        """Wait until `n` visitors have arrived in total; return their processes."""
        self._wait(lambda: len(self.pids) >= n, f"{n} begin")
        return self.pids[:n]

    def wait_gone(self) -> None:
        """Wait until every visitor that arrived has passed or died."""
        self._wait(lambda: not self._present, "all are gone")

    @property
    def present(self) -> int:
        """How many live visitors are waiting."""
        with self._changed:
            return len(self._present)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, GUARD), f"waited in vain until {what}: {self.pids} came"

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                key.data(key.fileobj)

    def _accept(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        line = connection.makefile("rb").readline()
        if not line.endswith(b"\n"):
            connection.close()  # it died on arrival
            return
        pid = int(line)
        with self._changed:
            self.pids.append(pid)
            self._present.add(connection)
            self._selector.register(connection, selectors.EVENT_READ, self._leave)
            if self._is_open:
                self._let_go(connection)
            n = len(self.pids)
            self._changed.notify_all()
        for at, call in self._calls:
            if at == n:
                call()

    def _leave(self, connection: socket.socket) -> None:
        with self._changed:
            self._selector.unregister(connection)
            self._present.discard(connection)
            self._changed.notify_all()
        connection.close()

    @staticmethod
    def _let_go(connection: socket.socket) -> None:
        try:
            connection.send(b"+")
        except OSError:
            pass  # it died
