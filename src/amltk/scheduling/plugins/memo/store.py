"""What a folder keeps of outcomes: a journal for each session that writes, which all sessions read.

No session waits for another one: each adds to a journal of its own, so that nothing needs a lock, also over a network
file system. What a killed process was writing is left out.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from enum import IntEnum
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary

from amltk._process.limits import reason_of
from amltk.exceptions import JournalDamagedError, JournalError, JournalWriteError
from amltk.journal.folder import FOLDER_MODE, Folder
from amltk.journal.reader import Reader, read_record
from amltk.journal.values import read_value
from amltk.journal.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

_SHARE = 10
"""Looking for what other sessions have written takes at most one part in this many of the time."""

_NAME_LENGTH = 32


class Kind(IntEnum):
    """The kinds of records in a memo's journals. The numbers stand in files, so they never change."""

    RESULT = 64
    """A call returned. The head has the name of the function and the key, the value is the pickle of the result."""
    ERROR = 65
    """A call raised. The value is the pickle of what restores the exception."""
    FORGOTTEN = 66
    """What this journal has kept for the key before does not hold."""
    CODE = 67
    """A function had this code when its results were kept. The head has its name, version and the digest."""


class Kept(NamedTuple):
    """An outcome.

    Attributes:
        kind: `RESULT` or `ERROR`.
        pickle: Its pickle.
    """

    kind: int
    pickle: bytes


class _Entry(NamedTuple):
    """Where an outcome is: the folder of its journal, and the bytes of its record."""

    path: Path
    offset: int
    end: int


class Store:
    """The outcomes in a folder. May be used from any thread.

    Args:
        path: The folder; it is made if it is not there.

    Attributes:
        path: Its absolute path.

    Raises:
        JournalError: It cannot be made or read.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self._lock = Lock()
        self._readers: dict[str, Reader | None] = {}
        self._entries: dict[bytes, _Entry] = {}
        self._codes: dict[tuple[str, str], set[str]] = {}
        self._writer: Writer | None = None
        self._session = uuid4().hex
        self._pid = os.getpid()
        self._next_look = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(FOLDER_MODE, exist_ok=True)
            self._look()
        except OSError as error:
            raise JournalError(
                f"the memo {path} cannot be used: {error.strerror}. Give a folder that this user may read and write, "
                "or the name of one to be made"
            ) from error

    def find(self, key: bytes) -> Kept | None:
        """What is kept for a key; None if nothing is, or it cannot be read any more."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None and time.monotonic() >= self._next_look:
                self._look()
                entry = self._entries.get(key)
            if entry is None:
                return None
            try:
                return self._value_of(entry, key)
            except (JournalError, OSError) as error:
                _log.warning(
                    "what the memo %s has kept of a call is lost, so that it is computed: %s", self.path, error
                )
                if isinstance(error, JournalDamagedError):
                    del self._entries[key]
                else:
                    self._forget_journal(entry.path)
                return None

    @staticmethod
    def _value_of(entry: _Entry, key: bytes) -> Kept | None:
        """What is kept in an entry; raises a `JournalError` if it is not there any more."""
        folder = Folder(entry.path)
        record = read_record(folder, entry.offset, entry.end)
        if record.head.get("key") != key.hex():
            raise JournalError(f"the journal {folder} is another one than before")
        value = read_value(folder, record)
        return None if value is None else Kept(record.kind, value)

    def _forget_journal(self, path: Path) -> None:
        """Forget what is in a journal that was removed, or in all of them if the memo was."""
        if not self.path.exists():
            self._forget_all()
            return
        self._entries = {key: entry for key, entry in self._entries.items() if entry.path != path}
        self._readers.pop(path.name, None)
        if path.name == self._session:
            self._session = uuid4().hex  # one of the same name is written no more: its records are elsewhere

    def _forget_all(self) -> None:
        self._readers, self._entries, self._codes = {}, {}, {}
        self._session = uuid4().hex

    def has(self, key: bytes) -> bool:
        """Whether something is known to be kept for a key."""
        with self._lock:
            return key in self._entries

    def keep(self, name: str, key: bytes, kept: Kept) -> None:
        """Keep an outcome of a function of this name.

        Raises:
            JournalWriteError: It could not be written.
        """
        with self._lock:
            self._write(kept.kind, {"task": name, "key": key.hex()}, kept.pickle)

    def forget(self, key: bytes) -> None:
        """Keep no longer what this session has kept for a key."""
        with self._lock:
            self._write(Kind.FORGOTTEN, {"key": key.hex()})

    def knows_code(self, name: str, version: str, code: str) -> bool:
        """Whether outcomes of this version of a function were kept with this code, or with none that is known."""
        with self._lock:
            known = self._codes.get((name, version), ())
            return not known or code in known

    def note_code(self, name: str, version: str, code: str) -> None:
        """Note the code of a function, once."""
        with self._lock:
            if code not in self._codes.get((name, version), ()):
                self._write(Kind.CODE, {"task": name, "version": version, "code": code})

    def close(self) -> None:
        """Close this session's journal, until there is more to keep."""
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None and self._pid == os.getpid():
                writer.close()

    def _write(self, kind: int, head: dict[str, str], value: bytes | None = None) -> None:
        if self._pid != os.getpid():  # a forked copy of the program is a session of its own
            self._pid, self._session, self._writer = os.getpid(), uuid4().hex, None
        writer = None
        try:
            writer = self._writer = self._writer or Writer(self.path / self._session)
            offset = writer.end
            writer.add(kind, head, value)
            writer.flush()
        except BaseException as error:
            self._session, self._writer = uuid4().hex, None
            if writer is not None:
                with suppress(JournalError):
                    writer.close()
            if isinstance(error, JournalError) and isinstance(cause := error.__cause__, OSError):
                raise JournalWriteError(
                    f"the memo {self.path} cannot be written: {reason_of(cause)}. Everything that it has kept before is"
                    " safe; make room, or check the disk"
                ) from cause
            raise
        self._note(kind, head, writer.folder.path, offset, writer.end)

    def _look(self) -> None:
        """Read what all sessions have written since the last time."""
        began = time.monotonic()
        for name in self._sessions():
            self._read(name)
        now = time.monotonic()
        self._next_look = now + (_SHARE - 1) * (now - began)

    def _sessions(self) -> Iterator[str]:
        try:
            found = os.scandir(self.path)
        except FileNotFoundError:  # removed by the user, to forget everything
            self._forget_all()
            return
        with found as entries:
            for entry in entries:
                if len(entry.name) == _NAME_LENGTH and entry.name.isalnum():
                    yield entry.name

    def _read(self, session: str) -> None:
        if session == self._session and self._pid == os.getpid():
            return  # what it has is known
        if session not in self._readers:
            reader = Reader(self.path / session)
            if not reader.folder.log.exists():
                return  # it is being made
            self._readers[session] = reader
        reader_or_none = self._readers[session]
        if reader_or_none is None:
            return
        try:
            self._take_in(reader_or_none)
        except JournalError as error:
            _log.warning("a part of the memo %s cannot be read, and is computed again: %s", self.path, error)
            self._readers[session] = None

    def _take_in(self, reader: Reader) -> None:
        if reader.folder.log.stat().st_size == reader.position.offset:
            return
        for record in reader.records():
            self._note(record.kind, record.head, reader.folder.path, record.offset, record.end)

    def _note(self, kind: int, head: Mapping[str, str], path: Path, offset: int, end: int) -> None:
        """Note what a record says."""
        if kind in {Kind.RESULT, Kind.ERROR}:
            self._entries[bytes.fromhex(head["key"])] = _Entry(path, offset, end)
        elif kind == Kind.FORGOTTEN:
            key = bytes.fromhex(head["key"])
            if key in self._entries and self._entries[key].path == path:
                del self._entries[key]
        elif kind == Kind.CODE:
            self._codes.setdefault((head["task"], head["version"]), set()).add(head["code"])


_stores: WeakValueDictionary[Path, Store] = WeakValueDictionary()
_stores_lock = Lock()


def store_at(path: str | os.PathLike[str]) -> Store:
    """The store in a folder, of which a process has only one; raises as `Store` does."""
    absolute = Folder(path).path
    with _stores_lock:
        store = _stores.get(absolute)
        if store is None:
            store = _stores[absolute] = Store(absolute)
        return store
