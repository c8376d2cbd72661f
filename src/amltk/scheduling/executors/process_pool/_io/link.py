"""A worker as the pool sees it: its slot in the dispatcher, its process and its sockets."""

from __future__ import annotations

import errno
import itertools
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from amltk.scheduling.executors._transfer.descriptors import socket_pair
from amltk.scheduling.executors.process_pool._state.protocol import SIZE, Decoder, Kind, encode
from amltk.scheduling.executors.process_pool._system.tokens import END, PipeTokens, SocketTokens, make_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amltk.scheduling.executors._transfer.failure import Failure
    from amltk.scheduling.executors.process_pool._pickling.definitions import Definition
    from amltk.scheduling.executors.process_pool._state.dispatcher import WorkerSlot
    from amltk.scheduling.executors.process_pool._state.protocol import Buffer
    from amltk.scheduling.executors.process_pool._system.memory_files import MemoryFile


SMALL_FRAME_BYTES = 1 << 18
"""The size in bytes up to which a piece is sent without queueing it."""


SLOW_START_SECONDS = 10.0
"""How long a worker may take to become ready before that is logged."""


class _Attached(NamedTuple):
    """A frame with a descriptor."""

    file: MemoryFile
    number: int

    def send(self, sock: socket.socket) -> memoryview:
        """Send it; returns what is left to be sent."""
        size = SIZE.pack(self.file.size)
        frame = memoryview(b"".join(encode(Kind.MAP, self.number, payload=size)))
        try:
            return frame[socket.send_fds(sock, [frame], [self.file.descriptor]) :]
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            # Other programs of this user are sending too many descriptors: the worker does without this one.
            return memoryview(b"".join(encode(Kind.MAP, self.number, 0, 1, payload=size)))


class Link:
    """One worker, from its start to its end.

    Attributes:
        slot: Its slot in the dispatcher.
        pid: Its process ID; 0 until it is started.
        knows: The numbers of the definitions that were sent to it.
    """

    def __init__(self, slot: WorkerSlot) -> None:
        self.slot: WorkerSlot = slot
        self.pid: int = 0
        self.tokens: PipeTokens | SocketTokens = make_tokens()
        self.frames: socket.socket
        self.their_frames: socket.socket
        try:
            self.frames, self.their_frames = socket_pair()
        except OSError:
            self.tokens.close_theirs()
            self.tokens.close()
            raise
        self.frames.setblocking(False)
        self.decoder: Decoder = Decoder()
        self.unsent: deque[memoryview | _Attached] = deque()
        self.waits_to_send: bool = False
        self.knows: set[int] = {0}  # 0 is not a definition, and is never sent
        self.reason: BaseException | None = None  # why it is being killed
        self.requested_at: float = time.monotonic()  # when its start was requested
        self.lent: dict[int, int] = {}  # segments of shared memory, and how often each was lent
        self.mapped: set[int] = set()  # those that were announced to it
        self.slow_at: float | None = self.requested_at + SLOW_START_SECONDS  # when its slow start is logged
        self.failed_start: bool = False  # it was abandoned, since it was not ready in time
        self.hung_up_at: float | None = None  # when the pool hung up, so that it ends
        self.ending: str = ""  # what its end waits for, if that takes some time
        self.silent_since: float | None = None  # when it closed its socket, on the monotonic clock
        self.unreported_since: float | None = None  # when it was found to have ended, or not to be started
        self.failure: Failure | None = None  # what its initializer raised

    def take_tokens(self) -> int:
        """Take back the tokens that the worker has not yet taken, which are for calls."""
        return 0 if self.hung_up_at is not None or self.slot.pinged else self.tokens.take()

    def hang_up(self) -> None:
        """Make the worker end, once it has done what it was sent."""
        self.tokens.put(END)
        self.hung_up_at = time.monotonic()

    def news(self, definitions: Iterable[Definition]) -> Iterator[tuple[int, int, bytes]]:
        """What to send before the worker can use these definitions: kinds of frames, numbers and payloads."""
        knows = self.knows
        for definition in definitions:
            for piece in definition.pieces:
                if piece.number not in knows:
                    knows.update((piece.number, *piece.numbers))
                    yield Kind.LOAD, piece.number, piece.payload
            if definition.number not in knows:
                knows.add(definition.number)
                yield Kind.DEFINE, definition.number, definition.payload

    def close_theirs(self) -> None:
        """Close the worker's ends in this process, once the worker has them."""
        self.their_frames.close()
        self.tokens.close_theirs()

    def send(self, pieces: list[Buffer]) -> None:
        """Send a single small piece, as much as fits at once; the rest is `unsent`, to be flushed."""
        if not self.unsent and len(pieces) == 1 and len(pieces[0]) <= SMALL_FRAME_BYTES:
            piece = pieces[0]
            try:
                sent = self.frames.send(piece)
            except OSError:
                sent = 0  # the buffer is full; or the worker is gone, which flushing detects
            if sent == len(piece):
                return
            pieces = [memoryview(piece)[sent:]]
        self.unsent.extend(memoryview(piece).cast("B") for piece in pieces if len(piece))

    def attach(self, file: MemoryFile, number: int) -> None:
        """Send a segment of shared memory, with its descriptor; to be flushed."""
        self.unsent.append(_Attached(file, number))

    def flush(self) -> None:
        """Send as much as fits."""
        while self.unsent:
            try:
                if isinstance(first := self.unsent[0], _Attached):
                    self.unsent[0] = first.send(self.frames)
                    continue
                pieces = self._plain_ones()
                sent = self.frames.sendmsg(pieces)
            except BlockingIOError:
                return
            except OSError:  # the worker is gone, or has closed its end: its end is noticed elsewhere
                self.unsent.clear()
                return
            for piece in pieces:
                if sent < piece.nbytes:
                    self.unsent[0] = piece[sent:]
                    break
                sent -= piece.nbytes
                self.unsent.popleft()

    def _plain_ones(self) -> list[memoryview]:
        """The next pieces that can be sent together."""
        pieces: list[memoryview] = []
        for piece in itertools.islice(self.unsent, 64):
            if isinstance(piece, _Attached):
                break
            pieces.append(piece)
        return pieces

    def close(self) -> None:
        """Close the pool's ends."""
        self.frames.close()
        self.tokens.close()
        self.decoder.forget_segments()  # which refers to this link: without that cycle it is freed at once
