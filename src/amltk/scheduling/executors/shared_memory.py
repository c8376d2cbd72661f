"""Where the contents of shared objects are: memory without a name, which workers on this machine map.

It begins with a head: whether the object is still shared, the number of buffers, and their sizes, that of the pickle
first; then come the pickle and its out-of-band buffers, each aligned.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import tempfile
import weakref
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from amltk._process.limits import reason_of
from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan
from amltk.scheduling.executors.process_pool._system.memory_files import padded, split
from amltk.scheduling.executors.remote.pickling import dump_with_buffers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Ticket

_HEAD = struct.Struct("<QQ")

CHUNK_BYTES = 1 << 24
"""How many bytes are written or read at once."""

_all: weakref.WeakSet[ObjectMemory] = weakref.WeakSet()


class ObjectMemory:
    """The contents of one object.

    Args:
        value: The object.
        has_main: Whether it is for processes that have the program's `__main__`.

    Raises:
        OSError: There is not enough memory, or this process has too many open files.
        Exception: What pickling it raises.
    """

    def __init__(self, value: Any, *, has_main: bool) -> None:
        self._descriptor = -1
        self._loan: Loan | None = None
        buffers: list[pickle.PickleBuffer] = []
        payload = dump_with_buffers(value, buffers.append, has_main=has_main)
        named = payload if has_main else dump_with_buffers(value, lambda _: False, has_main=True)
        pieces = [memoryview(payload), *(buffer.raw() for buffer in buffers)]
        sizes = [piece.nbytes for piece in pieces]
        head = _HEAD.pack(1, len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
        self._descriptor = _make()
        _all.add(self)
        self._named = blake2b(named).digest()
        self._places: list[tuple[int, int]] = []  # of the buffers: where they begin and how large they are
        try:
            self._write([memoryview(head), *pieces])
        except OSError as error:
            self.leave()
            mebibytes = sum(sizes) / (1 << 20)
            raise OSError(
                error.errno, f"an object of {mebibytes:,.1f} MiB cannot be shared: {reason_of(error)}"
            ) from error
        del self._places[:2]
        self._loan = Loan(self._descriptor)

    def _write(self, pieces: list[memoryview]) -> None:
        at = 0
        for piece in pieces:
            self._places.append((at, piece.nbytes))
            done = 0
            while done < piece.nbytes:
                done += os.pwrite(self._descriptor, piece[done : done + CHUNK_BYTES], at + done)
            at += padded(piece.nbytes)
        os.ftruncate(self._descriptor, at)

    @property
    def ticket(self) -> Ticket:
        """What a worker exchanges for the contents."""
        assert self._loan is not None, "it is closed"
        return self._loan.ticket

    def view(self) -> memoryview:
        """The contents, mapped into the memory of this process."""
        return map_readonly(self._descriptor)

    def digest(self) -> str:
        """The same as `digest_of` of the object."""
        return _combined(self._named, self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        for begin, size in self._places:
            for at in range(0, size, CHUNK_BYTES):
                yield os.pread(self._descriptor, min(CHUNK_BYTES, size - at), begin + at)

    def close(self) -> None:
        """Give it up. Workers that have it drop it when they are given another one."""
        if self._descriptor >= 0:
            os.pwrite(self._descriptor, _HEAD.pack(0, 0), 0)
            self._loan = None
            self.leave()

    def leave(self) -> None:
        """Close it here."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def digest_of(value: Any) -> str:
    """The same for objects with the same contents, in any session."""
    buffers: list[pickle.PickleBuffer] = []
    named = dump_with_buffers(value, buffers.append, has_main=True)
    return _combined(blake2b(named).digest(), (buffer.raw() for buffer in buffers))


def _combined(named: bytes, pieces: Iterable[bytes | memoryview]) -> str:
    digest = blake2b(named, digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _make() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("amltk-shared")
    with tempfile.TemporaryFile() as file:  # also without a name, but on disk
        return os.dup(file.fileno())


def map_readonly(descriptor: int) -> memoryview:
    """A file, mapped into the memory of this process."""
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def is_shared_still(view: memoryview) -> bool:
    """Whether the object of these contents is still shared."""
    shared, _ = _HEAD.unpack_from(view)
    return bool(shared)


def load(view: memoryview) -> Any:
    """The object of these contents. Its buffers stay where they are, and cannot be changed.

    Raises:
        ValueError: It is no longer shared.
        Exception: What unpickling it raises.
    """
    shared, number = _HEAD.unpack_from(view)
    if not shared:
        raise ValueError("it is not shared any more")
    sizes = struct.unpack_from(f"<{number}Q", view, _HEAD.size)
    payload, *buffers = split(view[padded(_HEAD.size + 8 * number) :], sizes)
    return pickle.loads(payload, buffers=buffers)


def _forget() -> None:
    """In a forked process: these are its parent's, which gives them up for all."""
    for memory in list(_all):
        if memory._descriptor >= 0:
            memory.leave()


os.register_at_fork(after_in_child=_forget)
