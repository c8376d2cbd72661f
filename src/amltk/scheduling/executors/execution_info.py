"""Where and when a call was computed: the common record on the futures of executors."""

from __future__ import annotations

import functools
import os
import socket
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amltk._process import clock

if TYPE_CHECKING:
    from typing import Self


lent_devices: ContextVar[tuple[str, ...]] = ContextVar("amltk_lent_devices", default=())
"""The devices that the worker has lent to the call that is computed here."""


@dataclass(slots=True)
class ExecutionInfo:
    """Where and when one call was computed, as far as its executor knows by now.

    Attributes:
        host: The name of the machine; None if that is not known.
        pid: The process; None if no worker has begun it, or if that is not known.
        thread: The name of the thread, where a worker may have several; None elsewhere.
        began: When a worker began it, in seconds since the epoch; None if none has. The time from this to `ended` is a
            true duration, on any machine, even if its clock is set meanwhile.
        ended: When the function had ended; None if it has not, or was lost with its worker.
        devices: What the worker has lent to it, such as `gpu 0`; empty where the scheduler has granted them.
        cpu: How many seconds of CPU time its worker process has used for it; None if that is not known.
        memory: The most memory that its worker process had meanwhile, in bytes; None if that is not known.
    """

    host: str | None = None
    pid: int | None = None
    thread: str | None = None
    began: float | None = None
    ended: float | None = None
    devices: tuple[str, ...] = ()
    cpu: float | None = None
    memory: int | None = None

    def begin(self) -> Self:
        """Record that the call begins here, now."""
        self.host, self.pid, self.thread = this_host(), os.getpid(), threading.current_thread().name
        self.began = clock.now()
        return self

    def end(self) -> None:
        """It has ended."""
        self.ended = clock.now()
        self.devices = lent_devices.get()

    def within(self, earliest: float, latest: float) -> Self:
        """The same where its times are possible, else moved so that it ends at the latest: for clocks that differ."""
        if self.began is not None and self.ended is not None and not earliest <= self.began <= self.ended <= latest:
            self.began, self.ended = latest - (self.ended - self.began), latest
        return self


@functools.cache
def this_host() -> str:
    """The name of this machine."""
    return socket.gethostname()


def told_since(began: float) -> tuple[str, int, str, float, float, tuple[str, ...]]:
    """The first fields of the record, for sending, of a call that began here at this time and ends now."""
    return this_host(), os.getpid(), threading.current_thread().name, began, clock.now(), lent_devices.get()


def execution_info(work: Any) -> ExecutionInfo | None:
    """The record on an executor's future; None if its executor keeps none, or not yet."""
    told = getattr(work, "execution_info", None)
    return told if isinstance(told, ExecutionInfo) else None
