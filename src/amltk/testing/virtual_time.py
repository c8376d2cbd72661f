"""A loop whose time passes at once when there is nothing to do."""

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
"""Real seconds for which other threads may keep the virtual clock from moving."""


class HangError(RuntimeError):
    """The loop waits for something that cannot happen: no timer is due, ever, and no thread is at work.

    In real time the program under test would hang here.
    """


class _VirtualSelector(selectors.DefaultSelector):
    """Waits for nothing but other threads; lets a clock jump instead."""

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
            # Looked at before the select: a thread may report and end in between.
            busy = set(threading.enumerate()) - self._known_threads
            if busy and time.monotonic() >= give_up:
                raise HangError(f"these threads keep the virtual clock from moving: {busy}")
            ready = super().select(0.01 if busy else 0)
        if not ready:
            if timeout is None:
                raise HangError("nothing is left that could happen: the program under test would hang here")
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: waiting for a timer takes no time, and waiting for nothing is an error.

    The clock starts at 0 and jumps to the next timer whenever there is nothing else to do. While a thread is at work
    that was started after the loop was made, such as the one that shuts an executor down, the clock stands still.

    Raises:
        HangError: Out of the run of the loop, when it would wait for ever.
    """

    def __init__(self) -> None:
        self._virtual = _VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._virtual.now


def run_in_virtual_time(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, such as `scheduler.async_run(...)`, in a new loop whose time is virtual.

    Hours pass in no time, and what would hang is an error at once.

    Raises:
        HangError: The coroutine waits for something that cannot happen.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
