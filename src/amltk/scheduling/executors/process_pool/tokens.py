"""The tokens of a worker: bytes that its process and the pool both take from the same end, see `book`.

On Linux they go through a pipe that the pool opens again for both reading and writing: that takes one descriptor, and
the pool's end does not block although the worker's does. Elsewhere they go through a pair of sockets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios

GENERATIONS = 255
"""How many kinds of tokens there are; each is one byte."""

END = bytes((GENERATIONS,))
"""What a worker takes instead of a token when it is to end. It is sent, since the end of a pipe is not noticed while a
forked copy of the pool's process has the pipe open as well."""

MAX_TOKENS = 1 << 16


class PipeTokens:
    """See the module.

    Attributes:
        theirs: The descriptor that the worker reads from, until `close_theirs`.
    """

    def __init__(self) -> None:
        self.theirs: int
        self.theirs, writer = os.pipe()
        try:
            self._ours = os.open(f"/proc/self/fd/{self.theirs}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            os.close(self.theirs)
            raise
        finally:
            os.close(writer)

    def put(self, tokens: bytes) -> None:
        """Let the worker begin calls."""
        os.write(self._ours, tokens)

    def take(self) -> int:
        """Take back what the worker has not taken: how many there were."""
        with contextlib.suppress(BlockingIOError):
            return len(os.read(self._ours, MAX_TOKENS))
        return 0

    def count(self) -> int:
        """How many there are that the worker has not taken."""
        size: int = struct.unpack("i", fcntl.ioctl(self._ours, termios.FIONREAD, bytes(4)))[0]
        return size

    def descriptors(self) -> list[int]:
        """What a forked worker must not keep."""
        return [self._ours]

    def close_theirs(self) -> None:
        """Close the worker's end here, once the worker has it."""
        os.close(self.theirs)

    def close(self) -> None:
        """Close the pool's end."""
        os.close(self._ours)
        self._ours = -1  # the number may soon be another's


class SocketTokens:
    """As `PipeTokens`, where a pipe cannot be opened again."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.theirs: int = self._theirs.fileno()

    def put(self, tokens: bytes) -> None:
        """Let the worker begin calls."""
        with contextlib.suppress(OSError):  # the worker is gone: nothing of this is begun
            self._ours.send(tokens)

    def take(self) -> int:
        """Take back what the worker has not taken: how many there were."""
        with contextlib.suppress(BlockingIOError):
            return len(self._theirs.recv(MAX_TOKENS, socket.MSG_DONTWAIT))
        return 0

    def count(self) -> int:
        """How many there are that the worker has not taken."""
        with contextlib.suppress(BlockingIOError):
            return len(self._theirs.recv(MAX_TOKENS, socket.MSG_DONTWAIT | socket.MSG_PEEK))
        return 0

    def descriptors(self) -> list[int]:
        """What a forked worker must not keep."""
        return [self._ours.fileno()]

    def close_theirs(self) -> None:
        """Tokens are taken back from the worker's end, so it stays open here."""

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


def make_tokens() -> PipeTokens | SocketTokens:
    """The tokens of a new worker."""
    return PipeTokens() if sys.platform == "linux" else SocketTokens()
