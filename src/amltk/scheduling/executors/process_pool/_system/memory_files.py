"""Memory that processes share: files without a name, which disappear when no process has them any more.

Only on Linux. Elsewhere such memory has a name, and would be left behind by a process that is killed.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import pickle
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK_BYTES = 1 << 23
"""How many bytes are copied before other threads have a turn."""

ALIGNMENT_BYTES = 64
"""Buffers begin at multiples of this many bytes, as numpy's own do."""

_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value


def are_possible() -> bool:
    """Whether this system has them."""
    return hasattr(os, "memfd_create")


class MemoryFile:
    """Such a file. It is closed when this object is gone.

    Args:
        descriptor: Its descriptor, which belongs to this object from now on.
        size: Its size in bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor: int = descriptor
        self.size: int = size
        self._map: mmap.mmap | None = None
        self._is_private = False
        self._leases = 0

    @classmethod
    def make(cls, size: int) -> MemoryFile:
        """Make a new file, which takes no memory before `allocate`.

        Raises:
            OSError: This process has too many open files.
        """
        return cls(os.memfd_create("amltk"), size)

    def allocate(self) -> None:
        """Allocate its memory, where that can be refused: a page that is missing when it is written ends the process.

        Raises:
            OSError: There is not enough memory.
        """
        os.posix_fallocate(self.descriptor, 0, self.size)

    def map(self) -> mmap.mmap:
        """Map it into the memory of this process; it stays mapped, since mapping takes time.

        Raises:
            OSError: This process may not map that much memory.
        """
        if self._map is None:
            place = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            # Mapped over that: a `mmap` of a file keeps a descriptor of its own before CPython 3.13.
            self._put_over(place, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            self._map = place
        return self._map

    def _put_over(self, place: mmap.mmap, flags: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
        address = ctypes.addressof(ctypes.c_char.from_buffer(place))
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        if libc.mmap(address, self.size, protection, flags | _FIXED, self.descriptor, 0) == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def write(self, buffers: Sequence[memoryview]) -> None:
        """Write buffers one after the other, each aligned.

        Raises:
            OSError: As `map`.
        """
        with memoryview(self.map()) as target:
            at = 0
            for buffer in buffers:
                for begin in range(0, buffer.nbytes, CHUNK_BYTES):
                    piece = buffer[begin : begin + CHUNK_BYTES]
                    target[at + begin : at + begin + piece.nbytes] = piece
                at += padded(buffer.nbytes)

    def views(self, sizes: Sequence[int], on_end: Callable[[bool], None]) -> list[memoryview]:
        """Views of what `write` has written, without a copy.

        Args:
            sizes: The sizes of the buffers.
            on_end: Called when none of it is used any more, on whichever thread drops it last, so it must not take a
                lock. Its argument says whether a forked process may still use it.

        Raises:
            OSError: As `map`.
        """
        return split(pickle.PickleBuffer(_Lease(self, on_end).open(self.map())).raw(), sizes)

    def copy(self, size: int) -> bytearray:
        """A copy of the beginning, which does not require mapping it.

        Raises:
            MemoryError: There is no room for it.
        """
        copy = bytearray(size)
        with memoryview(copy) as target:
            at = 0
            while at < size:
                at += os.preadv(self.descriptor, [target[at:]], at)
        return copy

    def give_up(self) -> None:
        """Give its memory back to the system, whichever processes have it. Not while any of them reads it."""
        os.ftruncate(self.descriptor, 0)

    def leave(self) -> None:
        """Close it, if no other process writes to it any more. The views of it stay as they are."""
        if self._leases:
            try:
                self.become_private()
            except OSError:
                return  # it stays open until the last view is gone
            self._close()

    def note_lease(self, change: int) -> None:
        """Change the number of leases."""
        self._leases += change

    def become_private(self) -> None:
        """Keep what this process and its forks change from now on private to each of them."""
        if not self._is_private and self._map is not None and self.descriptor >= 0:
            self._put_over(self._map, mmap.MAP_PRIVATE)
            self._is_private = True

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self._close()


def split(whole: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """The buffers that were written one after the other."""
    at, found = 0, []
    for size in sizes:
        found.append(whole[at : at + size])
        at += padded(size)
    return found


def padded(size: int) -> int:
    """The size of a buffer, with the padding before the next one."""
    return size + -size % ALIGNMENT_BYTES


def size_of(sizes: Sequence[int]) -> int:
    """The size of buffers that are written one after the other."""
    return sum(map(padded, sizes))


class _Lease:
    """The use of a file by views, until the last one is gone.

    While there is one, the file must not change: a process that is forked meanwhile has the views, too.
    """

    def __init__(self, file: MemoryFile, on_end: Callable[[bool], None]) -> None:
        self.file: MemoryFile = file
        self.is_spoilt: bool = False
        self._on_end = on_end
        self._key = next(_keys)
        self._exporter: weakref.ref[ctypes.Array[ctypes.c_char]]

    def open(self, place: mmap.mmap) -> ctypes.Array[ctypes.c_char]:
        """An object from which the views are made, and that lives as long as any of them does."""
        exporter = (ctypes.c_char * self.file.size).from_buffer(place)
        self._exporter = weakref.ref(exporter, self._end)
        _leases[self._key] = self
        self.file.note_lease(1)
        return exporter

    def _end(self, _: object) -> None:
        _leases.pop(self._key, None)
        self.file.note_lease(-1)
        self._on_end(self.is_spoilt)


_keys = itertools.count()
_leases: dict[int, _Lease] = {}
"""All leases in this process."""


def _part_from_copies() -> None:
    """Before a fork: keep what either side changes afterwards private to it."""
    for lease in list(_leases.values()):
        lease.is_spoilt = True
        lease.file.become_private()


os.register_at_fork(before=_part_from_copies)
