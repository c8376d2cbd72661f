"""The process of the fork server: a fresh interpreter.

It takes longer to begin than anything else that comes before the first result. So it may be launched ahead, when calls
are expected, and begin while this process imports what it needs for them. Until the first call the program may still
change what its processes get from it, such as environment variables: then the one that was launched ahead is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from amltk._compat import interpreter_flags
from amltk._process.program import environment, import_path
from amltk.scheduling.executors.process_pool._child.library_threads import thread_environment
from amltk.scheduling.executors.process_pool._system.descendants import ON_LINUX, read_bytes, watch
from amltk.scheduling.executors.process_pool._system.marks import end_marked, marked, new_mark
from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding
from amltk.scheduling.executors.process_pool.options import Surroundings

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool.options import WorkerOptions

_log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""How long to wait for the end of the process, in seconds."""

SERVER = "amltk.scheduling.executors.process_pool._workers.fork_server.server"
"""The module that it runs; this process does not need it."""

_PROGRAM = (
    "import gc, sys; sys.path[:] = {path!r}; on = gc.isenabled(); gc.disable(); from {module} import {function}; "
    "gc.freeze(); on and gc.enable(); {function}(*map(int, sys.argv[1:]))"
)
"""The collector would take a tenth of the import, and later look at what stays in every copy of the process."""

_INHERITED = (b"Umask", b"Uid", b"Gid", b"Groups", b"SigIgn", b"Cap", b"NoNewPrivs", b"Seccomp:", b"Cpus_allowed:")
"""What a process inherits, as far as it may be changed, of the lines about this thread."""


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
        self._request = _request(surroundings, executable)
        program, variables, directory = self._request
        if directory != surroundings.directory:
            _log.warning(
                "%s, where this pool was made, no longer exists: its workers start in the current folder",
                surroundings.directory,
            )
        self.control: socket.socket
        self.control, theirs = socket.socketpair()
        try:
            with theirs:
                tracker = surroundings.tracker
                self._process = subprocess.Popen(
                    [*program, *map(str, (theirs.fileno(), os.getpid(), tracker))],
                    env={**variables, **marked(self.mark)},
                    pass_fds=[theirs.fileno(), tracker],
                    stdin=subprocess.DEVNULL,
                    process_group=0,
                    cwd=directory,
                )
        except BaseException:
            self.control.close()
            raise

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def was_requested(self, surroundings: Surroundings, executable: str) -> bool:
        """Whether it was launched as it would be now, as far as this program says how."""
        return self._request == _request(surroundings, executable)

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

    def discard(self) -> None:
        """End it at once, since it was asked for nothing."""
        self.control.close()
        self._process.kill()
        self._process.wait()

    def disown(self) -> None:
        """Release it in a forked copy of this process, whose child it is not."""
        self._process.returncode = 0


class HeadStart:
    """What was prepared for the first call before it was submitted.

    Args:
        surroundings: The environment that workers start with, but for the tracker.
        executable: The interpreter.

    Raises:
        OSError: It could not be started.
    """

    def __init__(self, surroundings: Surroundings, executable: str) -> None:
        forwarding = Forwarding()
        try:
            self._inherited = _inherited()
            surroundings = surroundings._replace(tracker=forwarding.descriptor)
            self._process: ServerProcess | None = ServerProcess(surroundings, executable)
        except BaseException:
            forwarding.disown()
            raise
        self._forwarding: Forwarding | None = forwarding

    def take_forwarding(self) -> Forwarding:
        """What forwards the lines of workers to the resource tracker; it belongs to the caller from now on."""
        forwarding, self._forwarding = self._forwarding, None
        assert forwarding is not None
        return forwarding

    def usable(self, surroundings: Surroundings) -> ServerProcess | None:
        """The fork server; None if one that is launched now would differ: then this one is ended."""
        process = self._process
        if process is not None and not self._is_up_to_date(process, surroundings):
            process.discard()
            process = self._process = None
        return process

    def _is_up_to_date(self, process: ServerProcess, surroundings: Surroundings) -> bool:
        executable = find_executable()
        if executable is None or not process.was_requested(surroundings, executable):
            return False
        try:
            return self._inherited == _inherited()
        except OSError:  # too many open files
            return False

    def discard(self) -> None:
        """Release everything: no call has come."""
        if self._process is not None:
            self._process.discard()
        if self._forwarding is not None:
            self._forwarding.disown()

    def disown(self) -> None:
        """Release it in a forked copy of this process."""
        if self._process is not None:
            self._process.control.close()
            self._process.disown()
        if self._forwarding is not None:
            self._forwarding.disown()


def launch_ahead(options: WorkerOptions, max_workers: int) -> HeadStart | None:
    """Launch the fork server of a pool before its first call; None if it cannot be launched yet, or if none is used.

    On Linux, which says what processes inherit.
    """
    executable = find_executable()
    if not ON_LINUX or options.method == "fork" or executable is None:
        return None
    surroundings = Surroundings(options.directory, thread_environment(max_workers), -1)
    try:
        return HeadStart(surroundings, executable)
    except OSError:  # the first call tries again, and says so if it fails then
        return None


def _request(surroundings: Surroundings, executable: str) -> tuple[list[str], dict[str, str], str | None]:
    """The command, the environment and the working directory."""
    directory, variables, _ = surroundings
    if directory is not None and not os.path.isdir(directory):  # a string, as it travels
        directory = None
    return command(executable, SERVER, "main"), {**variables, **environment()}, directory


def _inherited() -> tuple[Any, ...]:
    """What a process that is started on this thread inherits besides its environment, as far as it may be changed.

    Raises:
        OSError: The system does not say.
    """
    status = read_bytes("/proc/thread-self/status").splitlines()
    files = [read_bytes(f"/proc/thread-self/{name}") for name in ("limits", "cgroup", "oom_score_adj")]
    scheduling = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    return [line for line in status if line.startswith(_INHERITED)], files, scheduling, _streams()


def _streams() -> list[tuple[int, ...]]:
    """What the descriptors of the standard output and error streams lead to; nothing for one that is closed."""
    found: list[tuple[int, ...]] = []
    for descriptor in (1, 2):
        try:
            status = os.fstat(descriptor)
        except OSError:
            found.append(())
        else:
            found.append((status.st_dev, status.st_ino, status.st_rdev))
    return found


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
