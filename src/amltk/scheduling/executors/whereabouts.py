"""Where and when a call was computed: the common record on the futures of executors."""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


@dataclass(slots=True)
class Whereabouts:
    """Where and when one call was computed, as far as its executor knows by now.

    Attributes:
        host: The name of the machine; None if unknown.
        pid: The process; None if no worker has begun it, or if unknown.
        thread: The name of the thread, if a worker may have several; None otherwise.
        began: When a worker began it, in seconds since the epoch on its machine's clock; None if none has.
        ended: When the function ended, on the same clock; None if it has not, or was lost with its worker.
    """

    host: str | None = None
    pid: int | None = None
    thread: str | None = None
    began: float | None = None
    ended: float | None = None

    def begin(self) -> Self:
        """Record that the call begins here, now."""
        self.host, self.pid, self.thread = this_host(), os.getpid(), threading.current_thread().name
        self.began = time.time()
        return self

    def end(self) -> None:
        """Record that the call has ended."""
        self.ended = time.time()

    def as_tuple(self) -> tuple[str | None, int | None, str | None, float | None, float | None]:
        """The fields as a tuple, for sending."""
        return self.host, self.pid, self.thread, self.began, self.ended


@functools.cache
def this_host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def whereabouts(work: Any) -> Whereabouts | None:
    """The record on an executor's future; None if its executor keeps none, or not yet."""
    told = getattr(work, "whereabouts", None)
    return told if isinstance(told, Whereabouts) else None
