"""The messages between the pool and its workers: frames over a socket.

A frame is a header, a table of the lengths of its buffers, and a body: the buffers, each padded so that the next one is
aligned, and then the payload, a pickle. Buffers are the out-of-band buffers of pickle 5: they are sent from where they
are stored, and used where they were received. Or they are not in the frame, but in a segment of shared memory, whose
number is in the header; see `segments`.
"""

from __future__ import annotations

import pickle
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from amltk._process.limits import out_of_memory
from amltk.scheduling.executors.process_pool._system.memory_files import padded, size_of, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct("<BBBxIIIQQdd")
"""Mark, kind, generation, definition, number of buffers, segment or 0, key, length of the body, began, ended."""

SIZE = struct.Struct("<Q")
"""A size in bytes, as the payload of a frame about a segment."""

USAGE = struct.Struct("<dQ")
"""Seconds of CPU time and bytes of memory, as the payload of a frame about a call."""

MARK = 0xA7
"""The first byte of every frame, to detect foreign data in a worker's socket."""

SHARED_BYTES = 1 << 20
"""The size in bytes from which on buffers cross in shared memory."""

CHUNK_BYTES = 1 << 18
"""How many bytes are received at once; larger frames are received directly into their final memory."""

MAX_BUFFERS = CHUNK_BYTES // 16
"""Their table of lengths takes at most half of a chunk."""

MAX_FRAME_BYTES = 1 << 46
"""No frame is this long."""


class ProtocolError(Exception):
    """The received data is not a frame: something else has written into the socket."""


class Kind:
    """The kinds of frames. Not an enum, whose members are slow to look up before CPython 3.12."""

    INIT = 1  # to a worker: how to start
    DEFINE = 2  # to a worker: what calls refer to by the number `key`
    FORGET = 3  # to a worker: what was sent under the number `key` is no longer needed
    TASK = 4  # to a worker: a call
    ANNOUNCED_TASK = 5  # to a worker: a call; say when it begins
    READY = 6  # from a worker: it is initialised; `key` is its pid
    INIT_FAILED = 7  # from a worker: its initializer raised
    BEGUN = 8  # from a worker: the call `key` has begun; the payload has the usage before it, see `usage`
    RESULT = 9  # from a worker: what the call `key` returned
    EXCEPTION = 10  # from a worker: what the call `key` raised
    LOAD = 11  # to a worker: a piece, under the number `key`: objects that definitions refer to
    FETCH = 12  # from a worker: the question `key`: the program's value of a name
    FETCHED = 13  # to a worker: the answer to the question `key`: the number `definition`, or 0, and a payload
    ENDING = 14  # from a worker that is ending: what it is waiting for, as text
    MEASURED_TASK = 15  # to a worker: a call; report when it begins, and the usage before it, see `usage.baseline`
    MAP = 16  # to a worker: the segment `key`, whose size is the payload, and its descriptor, unless `definition` is 1
    UNMAP = 17  # to a worker: the segment `key` no longer exists
    WANTED = 18  # from a worker: the question `key`: a segment for a result, whose size is the payload
    GRANTED = 19  # to a worker: the answer to it: the segment `definition`, or 0; the payload is empty if it was used
    RETURNED = 20  # from a worker: the segment `key` is no longer used; `definition` is 1 if it is spoilt
    UNMAPPABLE = 21  # from a worker: the question `key`: what is in the segment `definition`, as much as the payload
    CONTENTS = 22  # to a worker: the answer to it
    GROWN = 23  # from a worker: it has too much memory, and begins no more calls than it has tokens for
    USED = 24  # from a worker: what the call `key`, whose end follows, has used, see `USAGE`


class Frame(NamedTuple):
    """One message."""

    kind: int
    key: int = 0
    """The number of the call."""
    generation: int = 0
    """The generation of the call's token, see `dispatcher`."""
    definition: int = 0
    """The function to call, or 0 if the payload contains it; of a result, whether it is not made of names alone."""
    began: float = 0.0
    """On the monotonic clock, which all processes of a machine share; of a call, 1 if it is to be measured."""
    ended: float = 0.0
    payload: Buffer = b""
    buffers: Sequence[Buffer] | InSegment = ()


_frame: Callable[[tuple[Any, ...]], Frame] = partial(tuple.__new__, Frame)  # takes half the time of calling `Frame`


class InSegment:
    """Buffers that are in a segment of shared memory, in place of a sequence of buffers.

    Args:
        number: The number of the segment.
        sizes: The sizes of the buffers.
    """

    def __init__(self, number: int, sizes: tuple[int, ...]) -> None:
        self.number: int = number
        self.sizes: tuple[int, ...] = sizes

    def __iter__(self) -> Iterator[Buffer]:
        """The buffers, where they can be used."""
        raise NotImplementedError


def encode(  # noqa: PLR0917 - the fields of a frame
    kind: int,
    key: int = 0,
    generation: int = 0,
    definition: int = 0,
    began: float = 0.0,
    ended: float = 0.0,
    payload: Buffer = b"",
    buffers: Sequence[Buffer] | InSegment = (),
) -> list[Buffer]:
    """The fields of a `Frame`, as pieces to send one after the other; payload and buffers are not copied."""
    if not buffers:
        return [HEADER.pack(MARK, kind, generation, definition, 0, 0, key, len(payload), began, ended), payload]
    if isinstance(buffers, InSegment):
        sizes, length = buffers.sizes, len(payload)
        header = HEADER.pack(MARK, kind, generation, definition, len(sizes), buffers.number, key, length, began, ended)
        return [header + struct.pack(f"<{len(sizes)}Q", *sizes), payload]
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    length = size_of([view.nbytes for view in views]) + len(payload)
    header = HEADER.pack(MARK, kind, generation, definition, len(views), 0, key, length, began, ended)
    pieces: list[Buffer] = [header + struct.pack(f"<{len(views)}Q", *(view.nbytes for view in views))]
    for view in views:
        pieces += (view, bytes(padded(view.nbytes) - view.nbytes))
    return [*pieces, payload]


class _Unreceived:
    """Raises a `MemoryError` when it is unpickled."""

    def __init__(self, kind: int, length: int) -> None:
        self._told = kind, length

    def __reduce__(self) -> tuple[Any, ...]:
        return raise_unreceived, self._told


_CONTENTS = {
    Kind.RESULT: ("the result", "Return less, or save it to a file and return its path"),
    Kind.EXCEPTION: ("the exception", "Let it refer to less"),
    Kind.LOAD: ("what the function refers to", "Load it in the function, or pass the path of a file"),
}
"""What a frame contains, and how to make it smaller; all other frames contain the arguments of a call."""


def raise_unreceived(kind: int, length: int) -> NoReturn:
    """Called when the payload of a frame that there was no memory for is unpickled.

    Raises:
        MemoryError: Always.
    """
    what, remedy = _CONTENTS.get(kind, ("what the function is called with", "Pass less, or the path of a file"))
    raise out_of_memory(what, length, remedy)


def _memory_for(length: int) -> bytearray:
    """The memory for a body; empty if there is none, so that this frame is dropped and those after it are not."""
    try:
        return bytearray(length)
    except MemoryError:
        return bytearray()


def _no_segments(number: int, _: tuple[int, ...]) -> InSegment:
    raise ProtocolError(f"received buffers in segment {number}, where there are no segments")


class Receives(Protocol):
    """A socket, or something like it."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive as much as is there, or fits."""
        ...


class Decoder:
    """Decodes the frames that a socket receives.

    A frame that there is no memory for costs that frame only: the payload that it gets raises a `MemoryError` when it
    is unpickled.

    Attributes:
        in_segment: Called with the number of a segment, and the sizes of the buffers in it; returns them.
    """

    def __init__(self) -> None:
        self.in_segment: Callable[[int, tuple[int, ...]], InSegment] = _no_segments
        self._chunk = bytearray(CHUNK_BYTES)
        self._view = memoryview(self._chunk)
        self._begin = self._end = 0  # the part of the chunk that is not yet decoded
        self._large: bytearray | None = None  # a body that does not fit, or is not copied; empty if it is dropped
        self._length = 0  # how many bytes it has
        self._filled = 0  # how many bytes of it have been received
        self._fields: tuple[Any, ...] = ()
        self._segment = 0  # where its buffers are, if not in the body
        self._sizes: tuple[int, ...] = ()

    def forget_segments(self) -> None:
        """Drop the reference to what knows the segments."""
        self.in_segment = _no_segments

    def receive(self, sock: Receives) -> bool:
        """Receive once.

        Returns:
            False if the peer has closed the connection.

        Raises:
            BlockingIOError: The socket is non-blocking, and nothing is there.
        """
        if self._large and self._begin == self._end:
            count = sock.recv_into(memoryview(self._large)[self._filled :])
            self._filled += count
            return count > 0
        if self._begin:
            rest = self._end - self._begin
            self._chunk[:rest] = self._chunk[self._begin : self._end]
            self._begin, self._end = 0, rest
        count = sock.recv_into(self._view[self._end :])
        self._end += count
        return count > 0

    def frames(self) -> list[Frame]:
        """The complete frames, up to the first invalid data; call it until it returns none.

        Raises:
            ProtocolError: The data is not a frame.
        """
        frames: list[Frame] = []
        while True:
            if self._large is None:
                self._take_small(frames)
                if self._large is None:
                    return frames
            frame = self._next_large()
            if frame is None:
                return frames
            frames.append(frame)

    def _take_small(self, frames: list[Frame]) -> None:
        """Take complete frames, until one starts `_large`."""
        chunk, begin, end, size = self._chunk, self._begin, self._end, HEADER.size
        unpack = HEADER.unpack_from
        while (table := begin + size) <= end:
            mark, kind, generation, definition, n_buffers, segment, key, length, began, ended = unpack(chunk, begin)
            if mark == MARK and not n_buffers and table + length <= end:
                begin = table + length
                frames.append(_frame((kind, key, generation, definition, began, ended, chunk[table:begin], ())))
                continue
            if mark != MARK or length > MAX_FRAME_BYTES or n_buffers > MAX_BUFFERS:
                self._refuse(begin, frames)
                break
            body = table + 8 * n_buffers
            if body <= end and (n_buffers or size + length > CHUNK_BYTES):
                sizes = struct.unpack_from(f"<{n_buffers}Q", chunk, table)
                if not segment and size_of(sizes) > length:
                    self._refuse(begin, frames)
                    break
                self._sizes = sizes
                self._fields = (kind, key, generation, definition, began, ended)
                self._segment = segment
                self._large, self._length, self._filled = _memory_for(length), length, 0
                begin = body
            break
        self._begin = begin

    def _refuse(self, begin: int, frames: list[Frame]) -> None:
        """Raise an error that shows the invalid data, unless there are frames before it, which count first."""
        if not frames:
            shown = bytes(self._chunk[begin : begin + HEADER.size])
            raise ProtocolError(f"received {shown!r}, which is not the beginning of a frame")

    def _take_rest(self) -> None:
        assert self._large is not None
        count = min(self._length - self._filled, self._end - self._begin)
        if self._large:
            self._large[self._filled : self._filled + count] = self._view[self._begin : self._begin + count]
        self._begin += count
        self._filled += count

    def _next_large(self) -> Frame | None:
        assert self._large is not None
        self._take_rest()
        if self._filled < self._length:
            return None
        view, is_dropped = memoryview(self._large), len(self._large) < self._length
        self._large = None
        buffers = self.in_segment(self._segment, self._sizes) if self._segment else ()
        if is_dropped:
            return _frame((*self._fields, pickle.dumps(_Unreceived(self._fields[0], self._length)), buffers))
        if self._segment:
            return _frame((*self._fields, view, buffers))
        return _frame((*self._fields, view[size_of(self._sizes) :], split(view, self._sizes)))
