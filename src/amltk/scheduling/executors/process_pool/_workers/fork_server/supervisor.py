"""The parent of one worker that is a copy of the pool's process, with `mp_context="fork"`.

It is forked from the pool's process too, and forks the worker. So it becomes the parent of what the worker leaves
behind, and kills it; the user's program could not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from typing import TYPE_CHECKING, NoReturn

from amltk.scheduling.executors.process_pool._child import worker
from amltk.scheduling.executors.process_pool._child.library_threads import limit_forked
from amltk.scheduling.executors.process_pool._child.start import Inheritance
from amltk.scheduling.executors.process_pool._system import resource_tracker
from amltk.scheduling.executors.process_pool._system.descendants import (
    Strays,
    become_subreaper,
    end_all,
    outlive_hangup,
    restore_hangup,
    watch,
)
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind, Message, send

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping


def main(
    number: int,
    descriptors: list[int],
    reports: socket.socket,
    parent: int,
    *,
    tracker: int,
    untold: int,
    variables: Mapping[str, str],
) -> NoReturn:
    """Fork a worker, wait for its end, and kill what it has left behind. Runs in a process that was just forked.

    Args:
        number: The number of the worker.
        descriptors: The worker's ends of its connection.
        reports: For reports to the pool.
        parent: The pid of the process that has the pool. When it ends, the worker is killed.
        tracker: The descriptor for the resource tracker, for the worker.
        untold: The descriptor that tells what that process has not forwarded to the tracker; -1 if there is none.
        variables: Environment variables for the worker, such as those that limit the threads of libraries.
    """
    status = 1
    try:
        os.setpgid(0, 0)  # a terminal's Ctrl-C is for the parent
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number_of_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number_of_signal, signal.SIG_DFL)
        outlive_hangup()
        become_subreaper()
        limit_forked(variables)
        _supervise(number, descriptors, reports, parent, tracker=tracker, untold=untold)
        status = 0
    finally:
        os._exit(status)


def _supervise(
    number: int, descriptors: list[int], reports: socket.socket, parent: int, *, tracker: int, untold: int
) -> None:
    inherited = Inheritance(os.getpid(), tracker, is_copy=True)
    try:
        pid = os.fork()
    except OSError as error:
        send(reports, Message(Kind.FAILED, number, error.errno or errno.EAGAIN))
        return
    if pid == 0:
        restore_hangup()
        reports.close()
        if untold >= 0:
            os.close(untold)
        worker.run_forked(inherited, *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):  # the pool is gone: the worker is about to be killed
        send(reports, Message(Kind.STARTED, number, pid))
    goes_on = _wait(pid, parent, reports)
    if goes_on or _kill(pid):
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            send(reports, Message(Kind.ENDED, number, os.waitstatus_to_exitcode(status)))
    reports.close()
    end_all(Strays())
    if not goes_on or os.getppid() != parent:
        resource_tracker.inherit(untold, parent)


def _kill(pid: int) -> bool:
    """Kill the worker; False if it has become another user's."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def _wait(pid: int, parent: int, reports: socket.socket) -> bool:
    """Wait for one of the two to end; return whether the pool continues. True if the system cannot wait for both."""
    watched = {descriptor: one for one in (pid, parent) if (descriptor := watch(one)) is not None}
    if len(watched) < 2:  # noqa: PLR2004 - both are needed
        return os.getppid() == parent  # which may have ended before
    poll = select.poll()
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    poll.register(reports, select.POLLRDHUP)  # in case the pool closes
    ended = {watched.get(descriptor) for descriptor, _ in poll.poll()}
    for descriptor in watched:
        os.close(descriptor)
    return not {None, parent} & ended and os.getppid() == parent
