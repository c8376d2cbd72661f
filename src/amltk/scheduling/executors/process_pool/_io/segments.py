"""The pool's segments of shared memory, in which large buffers cross to workers and back.

All of them belong to the pool, which lends them to workers: with arguments in them, or for a result that is too large
for the socket. So nothing has to be recovered from a worker that dies. Everything happens under the lock of the pool's
state unless stated otherwise; segments that are no longer used are noted without it, by the thread that lets go last.
"""

from __future__ import annotations

import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._process.limits import soft_limit
from amltk.scheduling.executors.process_pool._state.protocol import (
    SHARED_BYTES,
    SIZE,
    InSegment,
    Kind,
    ProtocolError,
    encode,
    raise_unreceived,
)
from amltk.scheduling.executors.process_pool._state.segment_table import SegmentTable
from amltk.scheduling.executors.process_pool._system.memory_files import MemoryFile, are_possible, size_of, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._state.protocol import Buffer, Frame
    from amltk.scheduling.executors.process_pool._state.segment_table import GivenUp, Taken

MOST_KEPT = 4 << 30
"""How many bytes are kept for reuse, at most, whatever the limit is."""

MOST_SEGMENTS = 128
"""How many segments a pool has at most. Each takes a descriptor here, and one in each worker that has seen it."""

ABOUT_SEGMENTS = frozenset({Kind.RETURNED, Kind.WANTED, Kind.UNMAPPABLE})
"""The kinds of frames that workers send about segments."""


class Returns:
    """Segments that a user no longer needs. What may outlive the pool refers to this, and not to the pool.

    Args:
        wake: Causes a turn soon, in which they are taken back. May be called at any moment.

    Attributes:
        queue: Their numbers, and whether they are spoilt.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self.queue: deque[tuple[int, bool]] = deque()
        self._wake = wake

    def give_back(self, number: int, is_spoilt: bool) -> None:
        """Note that a segment is no longer needed. May be called at any moment, on any thread."""
        self.queue.append((number, is_spoilt))
        self._wake()

    def end(self) -> None:
        """Do not wake the pool any more."""
        self._wake = _wake_nobody


def _wake_nobody() -> None:
    pass


class Packed(InSegment):
    """The buffers of a pickled call.

    Attributes:
        is_spoilt: Whether the segment must not be reused.
    """

    def __init__(self, returns: Returns, number: int, sizes: tuple[int, ...]) -> None:
        super().__init__(number, sizes)
        self.is_spoilt: bool = False
        self._returns = returns

    def __del__(self) -> None:
        self._returns.queue.append((self.number, self.is_spoilt))


class Returned(InSegment):
    """The buffers of a result; iterating over it, once, gives views of them."""

    def __init__(self, returns: Returns, file: MemoryFile, number: int, sizes: tuple[int, ...]) -> None:
        super().__init__(number, sizes)
        self._file: MemoryFile | None = file
        self._give_back = partial(returns.give_back, number)

    def __iter__(self) -> Iterator[Buffer]:
        file, self._file = self._file, None
        assert file is not None, "a result is unpickled once"
        try:
            return iter(file.views(self.sizes, self._give_back))
        except OSError:  # this process may not map that much memory
            pass
        size = size_of(self.sizes)
        try:
            return iter(split(memoryview(file.copy(size)), self.sizes))
        except MemoryError:
            raise_unreceived(Kind.RESULT, size)
        finally:
            self._give_back(False)

    def __del__(self) -> None:
        if self._file is not None:
            self._give_back(False)


class Segments:
    """See the module's docstring.

    Args:
        limit: How many bytes they have together, at most; 0 for no segments.
        lock: The pool's lock of the level `STATE`.
        links: The workers.
        send: Sends a worker a frame.
        wake: Causes a turn soon. May be called at any moment.

    Attributes:
        returned: Segments that a user no longer needs, and whether they are spoilt.
    """

    def __init__(
        self,
        limit: int,
        lock: Any,
        links: Mapping[int, Link],
        *,
        send: Callable[[Link, list[Buffer]], None],
        wake: Callable[[], object],
    ) -> None:
        self.limit: int = limit if are_possible() else 0
        self._returns = Returns(wake)
        self.returned: deque[tuple[int, bool]] = self._returns.queue
        self._lock = lock
        self._links = links
        self._send = send
        self._files: dict[int, MemoryFile] = {}
        self._table = SegmentTable(self.limit, min(self.limit // 4, MOST_KEPT), _most_segments() if self.limit else 0)

    # ------------------------------------------------------------------ to be called without the lock

    def pack(self, buffers: list[memoryview]) -> Sequence[memoryview] | Packed:
        """Copy the buffers of a call into a segment, if they are large, and there is room. Takes the lock."""
        sizes = tuple(buffer.nbytes for buffer in buffers)
        size = size_of(sizes)
        if size < SHARED_BYTES or not self.limit:
            return buffers
        with self._lock:
            taken = self._take(size)
            if taken is None:
                return buffers
            packed = Packed(self._returns, taken.number, sizes)
            file = self._files[taken.number]
        is_written = False
        try:
            if taken.is_new:
                file.allocate()
            file.write(buffers)
            is_written = True
        except OSError:
            return buffers
        finally:
            if not is_written:
                packed.is_spoilt = True
        return packed

    # ------------------------------------------------------------------ these require the lock

    def _take(self, size: int) -> Taken | None:
        self.take_returned()
        taken = self._table.take(size)
        if taken is None:
            return None
        self._close(taken.given_up)
        if taken.is_new:
            try:
                self._files[taken.number] = MemoryFile.make(taken.size)
            except OSError:
                self._table.spoil(taken.number)
                self._table.drop(taken.number)
                return None
        return taken

    def take_returned(self) -> None:
        """Take back what is no longer used."""
        while self.returned:
            number, is_spoilt = self.returned.popleft()
            self._drop(number, is_spoilt=is_spoilt)

    def lend(self, link: Link, packed: Packed) -> None:
        """Lend a worker the segment of a call that it is about to be sent.

        If the call is taken back, the worker gives the segment back when it gets the next call.
        """
        self._table.hold(packed.number)
        self._lend(link, packed.number)

    def _lend(self, link: Link, number: int) -> None:
        link.lent[number] = link.lent.get(number, 0) + 1
        if number not in link.mapped:
            link.mapped.add(number)
            link.attach(self._files[number], number)

    def handle(self, link: Link, frame: Frame) -> None:
        """Handle a frame of a worker.

        Raises:
            ProtocolError: A worker cannot have sent this.
        """
        if frame.kind == Kind.RETURNED:
            self._take_back(link, frame.key, is_spoilt=bool(frame.definition))
        elif frame.kind == Kind.WANTED:
            self._grant(link, frame.key, *SIZE.unpack(frame.payload))
        else:
            self._tell(link, frame.key, frame.definition, *SIZE.unpack(frame.payload))

    def _grant(self, link: Link, key: int, size: int) -> None:
        """Answer a worker that wants a segment for a result."""
        sent = link.slot.sent
        limits = sent[0].limits if sent else None
        is_measured = limits is not None and limits.memory is not None
        taken = None if is_measured else self._take(size)
        if taken is None:
            self._send(link, encode(Kind.GRANTED, key))
            return
        self._lend(link, taken.number)
        self._send(link, encode(Kind.GRANTED, key, 0, taken.number, payload=b"new" if taken.is_new else b""))

    def _tell(self, link: Link, key: int, number: int, size: int) -> None:
        """Send a worker what is in a segment that it cannot map."""
        self._check_lent(link, number)
        self._check_size(number, size)
        try:
            contents = self._files[number].copy(size)
        except (OSError, MemoryError):
            contents = bytearray()
        self._send(link, encode(Kind.CONTENTS, key, payload=contents))

    def _take_back(self, link: Link, number: int, *, is_spoilt: bool) -> None:
        """Take back what a worker no longer needs."""
        self._end_loan(link, number)
        self._drop(number, is_spoilt=is_spoilt)

    def take_result(self, link: Link, number: int, sizes: tuple[int, ...]) -> Returned:
        """Take a result from the segment that a worker has been granted.

        Raises:
            ProtocolError: It has no such segment.
        """
        self._check_lent(link, number)
        self._check_size(number, size_of(sizes))
        self._end_loan(link, number)
        return Returned(self._returns, self._files[number], number, sizes)

    def _check_size(self, number: int, size: int) -> None:
        if size > self._files[number].size:
            raise ProtocolError(f"received a frame about {size:,} bytes of segment {number}, which is smaller")

    def _end_loan(self, link: Link, number: int) -> None:
        self._check_lent(link, number)
        link.lent[number] -= 1
        if not link.lent[number]:
            del link.lent[number]

    @staticmethod
    def _check_lent(link: Link, number: int) -> None:
        if number not in link.lent:
            raise ProtocolError(f"received a frame about segment {number}, which the worker does not have")

    def withdraw_from(self, link: Link) -> None:
        """Have a worker keep no segments that it does not need, since its memory is about to be measured."""
        for number in link.mapped - link.lent.keys():
            self._unmap(link, number)

    def forget(self, link: Link) -> None:
        """Take everything back from a worker that has ended, whatever it was doing. Its children may still read it."""
        for number, times in link.lent.items():
            for _ in range(times):
                self._drop(number, is_spoilt=True)
        link.lent.clear()
        link.mapped.clear()

    def _drop(self, number: int, *, is_spoilt: bool) -> None:
        if self._files:  # else everything is closed
            self._close(self._table.drop(number, is_spoilt=is_spoilt))

    def _close(self, given_up: list[GivenUp]) -> None:
        for number, is_spoilt in given_up:
            file = self._files.pop(number)
            if not is_spoilt:
                with contextlib.suppress(OSError):
                    file.give_up()
            for link in self._links.values():
                if number in link.mapped:
                    self._unmap(link, number)

    def _unmap(self, link: Link, number: int) -> None:
        link.mapped.discard(number)
        self._send(link, encode(Kind.UNMAP, number))

    def close(self) -> None:
        """Give up everything, since there are no workers any more. Results stay as they are."""
        files, self._files = self._files, {}
        self.limit = 0
        self._returns.end()
        for file in files.values():
            file.leave()

    def disown(self, lock: Any) -> None:
        """Give up everything, in a forked copy of the process."""
        self._lock = lock
        self._returns.end()
        self._files.clear()
        self.limit = 0


def _most_segments() -> int:
    descriptors = soft_limit("RLIMIT_NOFILE")
    return MOST_SEGMENTS if descriptors is None else min(MOST_SEGMENTS, descriptors // 8)
