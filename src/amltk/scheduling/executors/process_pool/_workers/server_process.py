"""The process of the fork server: a fresh interpreter."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from amltk._compat import interpreter_flags
from amltk._process.program import environment, import_path
from amltk.scheduling.executors._transfer.descriptors import socket_pair
from amltk.scheduling.executors.process_pool._system.descendants import watch
from amltk.scheduling.executors.process_pool._system.marks import end_marked, marked, new_mark

if TYPE_CHECKING:
    import socket

    from amltk.scheduling.executors.process_pool.options import Surroundings

_log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""How long to wait for the end of the process, in seconds."""

SERVER = "amltk.scheduling.executors.process_pool._workers.fork_server.server"
"""The module that it runs; this process does not need it."""

_PROGRAM = (
    "import gc, sys; sys.path[:] = {path!r}; on = gc.isenabled(); gc.disable(); from {module} import {function}; "
    "gc.freeze(); on and gc.enable(); {function}(*map(int, sys.argv[1:]))"
)
"""The collector would take a tenth of the import, and later look at what stays, in each copy of the process as well."""


def find_executable() -> str | None:
    """The interpreter; None if there is none that can be run again, as in a frozen program."""
    spawn = sys.modules.get("multiprocessing.spawn")
    executable: Any = spawn.get_executable() if spawn is not None else sys.executable  # users may have set it
    return None if getattr(sys, "frozen", False) or not executable else os.fsdecode(executable)


def command(executable: str, module: str, function: str) -> list[str]:
    """The command for a function of this package in a fresh interpreter with the same path; its arguments follow.

    Without `-P`, if the current folder was removed, CPython 3.13.0 to 3.13.2 raise a SystemError for each attribute
    that a module lacks (gh-130932). It has no other effect here, since the path is replaced.
    """
    program = _PROGRAM.format(path=import_path(), module=module, function=function)
    return [executable, *interpreter_flags(), "-P", "-c", program]


def start_environment() -> dict[str, str]:
    """The environment variables to start a fresh interpreter with.

    With `PYTHONINSPECT` it would show its end as an error, and then wait for what is typed.
    """
    return {name: value for name, value in environment().items() if name != "PYTHONINSPECT"}


class ServerProcess:
    """Such a process.

    Args:
        surroundings: The environment that workers start with.
        executable: The interpreter.

    Attributes:
        control: The connection to it.
        mark: It and its descendants are found by this, see `marks`.

    Raises:
        OSError: It could not be started.
    """

    def __init__(self, surroundings: Surroundings, executable: str) -> None:
        self.mark: str = new_mark()
        directory, variables, *passed = surroundings
        if directory is not None and not os.path.isdir(directory):  # a string, as it travels
            _log.warning(
                "%s, where this pool was made, no longer exists: its workers start in the current folder", directory
            )
            directory = None
        self.control: socket.socket
        self.control, theirs = socket_pair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command(executable, SERVER, "main"), *map(str, (theirs.fileno(), os.getpid(), *passed))],
                    env={**variables, **start_environment(), **marked(self.mark)},
                    pass_fds=[theirs.fileno(), *(descriptor for descriptor in passed if descriptor >= 0)],
                    stdin=subprocess.DEVNULL,
                    process_group=0,
                    cwd=directory,
                )
        except BaseException:
            self.control.close()
            raise

    def end(self) -> None:
        """Wait for its end, which was requested; kill it if it takes too long and that is allowed."""
        try:
            _wait(self._process)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(PermissionError):  # it has become another user's: they end on their own
                self._process.kill()
                self._process.wait()
        if self._process.returncode:  # it was killed: nothing else finds what workers have left
            end_marked(self.mark)

    def disown(self) -> None:
        """Release it in a forked copy of this process, whose child it is not."""
        self._process.returncode = 0


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process to end, and be told when it does: `Popen.wait` looks at longer and longer intervals.

    Raises:
        subprocess.TimeoutExpired: It has not ended in time.
    """
    end = watch(process.pid)
    if end is None:
        process.wait(END_SECONDS)
        return
    try:
        waiting = select.poll()  # which needs no descriptor of its own
        waiting.register(end, select.POLLIN)
        waiting.poll(END_SECONDS * 1000)
    finally:
        os.close(end)
    process.wait(0)
