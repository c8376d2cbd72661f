"""The warm processes, as the fork server sees them: which one workers are forked from, and when it is replaced.

There is at most one that workers are forked from, the *base*, and one that is importing what the base lacks, the
*next*: it was forked from the base, and replaces it once it is ready. A base that was replaced while forks requested
from it are pending is kept until they are reported.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import time
from typing import TYPE_CHECKING, Protocol

from amltk.scheduling.executors._transfer.descriptors import socket_pair
from amltk.scheduling.executors.process_pool._system.descendants import kill
from amltk.scheduling.executors.process_pool._workers.fork_server import warm
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Kind, Message, Receiver, send

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from amltk.scheduling.executors.process_pool._child.start import Inheritance
    from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Preload

WARM_PATIENCE_SECONDS = 30.0
"""How long workers wait for modules to be imported in advance; then they start without, and do their own imports."""

MAX_ATTEMPTS = 3
"""How many times importing in advance is attempted without the modules that turned out to be unfit."""


class Parent(Protocol):
    """The fork server, as its warm processes see it."""

    def report(self, kind: int, number: int = 0, value: int = 0, payload: bytes = b"") -> None:
        """Send a message to the pool."""

    def worker_started(self, number: int, pid: int) -> None:
        """Note that a worker was forked, and report it."""

    def start_waiting(self) -> None:
        """Start the workers that have waited for a warm process."""

    def listen(self, connection: socket.socket, handle: Callable[[], None]) -> None:
        """Call `handle` whenever there is something to receive."""

    def stop_listening(self, connection: socket.socket) -> None:
        """Stop that, if it was ever begun."""

    def release(self) -> None:
        """Close, in a process that was just forked, what belongs to the server."""


class WarmProcess:
    """One warm process.

    Attributes:
        modules: The modules that it imports in addition to those of the process it was forked from.
        pid: Its pid; 0 until it is known.
        ready: Whether it has imported them, so that workers can be forked from it.
        importing: The module that it is importing.
        reason: Why it must not be forked from; empty if there is no known reason.
        asked: The numbers of the workers that were requested from it and that it has not reported.
    """

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.connection: socket.socket
        self.theirs: socket.socket
        self.connection, self.theirs = socket_pair()
        self.receiver: Receiver = Receiver(self.connection)
        self.modules: tuple[str, ...] = modules
        self.pid: int = 0
        self.ready: bool = False
        self.importing: str = ""
        self.reason: str = ""
        self.asked: set[int] = set()
        self.started_at: float = time.monotonic()


class WarmProcesses:
    """See the module's docstring.

    Args:
        parent: The fork server.
        inherited: What workers inherit from it.
        is_possible: Whether there can be any: what they fork must become children of the server.
    """

    def __init__(self, parent: Parent, inherited: Inheritance, *, is_possible: bool) -> None:
        self._parent = parent
        self._inherited = inherited
        self._is_possible = is_possible
        self._preload: Preload | None = None  # the latest request
        self._wanted: dict[str, None] = {}  # modules to import in advance, in order
        self._unfit: set[str] = set()  # top-level packages that are not imported in advance
        self._attempts = 0
        self._base: WarmProcess | None = None
        self._next: WarmProcess | None = None
        self._retiring: list[WarmProcess] = []

    def __iter__(self) -> Iterator[WarmProcess]:
        return (warming for warming in (self._base, self._next, *self._retiring) if warming is not None)

    # ------------------------------------------------------------------ what the server needs to know

    @property
    def is_missing(self) -> bool:
        """Whether one is wanted, but was lost."""
        is_wanted = self._is_possible and self._preload is not None and self._attempts < MAX_ATTEMPTS
        return is_wanted and self._base is None and self._next is None

    @property
    def is_first_importing(self) -> bool:
        """Whether the first one is importing, so that there is none to fork from."""
        return self._base is None and self._next is not None

    @property
    def patience(self) -> float | None:
        """For how many more seconds workers wait for the one that is importing; None if there is none."""
        if self._next is None:
            return None
        return max(0.0, self._next.started_at + WARM_PATIENCE_SECONDS - time.monotonic())

    # ------------------------------------------------------------------ for the server

    def want(self, preload: Preload) -> None:
        """Note which modules to import in advance; `start_next` follows."""
        self._preload = preload
        self._wanted.update(dict.fromkeys(preload.modules))
        self._attempts = 0

    def start_next(self) -> None:
        """Start importing the wanted modules in a new warm process, unless one is already doing so."""
        if not self._is_possible or self._next is not None or self._preload is None or self._attempts == MAX_ATTEMPTS:
            return
        done = self._base.modules if self._base is not None else ()
        new = [name for name in self._wanted if name not in done and not self._is_unfit(name)]
        if all(name in sys.modules for name in new):
            return
        self._attempts += 1
        try:
            warming = self._next = WarmProcess((*done, *new))
        except OSError:  # workers do their own imports
            return
        try:
            self._fork_warm(warming)
        except OSError:
            self._forget(warming)
            return
        warming.theirs.close()
        self._parent.listen(warming.connection, lambda: self._receive(warming))
        preload = self._preload._replace(modules=tuple(new))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended, which is noticed elsewhere
            send(warming.connection, Message(Kind.PRELOAD, payload=pickle.dumps(preload)))

    def _is_unfit(self, module: str) -> bool:
        return module.partition(".")[0] in self._unfit

    def _fork_warm(self, warming: WarmProcess) -> None:
        """Fork it from the base, so that it has the modules imported there."""
        if self._base is not None:
            send(self._base.connection, Message(Kind.FORK_WARM), [warming.theirs.fileno()])
            return
        warming.pid = os.fork()
        if warming.pid == 0:
            self._parent.release()
            warm.main(warming.theirs, self._inherited)

    def fork(self, number: int, descriptors: list[int]) -> bool:
        """Request a worker from the base; False if there is none.

        Raises:
            ConnectionError: There is none any more: it was killed. Another one may take over, see `start_next`.
        """
        base = self._base
        if base is None:
            return False
        try:
            send(base.connection, Message(Kind.START, number), descriptors)
        except OSError as error:
            self._hear_out(base)  # before another one is started: it may have reported that none is fit
            raise ConnectionError("the process that workers are forked from has ended") from error
        base.asked.add(number)
        return True

    def _hear_out(self, base: WarmProcess) -> None:
        """Handle all that the base has reported, and its end, and fork no more from it."""
        try:
            while True:
                for report, _ in base.receiver.receive(socket.MSG_DONTWAIT):
                    self._note(base, report)
        except BlockingIOError:  # it has not ended: the system had no room for the message
            self._base = None
            self._retire(base)
        except (EOFError, ConnectionResetError):
            self._note_loss(base)

    def abandon(self, number: int) -> None:
        """Kill whichever was asked for a worker: it is slow, or the pool ends. All that was asked of it fails too."""
        for warming in self:
            if number in warming.asked and warming.pid:  # else it has ended, and that is about to be noticed
                kill(warming.pid)

    def report_slow(self) -> None:
        """Report that the module that is being imported takes too long to wait for."""
        if self._next is not None:
            self._report_unfit(self._next.importing, f"it takes more than {WARM_PATIENCE_SECONDS:.0f} s")

    def note_ended(self, pids: Container[int]) -> None:
        """Note which processes were reaped: they must not be killed any more, since the pid may be reused."""
        for warming in self:
            if warming.pid in pids:
                warming.pid = 0

    def receive(self) -> None:
        """Receive all reports, so that the pids of all forked workers are known."""
        for warming in self:
            self._receive(warming)

    def close(self) -> None:
        """Close the server's ends of the connections, in a process that was just forked."""
        for warming in self:
            warming.connection.close()

    # ------------------------------------------------------------------ reports

    def _receive(self, warming: WarmProcess) -> None:
        """Handle its reports; nothing more arrives from one that has ended."""
        if warming.connection.fileno() < 0:
            return  # it was dropped after the selector found it
        try:
            reports = warming.receiver.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except (EOFError, ConnectionResetError):
            self._lost(warming)
            return
        for report, _ in reports:
            self._note(warming, report)

    def _note(self, warming: WarmProcess, report: Message) -> None:
        kind, number, value, payload = report
        warming.asked.discard(number)
        if warming in self._retiring and not warming.asked:
            self._forget(warming)
        if kind == Kind.STARTED:
            self._parent.worker_started(number, value)
        elif kind == Kind.FAILED:
            self._parent.report(Kind.FAILED, number, value)
        elif kind == Kind.FORKED_WARM and self._next is not None:
            self._next.pid = value
        elif kind == Kind.IMPORTING:
            warming.importing = payload.decode()
        elif kind == Kind.SKIPPED:
            self._parent.report(Kind.SKIPPED, payload=pickle.dumps((warming.importing, payload.decode())))
        elif kind == Kind.UNFIT:
            warming.reason = payload.decode()
        elif kind == Kind.READY:
            self._take_over(warming)

    def _take_over(self, warming: WarmProcess) -> None:
        """Fork workers from the new one from now on; the old base is no longer needed."""
        warming.ready = True
        old, self._base, self._next = self._base, warming, None
        self._attempts = 0
        if old is not None:
            self._retire(old)
        self._parent.start_waiting()
        self.start_next()  # for modules requested meanwhile

    def _retire(self, old: WarmProcess) -> None:
        """Drop what is the base no longer, once it has reported all that was requested from it."""
        self._retiring.append(old)
        if not old.asked:
            self._forget(old)

    def _lost(self, warming: WarmProcess) -> None:
        """Handle the end of a warm process: workers are forked without it."""
        self._note_loss(warming)
        if not warming.ready:  # else once a worker is requested, which may be never: the pool may have ended it
            self.start_next()
        if self._next is None:
            self._parent.start_waiting()

    def _note_loss(self, warming: WarmProcess) -> None:
        """Drop a warm process that has ended, and report why no other one may do what it did."""
        self._forget(warming)
        if warming.ready and warming.reason:
            self._attempts = MAX_ATTEMPTS  # it seemed fit, and another one would be no better
            self._report_unfit(warming.importing, warming.reason)
        elif not warming.ready and warming.importing:
            self._unfit.add(warming.importing.partition(".")[0])
            self._report_unfit(warming.importing, warming.reason or "the process that imported it has ended")

    def _forget(self, warming: WarmProcess) -> None:
        """Drop a warm process; whatever it still forks is a stray."""
        if warming in self._retiring:
            self._retiring.remove(warming)
        elif warming is self._base:
            self._base = None
        elif warming is self._next:
            self._next = None
        if warming.pid:
            kill(warming.pid)
        self._parent.stop_listening(warming.connection)
        warming.connection.close()
        warming.theirs.close()
        for number in warming.asked:
            self._parent.report(Kind.FAILED, number)

    def _report_unfit(self, module: str, reason: str) -> None:
        self._parent.report(Kind.UNFIT, payload=pickle.dumps((module, reason)))
