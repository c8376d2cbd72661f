"""One resource tracker for the driver and its workers, like that of `multiprocessing` and its children.

The tracker of `multiprocessing` is a process that destroys leftover shared memory once all processes that have its pipe
have ended. A worker with its own tracker would thus destroy, at its end, whatever it has used. So it writes into the
pipe of the driver's tracker; or, if the driver has none so far, into a pipe whose lines the pool forwards, so that a
tracker is started only if it is needed. If the driver is killed meanwhile, the process that starts workers sees to what
it has not forwarded. The descriptors are not documented; `multiprocessing` itself passes them to its children in this
way.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from amltk._compat import (
    TRACKER_PROBES,
    TRACKER_REMOVALS,
    disown_tracker,
    set_tracker_descriptor,
    tracker_descriptor,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


TERMINAL_SIGNALS = (signal.SIGHUP, signal.SIGQUIT)
"""What a terminal sends to all processes of its program when it is closed, and for Ctrl-\\.

They would kill the tracker before it has removed anything: it ignores SIGINT and SIGTERM only.
"""


END_SECONDS = 0.1
"""How long the end of the driver may take from when its connections are closed, in seconds."""


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
        running = _started()  # first: what was read and not written would be lost if the driver were killed now
        self._rest += _read_all(self._reader)
        if running is None:
            return  # retry next time
        *lines, self._rest = self._rest.split(b"\n")
        wanted = [line for line in lines if not line.startswith(TRACKER_PROBES)]
        try:
            while wanted:
                os.write(running, wanted[0] + b"\n")
                del wanted[0]
        except OSError:  # it has ended: the next one gets them
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


def _started(tracker: Any = resource_tracker) -> Any:
    """The descriptor of a tracker, by default the driver's, which is started if necessary; None if it cannot be now."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)  # which the tracker gets from this thread
    try:
        return tracker.getfd()
    except (OSError, TypeError, UserWarning):
        # Something has run out; or there is no interpreter to run; or it has ended, and warnings of it are errors.
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read_all(reader: int) -> bytes:
    """What there is to read now."""
    found = b""
    with suppress(BlockingIOError):
        while received := os.read(reader, 1 << 16):
            found += received
    return found


def inherit(reader: int, driver: int) -> None:
    """See to what workers have registered, if their driver has ended and has not forwarded it.

    To be called when the workers have ended, by the child of the driver that has started them.

    Args:
        reader: The descriptor of the `Forwarding`; -1 if it needs none.
        driver: The pid of the driver.
    """
    if reader < 0:
        return
    waiting = select.poll()
    waiting.register(reader, select.POLLIN)
    give_up = time.monotonic() + END_SECONDS
    while any(event & select.POLLIN for _, event in waiting.poll(0)):
        if os.getppid() != driver:
            _have_removed(_read_all(reader).splitlines())
        elif time.monotonic() < give_up:
            time.sleep(0.001)
        else:
            return  # it is alive, and forwards the lines itself


def _have_removed(lines: list[bytes]) -> None:
    """Have a tracker of this process remove what is still registered after these lines."""
    left: dict[bytes, None] = {}
    for line in lines:
        if line.startswith(TRACKER_REMOVALS):
            left.pop(line.replace(b"UNREGISTER", b"REGISTER", 1), None)
        elif not line.startswith(TRACKER_PROBES):
            left[line] = None
    tracker = resource_tracker.ResourceTracker()  # which since CPython 3.12 ends with its object
    if left and (running := _started(tracker)) is not None:
        os.write(running, b"".join(line + b"\n" for line in left))


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
