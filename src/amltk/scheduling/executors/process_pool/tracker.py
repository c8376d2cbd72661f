"""One resource tracker for the driver and its workers, as for `multiprocessing` and its children.

The tracker of `multiprocessing` is a process that destroys what was left behind in shared memory by those who have its
pipe, once all of them have ended. A worker with a tracker of its own would thus destroy, at its end, whatever it has
used. So it writes into the pipe of the driver's; or, if that has none so far, into a pipe whose lines the pool
forwards, so that a tracker is started only for those who use it. The descriptors are not documented; `multiprocessing`
itself hands them to its children in this way.
"""

from __future__ import annotations

import os
from multiprocessing import resource_tracker
from typing import Any

PROBES = (b"PROBE:", b'{"cmd":"PROBE"')
"""What lines begin with that only ask whether there is a tracker, from CPython 3.14 on perhaps in JSON."""


class Forwarding:
    """The driver's side, for one pool. Not for several threads at once.

    Attributes:
        descriptor: What workers write into.
    """

    def __init__(self) -> None:
        self._reader: int | None = None
        self._rest = b""
        running = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
        if running is not None:
            # Another descriptor: from 3.14 on, that of the tracker is closed in processes that were forked.
            self.descriptor: int = os.dup(running)
        else:
            self._reader, self.descriptor = os.pipe()
            os.set_blocking(self._reader, False)

    def fileno(self) -> int:
        """What is readable when there is something to forward; -1 if workers write to the tracker themselves."""
        return -1 if self._reader is None else self._reader

    def forward(self) -> None:
        """Give the tracker what workers have written; to be called before anybody learns what they have returned."""
        if self._reader is None:
            return
        try:
            while received := os.read(self._reader, 1 << 16):
                self._rest += received
        except BlockingIOError:
            if not self._rest:
                return
        *lines, self._rest = self._rest.split(b"\n")
        wanted = [line for line in lines if not line.startswith(PROBES)]
        try:
            while wanted:
                running: Any = resource_tracker.getfd()  # it is started, if need be
                os.write(running, wanted[0] + b"\n")
                del wanted[0]
        except OSError:  # it cannot be started now: next time
            self._rest = b"\n".join((*wanted, self._rest))

    def close(self) -> None:
        """Forward the rest, and close everything; once the workers have ended."""
        self.forward()
        os.close(self.descriptor)
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None


def use(descriptor: int) -> None:
    """Have this process, a worker, and whatever it starts use the tracker behind a descriptor of `Forwarding`."""
    os.set_inheritable(descriptor, False)  # by programs; a process of `multiprocessing` is told of it
    tracker: Any = resource_tracker._resource_tracker
    tracker._fd = descriptor
    tracker._pid = None  # it is not this process's child
