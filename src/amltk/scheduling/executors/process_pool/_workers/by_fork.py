"""Starts processes as copies of this one: workers, for `mp_context="fork"`; the fork server, in a frozen program."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
import warnings
from typing import TYPE_CHECKING

from amltk.scheduling.executors._transfer.descriptors import socket_pair
from amltk.scheduling.executors.process_pool._child.library_threads import limit_forked, prepare_to_fork
from amltk.scheduling.executors.process_pool._child.orderly_exit import flush_output
from amltk.scheduling.executors.process_pool._state.outcomes import UNKNOWN_EXIT_CODE
from amltk.scheduling.executors.process_pool._system.marks import end_marked, marked, new_mark
from amltk.scheduling.executors.process_pool._workers.fork_server import server, supervisor
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind, Message, Receiver
from amltk.scheduling.executors.process_pool._workers.forking import announced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool.options import Surroundings

_log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""How long to wait for the copies that start workers to end, in seconds."""


class Fork:
    """Starts workers as copies of this process, each under a supervisor. A `Starter`."""

    is_sending: bool = False

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        prepare_to_fork()
        self.control: socket.socket
        self.control, self._theirs = socket_pair()
        self._receiver = Receiver(self.control)
        self._supervisors: dict[int, int] = {}  # their pids, by worker number
        self._leaving: dict[int, int] = {}  # those that have reported the end of their worker
        self._mark = new_mark()

    def start(self, link: Link, others: Iterable[int]) -> None:
        """See `Starter`."""
        number, parent = link.slot.number, os.getpid()
        pid = _fork()
        if pid == 0:
            _close_all((*others, link.frames.fileno(), *link.tokens.descriptors(), self.control.fileno()))
            descriptors = [link.their_frames.detach(), link.tokens.theirs]
            _, variables, tracker, untold = self._surroundings
            variables = {**variables, **marked(self._mark_of(number))}
            supervisor.main(
                number, descriptors, self._theirs, parent, tracker=tracker, untold=untold, variables=variables
            )
        self._supervisors[number] = pid

    def _mark_of(self, number: int) -> str:
        return f"{self._mark}{number}."

    def abandon(self, number: int) -> None:
        """See `Starter`. All requested workers are started at once, so there is nothing to give up."""

    def preload(self, modules: Iterable[str]) -> None:
        """See `Starter`. A copy has what this process has."""

    def reports(self) -> list[Message]:
        """See `Starter`."""
        ended = {number for number, pid in self._supervisors.items() if _has_ended(pid)}
        found = self._receiver.receive_all()
        for message in found:
            if message.kind in {Kind.ENDED, Kind.FAILED}:
                pid = self._supervisors.pop(message.number, None)
                if pid is not None and message.number not in ended:
                    self._leaving[message.number] = pid
        for number in ended & self._supervisors.keys():  # the supervisor was killed
            del self._supervisors[number]
            end_marked(self._mark_of(number))
            found.append(Message(Kind.ENDED, number, UNKNOWN_EXIT_CODE))
        self._leaving = {number: pid for number, pid in self._leaving.items() if not _has_ended(pid)}
        return found

    def close(self) -> None:
        """See `Starter`."""
        self.control.shutdown(socket.SHUT_RDWR)  # supervisors end the workers that are left
        give_up = time.monotonic() + END_SECONDS
        for number, pid in (self._supervisors | self._leaving).items():
            if not _reap(pid, give_up):
                end_marked(self._mark_of(number))
        self.disown()

    def disown(self) -> None:
        """See `Starter`."""
        self.control.close()
        self._theirs.close()


class ServerCopy:
    """A fork server that is a copy of this process, for a program that cannot be run as an interpreter.

    Args:
        surroundings: The environment that workers start with.
        others: The descriptors of the pool, which the copy must not keep.

    Attributes:
        control: The connection to it.
        pid: Its pid.
    """

    def __init__(self, surroundings: Surroundings, others: Iterable[int]) -> None:
        _log.info("this program cannot be started again as a Python interpreter: workers are forked from it")
        parent, (_, variables, tracker, untold) = os.getpid(), surroundings
        self._mark = new_mark()
        self.control: socket.socket
        self.control, theirs = socket_pair()
        try:
            with theirs:
                self.pid: int = _fork()
                if self.pid == 0:
                    _close_all((*others, self.control.fileno()))
                    os.setpgid(0, 0)
                    limit_forked({**variables, **marked(self._mark)})
                    server.main(theirs.detach(), parent, tracker, untold, is_copy=True)
        except BaseException:
            self.control.close()
            raise

    def end(self) -> None:
        """Wait for its end, which was requested."""
        if not _reap(self.pid, time.monotonic() + END_SECONDS):
            end_marked(self._mark)

    def disown(self) -> None:
        """Nothing is kept here of it that a copy of this process must release."""


def _fork() -> int:
    """Fork, such that buffered output is not printed twice."""
    flush_output()
    with warnings.catch_warnings():
        # CPython since 3.12 warns about forking a process with threads; the user has requested it.
        warnings.simplefilter("ignore", DeprecationWarning)
        with announced():
            return os.fork()


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _has_ended(pid: int) -> bool:
    return _status(pid) is not None


def _status(pid: int) -> int | None:
    """The wait status of a process that has ended, 0 if something else has waited for it; None if it goes on."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if found else None


def _reap(pid: int, give_up: float) -> bool:
    """Wait for a process; kill it if it takes too long and that is allowed.

    Args:
        pid: The process.
        give_up: How long to wait, on the monotonic clock.

    Returns:
        False if it was killed, by whomever: nothing else finds what workers have left.
    """
    while (status := _status(pid)) is None:
        if time.monotonic() > give_up:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:  # it has become another user's
                return True
        time.sleep(0.001)
    return status == 0
