"""Resources that plugins share during one run."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from amltk.exceptions import SchedulerNotRunningError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Closable(Protocol):
    """A resource that is released at the end of a run."""

    def close(self) -> None:
        """Release it. Called once, on the loop's thread."""
        ...


S = TypeVar("S", bound=Closable)


class RunResources:
    """Resources that are created on first use and closed with the run.

    Owns them. `get` may be called from any thread, `close` on the loop's thread.
    """

    def __init__(self) -> None:
        self._things: dict[Hashable, Any] = {}
        self._closing = ExitStack()
        self._closed = False
        self._lock = threading.RLock()  # the garbage collector may run code that calls `get`

    def get(self, key: Hashable, make: Callable[[], S]) -> S:
        """The resource shared under `key`, created now if there is none.

        Raises:
            SchedulerNotRunningError: The run is over.
        """
        with self._lock:
            if self._closed:
                raise SchedulerNotRunningError("the run is over; guard submissions with `if scheduler.running():`")
            if key not in self._things:
                thing = make()
                self._closing.callback(thing.close)
                self._things.setdefault(key, thing)
            found: S = self._things[key]
            return found

    def close(self) -> None:
        """Close all resources in reverse order, and create no more."""
        with self._lock:
            self._closed = True
        self._things.clear()
        self._closing.close()
