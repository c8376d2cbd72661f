"""The lock of a journal: a file of its own, which says who has it.

The system's lock on the file decides, so that it is never stale: the system releases it when the process ends, however
it ends, and network file systems do so as well. What the file says is for messages. Only where the file system has no
locks does it decide, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from amltk.exceptions import JournalLockedError
from amltk.journal.owner import Owner

if TYPE_CHECKING:
    from pathlib import Path

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_LONGEST = 4096
"""The longest text that a lock file has, in bytes."""


class Lock:
    """The lock of a folder, held until `release`.

    Args:
        path: The file; it is made if it is not there, and it stays.

    Attributes:
        descriptor: The open file. A child that inherits it holds the lock as well, so it has to close it.

    Raises:
        JournalLockedError: Another process has it, or another journal of this process.
        OSError: The file cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor: int = _locked(path)
        try:
            _rewrite(self.descriptor, Owner.me().to_text())
        except BaseException:
            os.close(self.descriptor)
            raise

    def release(self) -> None:
        """Let others have it."""
        try:
            _rewrite(self.descriptor, "")
        finally:
            os.close(self.descriptor)


def owner_of(path: Path) -> Owner | None:
    """Who has the lock; None if nobody does. Of a process on another machine it is not known whether it still lives."""
    try:
        owner = Owner.from_text(path.read_text("utf-8", "replace"))
    except FileNotFoundError:
        return None
    return None if owner is None or owner.is_alive() is False else owner


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # some systems lock only what may be written
        try:
            _lock(descriptor, path)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # somebody has removed the file meanwhile, so that others lock another one


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD | _UNSUPPORTED:
            raise
        owner = Owner.from_text(os.pread(descriptor, _LONGEST, 0).decode("utf-8", "replace"))
        if error.errno in _HELD:
            raise _refusal(path, owner, "wait for it to end, or end it") from None
        if owner is not None and owner.is_alive() is not False:
            raise _refusal(
                path,
                owner,
                f"the file system has no locks, so that process may have ended; if it has, remove {path}",
            ) from None


def _refusal(path: Path, owner: Owner | None, remedy: str) -> JournalLockedError:
    if owner is None:
        return JournalLockedError(f"the journal {path.parent} is in use by another process: {remedy}")
    who = "this process" if owner == Owner.me() else f"process {owner.pid} on {owner.host}"
    return JournalLockedError(f"the journal {path.parent} is in use by {who}: {remedy}", host=owner.host, pid=owner.pid)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _rewrite(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
