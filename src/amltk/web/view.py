"""`run(display="web")`: the page of a run, served by a process of its own, which the run starts."""

from __future__ import annotations

import atexit
import logging
import os
import select
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from amltk import _extras
from amltk.web.event_recorder import EventRecorder

if TYPE_CHECKING:
    from amltk.scheduling.scheduler import Scheduler

_log = logging.getLogger(__name__)

PATIENCE = 5.0
"""For how many seconds a run waits for its server to start at most, and the end of the program for it to end."""


class _Server(NamedTuple):
    """A server that was started.

    Attributes:
        process: Its process.
        life: A descriptor; while it is open, the server goes on. It is closed when this program ends, however it ends.
        temporary: A folder to be removed with it; None if there is none.
    """

    process: subprocess.Popen[bytes]
    life: int
    temporary: str | None


_servers: dict[str, _Server] = {}
"""The servers of this program, by the folders that they show; they end with it."""


class WebView:
    """Starts the page of a run and prints the link to standard error. On the loop's thread.

    The page stays until the program ends: a run that has ended can still be looked at.

    Args:
        scheduler: The scheduler whose run is shown.
        folder: The folder of the run's journal; None if it has none. Then what the page needs goes to a temporary one.
        timeout: The timeout of the run in seconds; None if it has none.

    Raises:
        MissingExtraError: Starlette or uvicorn are not installed.
    """

    def __init__(self, scheduler: Scheduler, folder: str | None, timeout: float | None) -> None:
        _extras.load("amltk.web.serve", needs=("starlette", "uvicorn"), extra="web")
        self._recorder = None if folder is not None else EventRecorder(scheduler, timeout)
        self._folder = folder
        self._unread = b""
        self._server: _Server | None = None

    def start(self) -> None:
        """Start the server, unless it is there from an earlier run."""
        temporary = None
        if self._recorder is not None:
            self._folder = temporary = tempfile.mkdtemp(prefix="amltk-run-")
            self._recorder.open(temporary)
        assert self._folder is not None
        if self._folder in _servers:
            return
        self._server = _servers[self._folder] = _start(self._folder, temporary)

    def refresh(self) -> None:
        """Print the link once it is known, and record what has happened."""
        self._print_link()
        if self._recorder is not None:
            self._recorder.refresh()

    def stop(self) -> None:
        """Record the end. If the run was shorter than it takes to start the server, wait for the link."""
        if self._server is not None and self._server.process.stdout is not None:
            select.select([self._server.process.stdout], [], [], PATIENCE)
        self._print_link()
        if self._recorder is not None:
            self._recorder.close()

    def _print_link(self) -> None:
        server = self._server
        if server is None or server.process.stdout is None:
            return
        try:
            told = os.read(server.process.stdout.fileno(), 4096)
        except BlockingIOError:
            return
        self._unread += told
        if not told or b"\n" in self._unread:
            server.process.stdout.close()
            self._server = None
            link = self._unread.decode().strip()
            if link:
                print(f"amltk: this run is shown at {link}", file=sys.stderr, flush=True)  # noqa: T201 - as a display
            else:
                _log.warning("the page of the run could not be started: `amltk serve %s` says why", self._folder)


def _start(folder: str, temporary: str | None) -> _Server:
    theirs, life = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "amltk", "serve", folder, "--ends-with", str(theirs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=(theirs,),
            start_new_session=True,  # Ctrl-C is for this program
        )
    except BaseException:
        os.close(life)
        raise
    finally:
        os.close(theirs)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    return _Server(process, life, temporary)


@atexit.register
def close_servers() -> None:
    """End the servers of this program and wait for them."""
    while _servers:
        _, server = _servers.popitem()
        os.close(server.life)
        if server.process.stdout is not None:
            server.process.stdout.close()
        try:
            server.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        if server.temporary is not None:
            shutil.rmtree(server.temporary, ignore_errors=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_servers.clear)
