"""A worker as the pool knows it: its place in the book, its process and its sockets."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections import deque
from typing import TYPE_CHECKING

from amltk.scheduling.executors.process_pool.protocol import Decoder

if TYPE_CHECKING:
    from amltk.scheduling.executors.failure import Failure
    from amltk.scheduling.executors.process_pool.book import Seat
    from amltk.scheduling.executors.process_pool.protocol import Buffer


SMALL = 1 << 18
"""Bytes up to which a piece is not worth being queued."""


class Link:
    """One worker, from its start to its end.

    Attributes:
        seat: Its place in the book.
        pid: Its process; 0 until that is started.
        knows: The numbers of the definitions that it was sent.
    """

    def __init__(self, seat: Seat) -> None:
        self.seat: Seat = seat
        self.pid: int = 0
        self.frames: socket.socket
        self.their_frames: socket.socket
        self.frames, self.their_frames = socket.socketpair()
        self.tokens: socket.socket
        self.their_tokens: socket.socket
        self.tokens, self.their_tokens = socket.socketpair()
        self.frames.setblocking(False)
        self.decoder: Decoder = Decoder()
        self.unsent: deque[memoryview] = deque()
        self.waits_to_send: bool = False
        self.knows: set[int] = set()
        self.reason: BaseException | None = None  # why it is being ended
        self.hung_up: bool = False  # by the pool: it is to end
        self.ending: str = ""  # what it waits for at its end, if that takes some time
        self.silent_since: float | None = None  # it has closed its socket, on the monotonic clock
        self.failure: Failure | None = None  # what its initializer raised

    def take_tokens(self) -> int:
        """Take back the tokens that the worker has not taken."""
        with contextlib.suppress(BlockingIOError):
            return len(self.their_tokens.recv(1 << 16, socket.MSG_DONTWAIT))
        return 0

    def count_tokens(self) -> int:
        """How many tokens there are, without taking them."""
        with contextlib.suppress(BlockingIOError):
            return len(self.their_tokens.recv(1 << 16, socket.MSG_DONTWAIT | socket.MSG_PEEK))
        return 0

    def send(self, pieces: list[Buffer]) -> None:
        """Send a single small piece, as much of it as goes in at once; what is left is `unsent`, to be flushed."""
        if not self.unsent and len(pieces) == 1 and len(pieces[0]) <= SMALL:
            piece = pieces[0]
            try:
                sent = self.frames.send(piece)
            except OSError:
                sent = 0  # it is full; or the worker is gone, which flushing finds out
            if sent == len(piece):
                return
            pieces = [memoryview(piece)[sent:]]
        self.unsent.extend(memoryview(piece).cast("B") for piece in pieces if len(piece))

    def flush(self) -> None:
        """Send as much as goes in."""
        while self.unsent:
            pieces = list(itertools.islice(self.unsent, 64))
            try:
                sent = self.frames.sendmsg(pieces)
            except BlockingIOError:
                return
            except OSError:  # the worker is gone, or has closed its end: its death is noticed elsewhere
                self.unsent.clear()
                return
            for piece in pieces:
                if sent < piece.nbytes:
                    self.unsent[0] = piece[sent:]
                    break
                sent -= piece.nbytes
                self.unsent.popleft()

    def close(self) -> None:
        """Hang up."""
        for sock in (self.frames, self.their_frames, self.tokens, self.their_tokens):
            sock.close()
