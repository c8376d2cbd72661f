"""Ownership of a journal, on file systems with and without locks."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalLockedError
from amltk.journal.lock import Lock, owner_of
from amltk.journal.owner import Owner

if TYPE_CHECKING:
    from pathlib import Path

ME = Owner.me()
GONE = ME._replace(started=ME.started - 1)
"""An earlier process with this process's pid."""


def test_the_owner_is_told_while_it_lives(tmp_path: Path) -> None:
    """The file names the lock's owner; before and after there is none, although the file stays."""
    path = tmp_path / "lock"
    assert owner_of(path) is None
    lock = Lock(path)
    assert owner_of(path) == ME
    lock.release()
    assert path.exists()
    assert owner_of(path) is None


@pytest.mark.parametrize(
    ("owner", "alive"),
    [
        (ME, True),
        (GONE, False),
        (ME._replace(boot="another"), False),
        (ME._replace(pid=2**22 + 1), False),
        (ME._replace(host="elsewhere"), None),
    ],
)
def test_pids_are_used_again(owner: Owner, alive: bool | None) -> None:
    """A pid counts only with its start time and boot id; the state of other machines is unknown."""
    assert Owner.from_text(owner.to_text()) == owner
    assert owner.is_alive() is alive


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"host": "a"}', "\0\0", '{"host": 1, "pid": "x", "boot": 1, "started": 1}']
)
def test_what_a_killed_process_left(tmp_path: Path, text: str) -> None:
    """Whatever the file says, a dead owner locks out no other process."""
    path = tmp_path / "lock"
    for left in (text, GONE.to_text(), ME._replace(host="elsewhere").to_text()):
        path.write_text(left)
        lock = Lock(path)
        assert owner_of(path) == ME
        lock.release()


def test_a_lock_file_that_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock taken on a file that is removed at that moment is taken on the file that replaces it."""
    path, real = tmp_path / "lock", fcntl.flock
    removals = [path.unlink]

    def flock(descriptor: int, operation: int) -> None:
        if removals:
            removals.pop()()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = Lock(path)
    assert os.path.samestat(os.fstat(lock.descriptor), path.stat())
    lock.release()


class TestWithoutLocks:
    """File systems without locks: the content of the file decides."""

    @pytest.fixture(autouse=True, params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    def without_locks(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        def flock(*_: Any) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", flock)

    def test_the_dead_are_known(self, tmp_path: Path) -> None:
        """A dead process of this machine does not lock out others."""
        path = tmp_path / "lock"
        for left in (GONE, ME._replace(boot="another")):
            path.write_text(left.to_text())
            Lock(path).release()

    def test_the_living_are_refused(self, tmp_path: Path) -> None:
        """A process that is alive, or on another machine, is named, with the remedy."""
        path = tmp_path / "lock"
        far = ME._replace(host="far", pid=7)
        parent = Owner(ME.host, os.getppid(), ME.boot, _start(os.getppid()))
        for owner, who in (
            (parent, "process {0.pid} on {0.host}"),
            (ME, "this process"),
            (far, "process 7 on far"),
        ):
            path.write_text(owner.to_text())
            with pytest.raises(JournalLockedError, match=f"{who.format(owner)}: .*remove {path}") as caught:
                Lock(path)
            assert (caught.value.host, caught.value.pid) == (owner.host, owner.pid)


def _start(pid: int) -> float:
    from amltk.journal import owner

    started = owner._start_of(pid)
    assert started is not None
    return started
