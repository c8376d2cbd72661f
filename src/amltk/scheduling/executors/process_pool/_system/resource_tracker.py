"""One resource tracker for the driver and its workers, like that of `multiprocessing` and its children.

The tracker of `multiprocessing` is a process that destroys leftover shared memory once all processes that have its pipe
have ended. A worker with its own tracker would thus destroy, at its end, whatever it has used. So it writes into the
pipe of the driver's tracker; or, if the driver has none so far, into a pipe whose lines the pool forwards, so that a
tracker is started only if it is needed. The descriptors are not documented; `multiprocessing` itself passes them to its
children in this way.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from amltk._compat import TRACKER_PROBES, disown_tracker, set_tracker_descriptor, tracker_descriptor

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


TERMINAL_SIGNALS = (signal.SIGHUP, signal.SIGQUIT)
"""What a terminal sends to all processes of its program when it is closed, and for Ctrl-\\.

They would kill the tracker before it has removed anything: it ignores SIGINT and SIGTERM only.
"""


class Forwarding:
    """The driver's side, for one pool. Not thread-safe.

    Attributes:
        descriptor: The descriptor that workers write to.
    """

    def __init__(self) -> None:
        self._reader: int | None = None
        self._rest = b""
        running = tracker_descriptor()
        if running is not None:
            # A duplicate: since 3.14 forked processes close the tracker's descriptor.
            self.descriptor: int = os.dup(running)
        else:
            self._reader, self.descriptor = os.pipe()
            os.set_blocking(self._reader, False)
            self._poll = select.poll()
            self._poll.register(self._reader, select.POLLIN)

    def fileno(self) -> int:
        """The descriptor that signals something to forward; -1 if workers write to the tracker directly."""
        return -1 if self._reader is None else self._reader

    def forward(self) -> None:
        """Forward the lines of workers to the tracker; must be called before their results are delivered."""
        # Asked first, since every turn of the pool calls this: a read that finds nothing raises, which takes longer.
        if self._reader is None or not (self._rest or self._poll.poll(0)):
            return
        try:
            while received := os.read(self._reader, 1 << 16):
                self._rest += received
        except BlockingIOError:
            if not self._rest:
                return
        *lines, self._rest = self._rest.split(b"\n")
        wanted = [line for line in lines if not line.startswith(TRACKER_PROBES)]
        try:
            while wanted:
                with _withheld(TERMINAL_SIGNALS):
                    running: Any = resource_tracker.getfd()  # starts the tracker if necessary
                os.write(running, wanted[0] + b"\n")
                del wanted[0]
        except OSError:  # it cannot be started now: retry next time
            self._rest = b"\n".join((*wanted, self._rest))

    def close(self) -> None:
        """Forward the rest, and close everything. Call this once the workers have ended."""
        self.forward()
        self.disown()

    def disown(self) -> None:
        """Close everything, and forward nothing."""
        os.close(self.descriptor)
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None


@contextmanager
def _withheld(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Block signals in this thread, and in whatever is started meanwhile, for as long as that lives."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def use(descriptor: int) -> None:
    """Make this process, a worker, and whatever it starts use the tracker behind a descriptor of `Forwarding`."""
    os.set_inheritable(descriptor, False)  # for programs; `multiprocessing` passes it to its processes
    set_tracker_descriptor(descriptor)
    disown_tracker()


@contextmanager
def kept_in_copies() -> Iterator[None]:
    """Have copies that `os.fork` makes meanwhile keep the descriptor: from CPython 3.14 on, they would close it."""
    descriptor = tracker_descriptor()
    set_tracker_descriptor(None)
    try:
        yield
    finally:
        set_tracker_descriptor(descriptor)
