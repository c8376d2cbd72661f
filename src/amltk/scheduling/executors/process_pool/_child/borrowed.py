"""A worker's side of the pool's shared memory: the segments that it was lent, with arguments or for a result."""

from __future__ import annotations

import socket
import struct
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from amltk.scheduling.executors.process_pool._state.protocol import (
    SHARED_BYTES,
    SIZE,
    Frame,
    InSegment,
    Kind,
    raise_unreceived,
)
from amltk.scheduling.executors.process_pool._system.memory_files import MemoryFile, are_possible, size_of, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from amltk.scheduling.executors.process_pool._state.protocol import Buffer


class Ask(Protocol):
    """Asks the pool."""

    def __call__(self, kind: int, definition: int = 0, payload: bytes = b"") -> Frame | None:
        """The answer to a question; None if there can be none."""
        ...


class Borrowed:
    """See the module's docstring.

    Args:
        sock: The worker's socket for frames.
        ask: Asks the pool.

    Attributes:
        returned: Segments that are no longer used, and whether they are spoilt; for the pool. May be appended to at any
            time.
        is_on: Whether results may be put in segments.
    """

    def __init__(self, sock: socket.socket, ask: Ask) -> None:
        self.returned: deque[tuple[int, bool]] = deque()
        self.is_on: bool = are_possible()
        self._socket = sock
        self._ask = ask
        self._descriptors: deque[int] = deque()  # received, and not mapped yet; -1 for one that there was no room for
        self._files: dict[int, MemoryFile | None] = {}

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive data, and descriptors with it: what is received ends with the first frame that has a descriptor."""
        space = socket.CMSG_SPACE(struct.calcsize("i"))
        count, attached, flags, _ = self._socket.recvmsg_into([buffer], space, _CLOSE_ON_EXEC)
        if attached or flags & socket.MSG_CTRUNC:
            numbers = [struct.unpack("i", data[:4])[0] for _, kind, data in attached if kind == socket.SCM_RIGHTS]
            self._descriptors.append(numbers[0] if numbers else -1)
        return count

    def map(self, frame: Frame) -> None:
        """Accept a segment that the pool has attached."""
        descriptor = -1 if frame.definition else self._descriptors.popleft()
        (size,) = SIZE.unpack(frame.payload)
        self._files[frame.key] = None if descriptor < 0 else MemoryFile(descriptor, size)

    def unmap(self, number: int) -> None:
        """Forget a segment that the pool has given up."""
        del self._files[number]

    def buffers(self, number: int, sizes: tuple[int, ...]) -> Arguments:
        """The buffers of a call that are in a segment."""
        return Arguments(self, number, sizes)

    def give_back(self, number: int, is_spoilt: bool) -> None:
        """Note that a segment is no longer used."""
        self.returned.append((number, is_spoilt))

    def open(self, number: int, sizes: tuple[int, ...]) -> list[memoryview]:
        """Views of what is in a segment; a copy of it if it cannot be mapped.

        Raises:
            ConnectionError: The pool is gone.
            MemoryError: There is no memory for a copy.
        """
        file = self._files[number]
        try:
            if file is not None:
                return file.views(sizes, partial(self.give_back, number))
        except OSError:  # this process may not map that much memory
            pass
        try:
            answer = self._ask(Kind.UNMAPPABLE, number, SIZE.pack(size_of(sizes)))
        finally:
            self.give_back(number, is_spoilt=False)
        if answer is None:
            raise ConnectionError("the pool is gone")
        if len(answer.payload) < size_of(sizes):  # there was no memory for it
            raise_unreceived(Kind.TASK, size_of(sizes))
        return split(memoryview(answer.payload), sizes)

    def put(self, buffers: list[memoryview]) -> Sequence[memoryview] | InSegment:
        """Put the buffers of a result into a segment, if they are large, and the pool has one."""
        sizes = tuple(buffer.nbytes for buffer in buffers)
        if not self.is_on or size_of(sizes) < SHARED_BYTES:
            return buffers
        answer = self._ask(Kind.WANTED, payload=SIZE.pack(size_of(sizes)))
        if answer is None or not answer.definition:
            return buffers
        number = answer.definition
        file = self._files[number]
        try:
            if file is not None:
                if answer.payload:
                    file.allocate()
                file.write(buffers)
                return InSegment(number, sizes)
        except OSError:
            pass
        self.give_back(number, is_spoilt=bool(answer.payload))
        return buffers


class Arguments(InSegment):
    """The buffers of a call. Iterating over it, once, gives views of them."""

    def __init__(self, borrowed: Borrowed, number: int, sizes: tuple[int, ...]) -> None:
        super().__init__(number, sizes)
        self._borrowed: Borrowed | None = borrowed

    def __iter__(self) -> Iterator[Buffer]:
        borrowed, self._borrowed = self._borrowed, None
        assert borrowed is not None, "arguments are unpickled once"
        return iter(borrowed.open(self.number, self.sizes))

    def __del__(self) -> None:
        if self._borrowed is not None:  # the call was taken back
            self._borrowed.give_back(self.number, is_spoilt=False)


_CLOSE_ON_EXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
