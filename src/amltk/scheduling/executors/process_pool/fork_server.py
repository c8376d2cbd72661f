"""A small process that starts workers: with one thread and nothing of its parent's memory, it forks safely and fast.

It is asked for a worker by one byte with two sockets, answers with the worker's pid, and tells how each worker has
ended. When its parent hangs up it kills the workers that are left, and ends.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
from typing import NoReturn

from amltk.scheduling.executors.process_pool import worker

REPORT = struct.Struct("<cqq")
"""What it was (STARTED or ENDED), the pid, and how it ended, as of `os.waitstatus_to_exitcode`."""

START = STARTED = b"S"
ENDED = b"E"


def main(descriptor: int, tracker: int) -> NoReturn:
    """Serve until the parent hangs up, then end the process.

    Args:
        descriptor: A socket, for requests and reports.
        tracker: The descriptor of the resource tracker, for workers.
    """
    worker.die_with_parent()
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake_up, alarm = socket.socketpair()
    alarm.setblocking(False)
    wake_up.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
    children: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake_up, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake_up:
                    wake_up.recv(4096)
                    _report_ends(control, children)
                elif not _serve(control, (control, wake_up, alarm), selector, children, tracker):
                    _kill(children)
                    os._exit(0)  # at once, whatever pickles have imported here


def _serve(
    control: socket.socket,
    own: tuple[socket.socket, ...],
    selector: selectors.BaseSelector,
    children: set[int],
    tracker: int,
) -> bool:
    """Start the worker that is asked for; False if the parent has hung up."""
    request, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    if not request:
        return False
    pid = os.fork()
    if pid == 0:
        selector.close()
        for sock in own:
            sock.close()
        frames, tokens = descriptors
        run_worker(frames, tokens, tracker)
    for descriptor in descriptors:
        os.close(descriptor)
    children.add(pid)
    control.sendall(REPORT.pack(STARTED, pid, 0))
    return True


def run_worker(frames: int, tokens: int, tracker: int, *, is_copy: bool = False) -> NoReturn:
    """Be a worker from now on, in a process that was just forked.

    Args:
        frames: A socket, see `worker.main`.
        tokens: A socket, see `worker.main`.
        tracker: The descriptor of the resource tracker, see `tracker`.
        is_copy: Whether the process is a copy of the user's.

    Raises:
        SystemExit: To be handed on to the interpreter; never for a copy.
    """
    try:
        worker.die_with_parent()
        os.setpgid(0, 0)  # a terminal's Ctrl-C is for the parent
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        worker.main(socket.socket(fileno=frames), socket.socket(fileno=tokens), tracker, is_copy=is_copy)
    except SystemExit:
        if not is_copy:
            raise
    except BaseException:  # noqa: BLE001 - a defect, and nothing of the parent's may run in a copy of it
        pass
    os._exit(1)


def _report_ends(control: socket.socket, children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)
        try:
            control.sendall(REPORT.pack(ENDED, pid, os.waitstatus_to_exitcode(status)))
        except BrokenPipeError:
            return  # the parent has ended: `main` is about to notice


def _kill(children: set[int]) -> None:
    for pid in children:
        for kill in (os.killpg, os.kill):
            try:
                kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # not its own group yet, or gone
