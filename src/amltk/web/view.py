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
import time
from typing import TYPE_CHECKING

from amltk import _extras
from amltk.web.event_recorder import EventRecorder

if TYPE_CHECKING:
    from amltk.scheduling.scheduler import Scheduler

_log = logging.getLogger(__name__)

START_PATIENCE = 30.0
"""How many seconds the end of a run waits for its server to start, at most, which takes long on a busy machine."""

PATIENCE = 5.0
"""How many seconds the end of the program waits for a server to end."""


class _Server:
    """A server that was started.

    Args:
        folder: The folder of the journal that it shows.
        temporary: Whether the folder is to be removed with it.
    """

    def __init__(self, folder: str, *, temporary: bool) -> None:
        self.folder: str = folder
        self._temporary = temporary
        self._told = b""  # what it has printed: the link, once that is a whole line
        theirs, self._life = os.pipe()  # it ends when our side is closed, which it is however this program ends
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "amltk", "serve", folder, "--ends-with", str(theirs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is for this program
            )
        except BaseException:
            os.close(self._life)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    def is_alive(self) -> bool:
        """Whether it is still running."""
        return self._process.poll() is None

    def link(self) -> str | None:
        """The link; None if it is not known yet, and empty if the server has ended without one."""
        if not self._output.closed:
            try:
                told = os.read(self._output.fileno(), 4096)
            except BlockingIOError:
                return None
            self._told += told
            if told and b"\n" not in self._told:
                return None
            self._output.close()
        return self._told.decode().strip()

    def wait_for_link(self) -> None:
        """Wait until the link is known, or `START_PATIENCE` has passed."""
        end = time.monotonic() + START_PATIENCE
        while self.link() is None and (left := end - time.monotonic()) > 0:  # it may come in pieces
            select.select([self._output], [], [], left)

    def close(self) -> None:
        """End it, and wait until it has ended."""
        os.close(self._life)
        self._output.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)


_servers: dict[str, _Server] = {}
"""The servers of this program, by the folders that they show; they end with it."""


class WebView:
    """Starts the page of a run and prints the link to standard error. On the loop's thread.

    The page stays until the program ends: a run that has ended can still be looked at.

    Args:
        scheduler: The scheduler whose run is shown.
        folder: The folder of the run's journal; None if it has none. Then what the page needs goes to a temporary one.

    Raises:
        MissingExtraError: Starlette or uvicorn are not installed.
    """

    def __init__(self, scheduler: Scheduler, folder: str | None) -> None:
        _extras.check("starlette", "uvicorn", extra="web")  # the server's process imports them
        self._recorder = None if folder is not None else EventRecorder(scheduler)
        self._folder = folder
        self._server: _Server | None = None
        self._has_printed = False

    def start(self) -> None:
        """Start the server, unless it is there from an earlier run."""
        is_temporary = self._recorder is not None
        if self._recorder is not None:
            self._folder = tempfile.mkdtemp(prefix="amltk-run-")
            self._recorder.open(self._folder)
        assert self._folder is not None
        known = _servers.get(self._folder)
        if known is not None and not known.is_alive():
            _servers.pop(self._folder).close()
            known = None
        if known is None:
            known = _servers[self._folder] = _Server(self._folder, temporary=is_temporary)
        self._server = known

    def refresh(self) -> None:
        """Print the link once it is known, and record what has happened."""
        self._print_link()
        if self._recorder is not None:
            self._recorder.refresh()

    def stop(self) -> None:
        """Record the end. If the run was shorter than it takes to start the server, wait for the link."""
        if self._server is not None and not self._has_printed:
            self._server.wait_for_link()
            self._print_link()
        if self._recorder is not None:
            self._recorder.close()

    def _print_link(self) -> None:
        link = None if self._server is None or self._has_printed else self._server.link()
        if link is None:
            return
        self._has_printed = True
        if link:
            print(f"amltk: this run is shown at {link}", file=sys.stderr, flush=True)  # noqa: T201 - as a display
        else:
            _log.warning("the page of the run could not be started: `amltk serve %s` says why", self._folder)


@atexit.register
def close_servers() -> None:
    """End the servers of this program and wait for them."""
    while _servers:
        _servers.popitem()[1].close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_servers.clear)
