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
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from amltk.scheduling.executors._transfer.descriptors import socket_of, socket_pair
from amltk.scheduling.executors.process_pool._child import worker
from amltk.scheduling.executors.process_pool._child.start import Inheritance
from amltk.scheduling.executors.process_pool._system import resource_tracker
from amltk.scheduling.executors.process_pool._system.descendants import (
    ON_LINUX,
    Strays,
    become_subreaper,
    children,
    end_all,
    ended_children,
    kill,
    outlive_hangup,
    restore_hangup,
    watch,
)
from amltk.scheduling.executors.process_pool._workers.fork_server.messages import (
    MAX_DESCRIPTORS,
    Kind,
    Message,
    Receiver,
    send,
)
from amltk.scheduling.executors.process_pool._workers.fork_server.warm_processes import WarmProcesses

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

STRAYS_SECONDS = 0.02
"""How often to check what ended workers have left behind, in seconds."""


def main(descriptor: int, parent: int, tracker: int, untold: int, *, is_copy: bool = False) -> NoReturn:
    """Serve until the pool or its process has ended, then end everything.

    Args:
        descriptor: The connection to the pool.
        parent: The pid of the process that has the pool.
        tracker: The descriptor for the resource tracker, for workers.
        untold: The descriptor that tells what that process has not forwarded to the tracker; -1 if there is none.
        is_copy: Whether this process is a copy of the user's program.
    """
    Server(socket_of(descriptor), parent, Inheritance(os.getpid(), tracker, is_copy), untold).serve()


class Server:
    """See the module's docstring."""

    def __init__(self, control: socket.socket, parent: int, inherited: Inheritance, untold: int) -> None:
        self._control = control
        self._parent = parent
        self._inherited = inherited  # for workers
        self._untold = untold
        self._receiver = Receiver(control)
        self._selector = selectors.DefaultSelector()
        self._own: list[socket.socket] = [control]  # closed in forked processes
        self._watched: int | None = None  # signals the end of the parent
        self._workers: dict[int, int] = {}  # their numbers, by pid
        self._strays = Strays()
        self._strays_left = False
        self._warm = WarmProcesses(self, inherited, is_possible=become_subreaper())
        self._waiting: dict[int, list[int]] = {}  # the descriptors of workers that are to be forked, by number

    # ------------------------------------------------------------------ the loop

    def serve(self) -> NoReturn:
        """See `main`."""
        self._control.set_inheritable(False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the mask is inherited, and SIGCHLD is needed
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        outlive_hangup()
        self.listen(self._control, self._serve_pool)
        reader, writer = socket_pair()
        self._own += [reader, writer]
        reader.setblocking(False)
        writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.listen(reader, lambda: self._note_ends(reader))
        self._watched = watch(self._parent)
        if self._watched is not None:
            self.listen(self._watched, partial(self._end, is_heir=True))
        if os.getppid() != self._parent:
            self._end(is_heir=True)
        while True:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            if self._strays_left:
                self._end_strays()
            if self._waiting and self._warm.patience == 0:
                self._warm.report_slow()
                self.start_waiting()

    def listen(self, connection: Any, handle: Callable[[], None]) -> None:
        """Call `handle` whenever there is something to receive."""
        self._selector.register(connection, selectors.EVENT_READ, handle)

    def stop_listening(self, connection: Any) -> None:
        """Stop that, if it was ever begun."""
        if connection in self._selector.get_map():
            self._selector.unregister(connection)

    def _patience(self) -> float | None:
        """How many seconds until there is something to do even if nothing happens."""
        if self._strays_left:
            return STRAYS_SECONDS
        return self._warm.patience if self._waiting else None

    def report(self, kind: int, number: int = 0, value: int = 0, payload: bytes = b"") -> None:
        """Send a message to the pool."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the pool is gone, which is noticed elsewhere
            send(self._control, Message(kind, number, value, payload))

    def _serve_pool(self) -> None:
        try:
            requests = self._receiver.receive()
        except (EOFError, ConnectionResetError):
            self._end(is_heir=True)
        is_warming_due = False
        for request, descriptors in requests:
            if request.kind == Kind.START:
                self._start(request, descriptors)
            elif request.kind == Kind.ABANDON:
                self._abandon(request.number)
            elif request.kind == Kind.PRELOAD:
                self._warm.want(pickle.loads(request.payload))
                is_warming_due = True
            else:
                self._end()
        # Last, so that processes forked now close the descriptors of all requests.
        if is_warming_due or (self._waiting and self._warm.is_missing):
            self._warm.start_next()
        if not (self._warm.is_first_importing and self._warm.patience):
            self.start_waiting()

    # ------------------------------------------------------------------ starts

    def _start(self, request: Message, descriptors: list[int]) -> None:
        if len(descriptors) < MAX_DESCRIPTORS:
            _close(descriptors)
            self.report(Kind.FAILED, request.number, errno.EMFILE)
        elif request.payload:
            self._spawn(request, descriptors)
        else:
            self._waiting[request.number] = descriptors

    def _abandon(self, number: int) -> None:
        if number in self._waiting:
            _close(self._waiting.pop(number))
            self.report(Kind.FAILED, number)
        self._warm.abandon(number)

    def start_waiting(self) -> None:
        """Fork the workers that wait, from a warm process if there is one."""
        while self._waiting:  # one by one: a forked process closes what is still waiting
            number = next(iter(self._waiting))
            try:
                is_asked = self._warm.fork(number, self._waiting[number])
            except ConnectionError:
                self._warm.start_next()
                if self._warm.is_first_importing:
                    return
                continue
            descriptors = self._waiting.pop(number)
            if not is_asked:
                self._fork_here(number, descriptors)
            _close(descriptors)

    def _fork_here(self, number: int, descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self.report(Kind.FAILED, number, error.errno or errno.EAGAIN)
            return
        if pid == 0:
            self.release()
            worker.run_forked(self._inherited, *descriptors)
        self.worker_started(number, pid)

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
            self.report(Kind.FAILED, request.number, error.errno or errno.EAGAIN)
        else:
            process.returncode = 0  # waited for by `_note_ends`
            self.worker_started(request.number, process.pid)
        _close(descriptors)

    def worker_started(self, number: int, pid: int) -> None:
        """Note that a worker was forked, and report it."""
        self._workers[pid] = number
        self.report(Kind.STARTED, number, pid)

    def release(self) -> None:
        """Close, in a process that was just forked, what belongs to the server."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        restore_hangup()
        self._selector.close()
        self._warm.close()
        for descriptors in self._waiting.values():
            _close(descriptors)
        for sock in self._own:
            sock.close()
        for descriptor in (self._watched, self._untold):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)

    # ------------------------------------------------------------------ ends

    def _note_ends(self, reader: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            reader.recv(4096)
        ended = dict(ended_children())
        self._warm.note_ended(ended)
        self._warm.receive()  # afterwards: workers that are reported only now may be among the ended
        for pid, code in ended.items():
            number = self._workers.pop(pid, None)
            if number is not None:
                if not ON_LINUX:
                    kill(-pid)  # its group: the best that this system allows
                self.report(Kind.ENDED, number, code)
        self._end_strays()

    def _end_strays(self) -> None:
        """Kill what ended workers have left behind."""
        try:
            found = children()
        except OSError:  # no descriptor is left for the search
            self._strays_left = True
            return
        self._warm.receive()  # a process is always reported before it becomes a child of this one
        known = {*self._workers, *(warming.pid for warming in self._warm)}
        self._strays_left = self._strays.kill([pid for pid in found if pid not in known])

    def _end(self, *, is_heir: bool = False) -> NoReturn:
        """End everything, with the pool; as its heir if its process has ended, and could not do what is left."""
        for pid in self._workers:
            kill(pid)
            if not ON_LINUX:
                kill(-pid)
        end_all(self._strays)
        if is_heir:
            resource_tracker.inherit(self._untold, self._parent)
        os._exit(0)  # at once: unpickling may have imported anything


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
