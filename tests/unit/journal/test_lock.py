"""Who has a journal, on file systems with locks and without."""

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
"""A process that had this one's pid before it."""


def test_the_owner_is_told_while_it_lives(tmp_path: Path) -> None:
    """The file says who has the lock; nobody has it before and after, though the file stays."""
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
    """A pid counts together with the time of its start and the boot; of other machines nothing is known."""
    assert Owner.from_text(owner.to_text()) == owner
    assert owner.is_alive() is alive


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"host": "a"}', "\0\0", '{"host": 1, "pid": "x", "boot": 1, "started": 1}']
)
def test_what_a_killed_process_left(tmp_path: Path, text: str) -> None:
    """Whatever the file says, nobody who is gone keeps others out."""
    path = tmp_path / "lock"
    for left in (text, GONE.to_text(), ME._replace(host="elsewhere").to_text()):
        path.write_text(left)
        lock = Lock(path)
        assert owner_of(path) == ME
        lock.release()


def test_a_lock_file_that_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who locks a file that somebody removes at that moment locks the one that is there then."""
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
    """File systems that have no locks: what the file says decides."""

    @pytest.fixture(autouse=True, params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
    def without_locks(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        def flock(*_: Any) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", flock)

    def test_the_dead_are_known(self, tmp_path: Path) -> None:
        """A process of this machine that is gone keeps nobody out."""
        path = tmp_path / "lock"
        for left in (GONE, ME._replace(boot="another")):
            path.write_text(left.to_text())
            Lock(path).release()

    def test_the_living_are_refused(self, tmp_path: Path) -> None:
        """A process that lives, or is on another machine, is named, with the remedy."""
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
