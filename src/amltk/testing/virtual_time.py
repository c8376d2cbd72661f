"""An event loop that skips the time in which there is nothing to do."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

THREAD_PATIENCE = 10.0
"""How many real seconds other threads may keep the virtual clock from moving."""


class HangError(RuntimeError):
    """The loop is waiting for something that cannot happen: no timer will ever be due, and no thread is working.

    In real time the program under test would hang here.
    """


class _VirtualSelector(selectors.DefaultSelector):
    """Waits only for other threads; otherwise it advances the virtual clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._known_threads = set(threading.enumerate())

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        give_up = time.monotonic() + THREAD_PATIENCE
        ready: list[Any] = []
        busy: set[threading.Thread] | None = None
        while not ready and busy != set():
            # Checked before the select: a thread may report and end in between.
            busy = set(threading.enumerate()) - self._known_threads
            if busy and time.monotonic() >= give_up:
                raise HangError(f"these threads are still running, so the virtual clock cannot advance: {busy}")
            ready = super().select(0.01 if busy else 0)
        if not ready:
            if timeout is None:
                raise HangError("nothing more can happen: the program under test would hang here")
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: waiting for a timer takes no time, and waiting forever is an error.

    The clock starts at 0 and jumps to the next timer whenever there is nothing else to do. It stands still while any
    thread runs that was started after the loop was created, such as the one that shuts an executor down.

    Raises:
        HangError: Raised by running the loop, when it would wait forever.
    """

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._virtual.now


def run_in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, such as `scheduler.async_run(...)`, in a new loop with virtual time.

    Hours pass in no time, and a program that would hang raises an error at once.

    Raises:
        HangError: The coroutine waits for something that cannot happen.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
