"""What plugins use together for the length of one run."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from amltk.exceptions import SchedulerNotRunningError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Closable(Protocol):
    """What is given back at the end of a run."""

    def close(self) -> None:
        """Give back what was acquired; called once, on the loop's thread."""
        ...


S = TypeVar("S", bound=Closable)


class RunResources:
    """Things that are made when they are first asked for, and closed with the run. May be asked from any thread."""

    def __init__(self) -> None:
        self._things: dict[Hashable, Any] = {}
        self._closing = ExitStack()
        self._closed = False
        self._lock = threading.RLock()  # the garbage collector may call what asks, too

    def get(self, key: Hashable, make: Callable[[], S]) -> S:
        """The thing that is shared under `key`; made now if there is none.

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
        """Close all of them, the last one first, and make no more."""
        with self._lock:
            self._closed = True
        self._things.clear()
        self._closing.close()
