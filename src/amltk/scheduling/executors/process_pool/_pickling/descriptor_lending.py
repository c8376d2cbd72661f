"""Sends file descriptors between the processes of this program's pools and their workers.

A pickle contains a *ticket*: an address to ask, and a key that cannot be guessed. The process that unpickles it asks at
the *desk*, a socket of the lending process, and receives a descriptor of its own. A descriptor is duplicated when it is
lent, so that its owner may close it; the duplicate is closed when the *loan* is released, which is when the pickle is
no longer needed. The desk is open as long as something is lent.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
from collections import deque
from typing import NamedTuple

KEY_BYTES = 16
"""The length of a key in bytes."""

ANSWER_SECONDS = 60.0
"""How many seconds to wait for an answer."""

_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Ticket(NamedTuple):
    """Stands for a descriptor in a pickle."""

    address: str
    key: bytes

    def redeem(self) -> int:
        """Get a separate descriptor.

        Raises:
            OSError: The lending process is gone, or has taken the descriptor back.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.connect(self.address)
            sock.sendall(self.key)
            _, descriptors, _, _ = socket.recv_fds(sock, 1, 1, _CLOSE_ON_EXEC)
        if not descriptors:
            raise ConnectionError("the lending process has taken the file descriptor back")
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]


class Loan:
    """A descriptor that is lent as long as this object is alive, to every process that has the ticket.

    Attributes:
        number: Like that of a definition that every worker knows, so that it is kept with the definitions of a call.
        payload: Empty: nothing needs to be loaded for it.
    """

    number: int = 0
    payload: bytes = b""

    def __init__(self, descriptor: int) -> None:
        self.ticket: Ticket = _lender.lend(descriptor, once=False)

    def __del__(self) -> None:
        if hasattr(self, "ticket"):
            _lender.take_back(self.ticket.key)


def lend_once(descriptor: int) -> Ticket:
    """Lend a descriptor until it has been taken once, or this process ends."""
    return _lender.lend(descriptor, once=True)


class _Desk:
    """The socket where descriptors are requested."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._folder: str | None = None
        if sys.platform == "linux":
            self._listener.bind(
                f"\0amltk-{os.getpid()}-{os.urandom(KEY_BYTES).hex()}"
            )  # an abstract name, without a file
            self.address: str = "\0" + self._listener.getsockname()[1:].decode()
        else:
            import tempfile  # slow to import, and not needed on Linux

            self._folder = tempfile.mkdtemp(prefix="amltk-")
            self.address = os.path.join(self._folder, "desk")
            self._listener.bind(self.address)
        self._listener.listen(128)
        self._bell, self._ear = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (self._listener, self._ear):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        self._bell.setblocking(False)
        self._visitors: set[socket.socket] = set()

    def ring(self) -> None:
        """Make `wait` return. May be called from any thread."""
        with contextlib.suppress(OSError):  # already ringing, or closed
            self._bell.send(b".")

    def wait(self) -> list[socket.socket]:
        """Wait for a request or a ring; returns the connections with requests."""
        asking = []
        for key, _ in self._selector.select():
            if key.fileobj is self._listener:
                self._let_in()
            elif key.fileobj is self._ear:
                self._ear.recv(4096)
            else:
                asking.append(key.fileobj)
        return asking  # type: ignore[return-value] # they are those that were let in

    def _let_in(self) -> None:
        try:
            visitor, _ = self._listener.accept()
        except OSError:  # the peer is gone, or no more descriptors are allowed: the peer sees its own end
            return
        visitor.setblocking(False)
        self._visitors.add(visitor)
        self._selector.register(visitor, selectors.EVENT_READ)

    def let_out(self, visitor: socket.socket) -> None:
        """Close a connection."""
        self._selector.unregister(visitor)
        self._visitors.discard(visitor)
        visitor.close()

    def close(self) -> None:
        """Close the desk."""
        self._selector.close()
        for sock in (self._listener, self._bell, self._ear, *self._visitors):
            sock.close()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.address)
                os.rmdir(self._folder)


class _Lender:
    """The descriptors that this process has lent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may call what lends, too
        self._lent: dict[bytes, tuple[int, bool]] = {}
        self._given_back: deque[bytes] = deque()
        self._desk: _Desk | None = None

    def lend(self, descriptor: int, *, once: bool) -> Ticket:
        """Lend a duplicate of a descriptor."""
        key = os.urandom(KEY_BYTES)
        with self._lock:
            duplicate = os.dup(descriptor)
            try:
                desk = self._open()
            except BaseException:
                os.close(duplicate)
                raise
            self._lent[key] = duplicate, once
            return Ticket(desk.address, key)

    def _open(self) -> _Desk:
        """The desk; opened now if there is none."""
        if self._desk is not None:
            return self._desk
        desk = _Desk()
        if self._desk is None:  # still: a finalizer may have come in between
            thread = threading.Thread(target=self._serve, args=(desk,), name="amltk-lender", daemon=True)
            self._desk = desk
            try:
                thread.start()
            except BaseException:
                self._desk = None
                desk.close()
                raise
        if desk is not self._desk:
            desk.close()
        return self._desk

    def take_back(self, key: bytes) -> None:
        """Close a lent descriptor. The garbage collector may call this at any moment, so it takes no lock."""
        self._given_back.append(key)
        desk = self._desk
        if desk is not None:
            desk.ring()

    def _serve(self, desk: _Desk) -> None:
        while True:
            for visitor in desk.wait():
                self._answer(visitor)
                desk.let_out(visitor)
            with self._lock:
                while self._given_back:
                    self._close(self._given_back.popleft())
                if not self._lent:
                    self._desk = None
                    desk.close()
                    return

    def _answer(self, visitor: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the peer is gone
            key = visitor.recv(KEY_BYTES)
            descriptor, once = self._lent.get(key, (None, False))
            if descriptor is not None:
                socket.send_fds(visitor, [b"."], [descriptor])
                if once:
                    self._given_back.append(key)

    def _close(self, key: bytes) -> None:
        descriptor, _ = self._lent.pop(key, (None, False))
        if descriptor is not None:
            os.close(descriptor)

    def forget(self) -> None:
        """Close everything in a process that was just forked, since it belongs to the parent."""
        for key in list(self._lent):
            self._close(key)
        if self._desk is not None:
            self._desk.close()
        self.__init__()  # type: ignore[misc] # the lock may have been held by another thread


_lender = _Lender()
os.register_at_fork(after_in_child=_lender.forget)
