"""Writes a journal: one process, which adds records at the end and changes nothing that is there."""

from __future__ import annotations

import logging
import os
import weakref
from bisect import bisect_right
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from amltk._process import clock
from amltk._process.limits import reason_of
from amltk.exceptions import JournalError, JournalWriteError
from amltk.journal.folder import FILE_MODE, NO_ROOM, Folder, sync_folder, unusable
from amltk.journal.format import (
    MARK,
    MAX_INLINE,
    NO_CALL,
    STAMP_SIZE,
    START,
    VERSION,
    Place,
    Position,
    encode,
    encode_head,
    encode_reference,
    read_signature,
)
from amltk.journal.kinds import Header, Kind
from amltk.journal.lock import Lock
from amltk.journal.reader import whole_batches
from amltk.journal.values import write_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from amltk.journal.format import Frame

Sync = Literal["process", "machine"]
"""What a record outlives: the end of the process, or a loss of power, too."""

Survey: TypeAlias = "Callable[[Iterator[list[Frame]]], object]"
"""Goes through frames, which come in lists."""

_log = logging.getLogger(__name__)

_open: weakref.WeakSet[Writer] = weakref.WeakSet()
"""Writers of this process; a forked child closes its copies of their files, so that it holds no lock."""

_NOWHERE, _INLINE, _FILE = map(int, (Place.NOWHERE, Place.INLINE, Place.FILE))  # members of an enum are slow to reach


class Writer:
    """Adds records to the journal in a folder, which it makes if it is not there; holds its lock until `close`.

    The whole log is checked first. An incomplete record at its end is what a process was writing when it was killed: it
    is cut off, which is logged.

    ```python
    with Writer("search") as writer:
        writer.add(Kind.SUBMISSION, {"task": "train"}, call=0)
        writer.flush()
    ```

    Use it on one thread at a time.

    Args:
        folder: The folder.
        sync: What a record outlives once `flush` has returned: with "process" the end of this process, however it ends;
            with "machine" a loss of power, too, which takes as long as the disk needs.
        survey: Is given the frames of the log, in lists, while they are checked, so that a program reads it no second
            time.

    Attributes:
        folder: The folder.
        cut: How many bytes of an incomplete record were cut off.

    Raises:
        JournalLockedError: Another process uses the journal.
        JournalVersionError: It has a newer format.
        JournalDamagedError: A record is not what was written, and there are whole ones behind it.
        JournalError: The folder cannot be made, read or written.
        ValueError: `sync` is something else.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | Folder, *, sync: Sync = "process", survey: Survey | None = None
    ) -> None:
        if sync not in get_args(Sync):
            raise ValueError(f'sync={sync!r}: must be "process" or "machine"')
        self.folder: Folder = (folder if isinstance(folder, Folder) else Folder(folder)).make()
        self.cut: int = 0
        self._sync = sync
        self._frames: list[bytes] = []
        self._values: list[tuple[int, bytes]] = []
        self._lost: OSError | None = None
        self._releases: list[Callable[[], object]] = []
        self._descriptors: list[int] = []
        try:
            self._acquire(survey)
        except OSError as error:
            self._release()
            raise unusable(self.folder, "opened for writing", error) from error
        except BaseException:
            self._release()
            raise
        _open.add(self)

    def _acquire(self, survey: Survey | None) -> None:
        lock = Lock(self.folder.lock)
        self._releases.append(lock.release)
        self._log_file = self._opened(self.folder.log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._directory = self._opened(self.folder.values, os.O_RDONLY | os.O_DIRECTORY)
        self._descriptors.append(lock.descriptor)
        self._end, self._written = self._cut_end(survey)
        if self._written:
            self._signature = read_signature(self._log_file)
        else:
            self._write_header()

    def _opened(self, path: os.PathLike[str], flags: int) -> int:
        descriptor = os.open(path, flags, FILE_MODE)
        self._releases.append(lambda: os.close(descriptor))
        self._descriptors.append(descriptor)
        return descriptor

    def _cut_end(self, survey: Survey | None) -> Position:
        """Check the log, cut an incomplete record off, return where the next one will begin."""
        size = os.fstat(self._log_file).st_size
        position = START

        def checked() -> Iterator[list[Frame]]:
            nonlocal position
            position = yield from whole_batches(self._log_file, self.folder, START, size)

        batches = checked()
        if survey is not None:
            survey(batches)
        deque(batches, maxlen=0)
        self.cut = size - position.offset
        if self.cut:
            os.ftruncate(self._log_file, position.offset)
            _log.warning(
                "the last record of the journal %s was incomplete (%d bytes), because the process that wrote it was "
                "killed. It was removed; the call that it belongs to is computed again",
                self.folder,
                self.cut,
            )
        return position

    def _write_header(self) -> None:
        self._signature = MARK + os.urandom(STAMP_SIZE)
        self.add(Kind.HEADER, Header(format=VERSION))
        self.flush()
        os.fsync(self._log_file)
        sync_folder(self.folder.path)

    @property
    def number(self) -> int:
        """The number that the next record gets."""
        return self._written + len(self._frames)

    @property
    def end(self) -> int:
        """How many bytes the log has, as far as it is written: where the next record will begin."""
        return self._end

    def add(
        self,
        kind: int,
        head: Mapping[str, Any],
        value: bytes | None = None,
        *,
        call: int | None = None,
        at: float | None = None,
    ) -> int:
        """Add a record, which `flush` writes.

        Args:
            kind: What it is about, one of `Kind`.
            head: What it says: whatever JSON has something for.
            value: A pickle, or other bytes; None if there is none. With more than 64 KiB, it gets a file of its own.
            call: The number of the call that it is about; None if it is about none.
            at: Its time, in seconds since the epoch; None for now.

        Returns:
            The record's number.

        Raises:
            ValueError: The head has more than 16 MiB.
            TypeError: There is something in the head that JSON has nothing for.
        """
        return self.add_encoded(kind, encode_head(head), value, call, clock.now() if at is None else at)

    def add_encoded(self, kind: int, head: bytes, value: bytes | None, call: int | None, at: float) -> int:
        """The same with a head that is already encoded, as by `encode_head`: for records that are added very often."""
        frames = self._frames
        number = self._written + len(frames)
        call = NO_CALL if call is None else call
        if value is None:
            frame = encode(self._signature, number, kind, call, at, head, _NOWHERE, b"")
        elif len(value) <= MAX_INLINE:
            frame = encode(self._signature, number, kind, call, at, head, _INLINE, value)
        else:
            frame = encode(self._signature, number, kind, call, at, head, _FILE, encode_reference(value))
            self._values.append((number, value))
        frames.append(frame)  # last, and in one step: a signal's handler may raise between any two
        return number

    def flush(self) -> None:
        """Write all that was added. If it raises, what could not be written is kept for the next time.

        Raises:
            JournalWriteError: The disk is full, the log was removed, or something else is wrong with it.
        """
        if not self._frames:
            return
        size = self._checked_size()
        try:
            if self._values:
                write_values(self._directory, self._values)
                self._values = []
            self._write(b"".join(self._frames), size - self._end)
        except OSError as error:
            self._go_back()
            raise self._failed(error) from error
        if self._sync == "machine":
            self._sync_log()

    def _checked_size(self) -> int:
        """The size of the log, if it is still this writer's."""
        if not self._descriptors:
            raise JournalError(
                f"the journal {self.folder} cannot be written: it was closed, or this is a fork of the process that "
                "opened it"
            )
        if self._lost is not None:
            raise self._failed(self._lost) from self._lost
        status = os.fstat(self._log_file)
        if not status.st_nlink:
            raise JournalWriteError(
                f"the journal {self.folder} was removed: restore it from a copy, or use a new folder"
            )
        return status.st_size

    def _write(self, data: bytes, done: int) -> None:
        """Write it at the end.

        Args:
            data: What to write.
            done: How much is behind what is known to be written: that of a `flush` that an exception of a signal's
                handler has ended. Usually nothing.
        """
        if done and (done < 0 or os.pread(self._log_file, done, self._end) != data[:done]):
            raise JournalWriteError(
                f"another process has changed the journal {self.folder}, so this one stops writing to it: let only one "
                f"at a time use it, then run `amltk verify {self.folder}`"
            )
        rest = memoryview(data)[done:]
        while rest:
            rest = rest[os.write(self._log_file, rest) :]
        end, written = self._end + len(data), self._written + len(self._frames)
        self._end, self._written, self._frames = end, written, []  # in one step, as in `add`

    def _go_back(self) -> None:
        """Cut off what is no whole record; those that are whole are written."""
        try:
            size = os.fstat(self._log_file).st_size
            ends = list(accumulate(map(len, self._frames), initial=self._end))
            whole = max(bisect_right(ends, size) - 1, 0)
            end, written, rest = ends[whole], self._written + whole, self._frames[whole:]
            self._end, self._written, self._frames = end, written, rest  # in one step, as in `add`
            if size > self._end:
                os.ftruncate(self._log_file, self._end)
        except OSError as error:
            self._lost = error  # what is at the end now is not known, and nothing may be written behind it

    def _sync_log(self) -> None:
        try:
            os.fdatasync(self._log_file) if hasattr(os, "fdatasync") else os.fsync(self._log_file)
        except OSError as error:
            self._lost = error  # the system has dropped what it could not write, and will not say so again
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> JournalWriteError:
        remedy = "make room" if error.errno in NO_ROOM else "check the disk"
        return JournalWriteError(
            f"the journal {self.folder} cannot be written: {reason_of(error)}. Everything written before is safe: "
            f"{remedy}, and start the program again to continue from there"
        )

    def close(self) -> None:
        """Write what was added, have the system put all of it on the disk, and let others have the journal.

        Harmless when repeated.

        Raises:
            JournalWriteError: Something could not be written.
        """
        if not self._descriptors:
            return
        try:
            self.flush()
            self._sync_log()
        finally:
            self._release()

    def _release(self) -> None:
        self._descriptors = []
        _open.discard(self)
        while self._releases:
            self._releases.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _forget_in_child() -> None:
    for writer in list(_open):
        for descriptor in writer._descriptors:
            os.close(descriptor)
        writer._descriptors = []
        writer._releases = []
    _open.clear()


os.register_at_fork(after_in_child=_forget_in_child)
