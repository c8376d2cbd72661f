"""The tokens of a worker: bytes that its process and the pool both read from the same end, see `dispatcher`.

On Linux they go through a pipe that the pool reopens for both reading and writing: that takes one descriptor, and the
pool's end is non-blocking although the worker's is blocking. Elsewhere they go through a pair of sockets.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios

from amltk.scheduling.executors._transfer.descriptors import socket_pair

GENERATIONS = 255
"""How many different tokens there are; each is one byte."""

END = bytes((GENERATIONS,))
"""What a worker reads instead of a token when it should end. It is sent explicitly, since the end of a pipe goes
unnoticed while a forked copy of the pool's process also holds the pipe open."""

MAX_TOKENS = 1 << 16


class PipeTokens:
    """See the module's docstring.

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
        """Take back the tokens that the worker has not taken; returns how many."""
        with contextlib.suppress(BlockingIOError):
            return len(os.read(self._ours, MAX_TOKENS))
        return 0

    def count(self) -> int:
        """How many tokens the worker has not yet taken."""
        size: int = struct.unpack("i", fcntl.ioctl(self._ours, termios.FIONREAD, bytes(4)))[0]
        return size

    def descriptors(self) -> list[int]:
        """The descriptors that a forked worker must not keep."""
        return [self._ours]

    def close_theirs(self) -> None:
        """Close the worker's end in this process, once the worker has it."""
        os.close(self.theirs)

    def close(self) -> None:
        """Close the pool's end."""
        os.close(self._ours)
        self._ours = -1  # the number may soon be another's


class SocketTokens:
    """Like `PipeTokens`, for systems where a pipe cannot be reopened."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket_pair()
        self.theirs: int = self._theirs.fileno()

    def put(self, tokens: bytes) -> None:
        """Let the worker begin calls."""
        with contextlib.suppress(OSError):  # the worker is gone: none of these calls begins
            self._ours.send(tokens)

    def take(self) -> int:
        """Take back the tokens that the worker has not taken; returns how many."""
        with contextlib.suppress(BlockingIOError):
            return len(self._theirs.recv(MAX_TOKENS, socket.MSG_DONTWAIT))
        return 0

    def count(self) -> int:
        """How many tokens the worker has not yet taken."""
        with contextlib.suppress(BlockingIOError):
            return len(self._theirs.recv(MAX_TOKENS, socket.MSG_DONTWAIT | socket.MSG_PEEK))
        return 0

    def descriptors(self) -> list[int]:
        """The descriptors that a forked worker must not keep."""
        return [self._ours.fileno()]

    def close_theirs(self) -> None:
        """Do nothing: tokens are taken back from the worker's end, so it stays open here."""

    def close(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


def make_tokens() -> PipeTokens | SocketTokens:
    """Create the tokens of a new worker."""
    return PipeTokens() if sys.platform == "linux" else SocketTokens()
