"""Wakes a thread that waits in a selector."""

from __future__ import annotations

import contextlib
import selectors
import socket


class WakeupSocketpair:
    """Wakes a selector from any thread."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._writer, self._reader = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.setblocking(False)
        selector.register(self._reader, selectors.EVENT_READ)

    @property
    def sockets(self) -> list[socket.socket]:
        """Its two sockets."""
        return [self._writer, self._reader]

    def set(self) -> None:
        """Wake the selector."""
        with contextlib.suppress(BlockingIOError, OSError):  # already set, or closed
            self._writer.send(b".")

    def clear(self) -> None:
        """Reset it after the selector woke up."""
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)

    def close(self) -> None:
        """Close it."""
        self._writer.close()
        self._reader.close()


class ThreadWakeup(WakeupSocketpair):
    """Wakes the pool's thread.

    Attributes:
        is_awaited: Whether the thread waits, or is about to wait, until something happens.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self.is_awaited: bool = False

    def set_if_awaited(self) -> None:
        """Wake the thread once, if it waits: it then looks at everything before it waits again."""
        if self.is_awaited:
            self.is_awaited = False
            self.set()
