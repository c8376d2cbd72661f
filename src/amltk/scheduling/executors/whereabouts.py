"""Where and when a call was computed: what the futures of executors tell about it, under one name."""

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
        host: The name of the machine; None if that is not known.
        pid: The process; None if no worker has begun it, or if that is not known.
        thread: The name of the thread, where a worker may have several; None elsewhere.
        began: When a worker began it, in seconds since the epoch on the clock of its machine; None if none has.
        ended: When the function had ended, on the same clock; None if it has not, or was lost with its worker.
    """

    host: str | None = None
    pid: int | None = None
    thread: str | None = None
    began: float | None = None
    ended: float | None = None

    def begin(self) -> Self:
        """Note that the call begins here and now."""
        self.host, self.pid, self.thread = this_host(), os.getpid(), threading.current_thread().name
        self.began = time.time()
        return self

    def end(self) -> None:
        """It has ended."""
        self.ended = time.time()

    def as_tuple(self) -> tuple[str | None, int | None, str | None, float | None, float | None]:
        """What it is made of, for travel."""
        return self.host, self.pid, self.thread, self.began, self.ended


@functools.cache
def this_host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def whereabouts(work: Any) -> Whereabouts | None:
    """What an executor's future tells; None if its executor tells nothing, or not yet."""
    told = getattr(work, "whereabouts", None)
    return told if isinstance(told, Whereabouts) else None
