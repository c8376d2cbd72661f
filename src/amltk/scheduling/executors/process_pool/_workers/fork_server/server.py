"""The fork server: a small single-threaded process without its parent's memory, which forks safely and fast.

All workers are its children, whether it or the warm process has forked them. It reports to the pool how each one ended,
and kills what workers have left behind. When the pool's process ends, it ends everything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import selectors
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from amltk.scheduling.executors.process_pool._child import worker
from amltk.scheduling.executors.process_pool._child.worker import Inheritance
from amltk.scheduling.executors.process_pool._system.descendants import (
    ON_LINUX,
    Strays,
    become_subreaper,
    children,
    end_all,
    ended_children,
    watch,
)
from amltk.scheduling.executors.process_pool._workers.fork_server import warm
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import (
    MAX_DESCRIPTORS,
    Kind,
    Message,
    Preload,
    Receiver,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STRAYS_SECONDS = 0.02
"""How often to check what ended workers have left behind, in seconds."""

WARM_PATIENCE_SECONDS = 30.0
"""How long workers wait for modules to be imported in advance; then they start without, and do their own imports."""

MAX_ATTEMPTS = 3
"""How many times importing in advance is attempted without the modules that turned out to be unfit."""


def main(descriptor: int, parent: int, tracker: int, *, is_copy: bool = False) -> NoReturn:
    """Serve until the pool or its process has ended, then end everything.

    Args:
        descriptor: The connection to the pool.
        parent: The pid of the process that has the pool.
        tracker: The descriptor for the resource tracker, for workers.
        is_copy: Whether this process is a copy of the user's program.
    """
    Server(socket.socket(fileno=descriptor), parent, Inheritance(os.getpid(), tracker, is_copy)).serve()


class Warming:
    """A warm process, as the server sees it.

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
        self.connection, self.theirs = socket.socketpair()
        self.receiver: Receiver = Receiver(self.connection)
        self.modules: tuple[str, ...] = modules
        self.pid: int = 0
        self.ready: bool = False
        self.importing: str = ""
        self.reason: str = ""
        self.asked: set[int] = set()
        self.began: float = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has existed."""
        return time.monotonic() - self.began


class Server:
    """See the module's docstring."""

    def __init__(self, control: socket.socket, parent: int, inherited: Inheritance) -> None:
        self._control = control
        self._parent = parent
        self._inherited = inherited  # for workers
        self._receiver = Receiver(control)
        self._selector = selectors.DefaultSelector()
        self._own: list[socket.socket] = [control]  # closed in forked processes
        self._watched: int | None = None  # signals the end of the parent
        self._workers: dict[int, int] = {}  # their numbers, by pid
        self._strays = Strays()
        self._strays_left = False
        self._can_warm = become_subreaper()
        self._preload: Preload | None = None  # the latest request
        self._wanted: dict[str, None] = {}  # modules to import in advance, in order
        self._unfit: set[str] = set()  # top-level packages that are not imported in advance
        self._attempts = 0
        self._base: Warming | None = None  # workers are forked from it; None for this process
        self._next: Warming | None = None  # its replacement, while that is importing
        self._retiring: list[Warming] = []  # replaced, but still forking
        self._waiting: dict[int, list[int]] = {}  # the descriptors of workers that wait for it, by number

    # ------------------------------------------------------------------ the loop

    def serve(self) -> NoReturn:
        """See `main`."""
        self._control.set_inheritable(False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the mask is inherited, and SIGCHLD is needed
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._register(self._control, self._serve_pool)
        reader, writer = socket.socketpair()
        self._own += [reader, writer]
        reader.setblocking(False)
        writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._register(reader, lambda: self._note_ends(reader))
        self._watched = watch(self._parent)
        if self._watched is not None:
            self._register(self._watched, self._end)
        if os.getppid() != self._parent:
            self._end()
        while True:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            if self._strays_left:
                self._end_strays()
            if self._waiting and self._next is not None and self._next.seconds >= WARM_PATIENCE_SECONDS:
                self._report_unfit(self._next.importing, f"it takes more than {WARM_PATIENCE_SECONDS:.0f} s")
                self._start_waiting()

    def _register(self, source: Any, handle: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, handle)

    def _patience(self) -> float | None:
        """How many seconds until there is something to do even if nothing happens."""
        if self._strays_left:
            return STRAYS_SECONDS
        if self._waiting and self._next is not None:
            return max(0.0, WARM_PATIENCE_SECONDS - self._next.seconds)
        return None

    def _report(self, kind: int, number: int = 0, value: int = 0, payload: bytes = b"") -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the pool is gone, which is noticed elsewhere
            send(self._control, Message(kind, number, value, payload))

    def _serve_pool(self) -> None:
        try:
            requests = self._receiver.receive()
        except (EOFError, ConnectionResetError):
            self._end()
        is_warming_due = False
        for request, descriptors in requests:
            is_complete = len(descriptors) == MAX_DESCRIPTORS
            if request.kind == Kind.START and is_complete and (is_warming_due or self._is_cold()):
                self._waiting[request.number] = descriptors
                is_warming_due = True
            elif request.kind == Kind.START:
                self._start(request, descriptors)
            elif request.kind == Kind.ABANDON:
                self._abandon(request.number)
            elif request.kind == Kind.PRELOAD:
                preload: Preload = pickle.loads(request.payload)
                self._preload = preload
                self._wanted.update(dict.fromkeys(preload.modules))
                self._attempts = 0
                is_warming_due = True
            else:
                self._end()
        if is_warming_due:  # last, so that the warm process closes descriptors of other requests
            self._warm_up()
            if self._next is None or self._base is not None:
                self._start_waiting()

    # ------------------------------------------------------------------ starts

    def _start(self, request: Message, descriptors: list[int]) -> None:
        if len(descriptors) < MAX_DESCRIPTORS:
            _close(descriptors)
            self._report(Kind.FAILED, request.number, errno.EMFILE)
        elif request.payload:
            self._spawn(request, descriptors)
        elif self._base is None and self._next is not None and self._next.seconds < WARM_PATIENCE_SECONDS:
            self._waiting[request.number] = descriptors
        else:
            self._fork(request.number, descriptors)

    def _abandon(self, number: int) -> None:
        if number in self._waiting:
            _close(self._waiting.pop(number))
            self._report(Kind.FAILED, number)
        for warming in self._warmings():
            if number in warming.asked:
                _kill(warming.pid)  # slow, or the pool ends: all that was requested from it fails with it

    def _start_waiting(self) -> None:
        while self._waiting:  # one by one: a forked process closes what is still waiting
            number = next(iter(self._waiting))
            self._fork(number, self._waiting.pop(number))

    def _fork(self, number: int, descriptors: list[int]) -> None:
        """Fork a worker, from the warm process if there is one."""
        if self._base is not None:
            try:
                send(self._base.connection, Message(Kind.START, number), descriptors)
            except OSError:
                # It was killed, which will be reported soon; what it reported before that counts.
                self._retiring.append(self._base)
                self._base = None
            else:
                self._base.asked.add(number)
                _close(descriptors)
                return
        self._fork_here(number, descriptors)

    def _fork_here(self, number: int, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._report(Kind.FAILED, number, error.errno or errno.EAGAIN)
        else:
            if pid == 0:
                self._release()
                worker.run_forked(self._inherited, *descriptors)
            self._started(number, pid)
        _close(descriptors)

    def _spawn(self, request: Message, descriptors: list[int]) -> None:
        """Start a worker that is a fresh interpreter."""
        import subprocess  # slow to import, and needed only here

        command, environment = pickle.loads(request.payload)
        try:
            process = subprocess.Popen(
                [*command, *map(str, (*descriptors, self._inherited.parent, self._inherited.tracker))],
                env=environment,
                pass_fds=(*descriptors, self._inherited.tracker),
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            self._report(Kind.FAILED, request.number, error.errno or errno.EAGAIN)
        else:
            process.returncode = 0  # waited for by `_note_ends`
            self._started(request.number, process.pid)
        _close(descriptors)

    def _started(self, number: int, pid: int) -> None:
        self._workers[pid] = number
        self._report(Kind.STARTED, number, pid)

    def _release(self) -> None:
        """Close, in a process that was just forked, what belongs to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for warming in self._warmings():
            warming.connection.close()
        for descriptors in self._waiting.values():
            _close(descriptors)
        for sock in self._own:
            sock.close()
        if self._watched is not None:
            os.close(self._watched)

    # ------------------------------------------------------------------ the warm process

    def _is_cold(self) -> bool:
        """Whether a warm process is wanted but missing because it was lost."""
        is_wanted = self._can_warm and self._preload is not None and self._attempts < MAX_ATTEMPTS
        return is_wanted and self._base is None and self._next is None

    def _warm_up(self) -> None:
        """Start importing the wanted modules in a new warm process, unless one is already doing so."""
        if not self._can_warm or self._next is not None or self._preload is None or self._attempts == MAX_ATTEMPTS:
            return
        done = self._base.modules if self._base is not None else ()
        new = [name for name in self._wanted if name not in done and not self._is_unfit(name)]
        if all(name in sys.modules for name in new):
            return
        self._attempts += 1
        try:
            warming = self._next = Warming((*done, *new))
        except OSError:  # workers do their own imports
            return
        try:
            self._fork_warm(warming)
        except OSError:
            self._forget(warming)
            return
        warming.theirs.close()
        self._register(warming.connection, lambda: self._serve_warm(warming))
        preload = self._preload._replace(modules=tuple(new))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended, which is noticed elsewhere
            send(warming.connection, Message(Kind.PRELOAD, payload=pickle.dumps(preload)))

    def _is_unfit(self, module: str) -> bool:
        return module.partition(".")[0] in self._unfit

    def _fork_warm(self, warming: Warming) -> None:
        """Fork it from the existing one, so that it has the modules imported there."""
        if self._base is not None:
            send(self._base.connection, Message(Kind.FORK_WARM), [warming.theirs.fileno()])
            return
        warming.pid = os.fork()
        if warming.pid == 0:
            self._release()
            warm.main(warming.theirs, self._inherited)

    def _serve_warm(self, warming: Warming) -> None:
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

    def _note(self, warming: Warming, report: Message) -> None:
        kind, number, value, payload = report
        warming.asked.discard(number)
        if warming in self._retiring and not warming.asked:
            self._forget(warming)
        if kind == Kind.STARTED:
            self._started(number, value)
        elif kind == Kind.FAILED:
            self._report(Kind.FAILED, number, value)
        elif kind == Kind.FORKED_WARM and self._next is not None:
            self._next.pid = value
        elif kind == Kind.IMPORTING:
            warming.importing = payload.decode()
        elif kind == Kind.SKIPPED:
            self._report(Kind.SKIPPED, payload=pickle.dumps((warming.importing, payload.decode())))
        elif kind == Kind.UNFIT:
            warming.reason = payload.decode()
        elif kind == Kind.READY:
            self._take_over(warming)

    def _take_over(self, warming: Warming) -> None:
        """Fork workers from the new warm process from now on; the old one is no longer needed."""
        warming.ready = True
        old, self._base, self._next = self._base, warming, None
        self._attempts = 0
        if old is not None and old.asked:
            self._retiring.append(old)  # dropping it now would lose what it is about to fork
        elif old is not None:
            self._forget(old)
        self._start_waiting()
        self._warm_up()  # for modules requested meanwhile

    def _lost(self, warming: Warming) -> None:
        """Handle the end of a warm process: workers are forked without it."""
        self._forget(warming)
        if warming.ready and warming.reason:
            self._attempts = MAX_ATTEMPTS  # it seemed fit, and another one would be no better
            self._report_unfit(warming.importing, warming.reason)
        elif not warming.ready and warming.importing:
            self._unfit.add(warming.importing.partition(".")[0])
            self._report_unfit(warming.importing, warming.reason or "the process that imported it has ended")
        if not warming.ready:  # else once a worker is requested, which may be never: the pool may have ended it
            self._warm_up()
        if self._next is None:
            self._start_waiting()

    def _forget(self, warming: Warming) -> None:
        """Drop a warm process; whatever it still forks is a stray."""
        if warming in self._retiring:
            self._retiring.remove(warming)
        elif warming is self._base:
            self._base = None
        elif warming is self._next:
            self._next = None
        if warming.pid:
            _kill(warming.pid)
        if warming.connection in self._selector.get_map():
            self._selector.unregister(warming.connection)
        warming.connection.close()
        warming.theirs.close()
        for number in warming.asked:
            self._report(Kind.FAILED, number)

    def _warmings(self) -> list[Warming]:
        return [warming for warming in (self._base, self._next, *self._retiring) if warming is not None]

    def _report_unfit(self, module: str, reason: str) -> None:
        self._report(Kind.UNFIT, payload=pickle.dumps((module, reason)))

    # ------------------------------------------------------------------ ends

    def _note_ends(self, reader: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            reader.recv(4096)
        ended = dict(ended_children())
        for warming in self._warmings():
            if warming.pid in ended:
                warming.pid = 0  # must not be killed any more: the pid may be reused
        self._hear_of_forks()  # afterwards: workers that are reported only now may be among the ended
        for pid, code in ended.items():
            number = self._workers.pop(pid, None)
            if number is not None:
                if not ON_LINUX:
                    _kill(-pid)  # its group: the best that this system allows
                self._report(Kind.ENDED, number, code)
        self._end_strays()

    def _hear_of_forks(self) -> None:
        """Learn the pids of all children: a process is always reported before it becomes a child of this one."""
        for warming in self._warmings():
            self._serve_warm(warming)

    def _end_strays(self) -> None:
        """Kill what ended workers have left behind."""
        try:
            found = children()
        except OSError:  # no descriptor is left for the search
            self._strays_left = True
            return
        self._hear_of_forks()
        known = {*self._workers, *(warming.pid for warming in self._warmings())}
        self._strays_left = self._strays.kill([pid for pid in found if pid not in known])

    def _end(self) -> NoReturn:
        """End everything."""
        for pid in self._workers:
            _kill(pid)
            if not ON_LINUX:
                _kill(-pid)
        end_all(self._strays)
        os._exit(0)  # at once: unpickling may have imported anything


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
