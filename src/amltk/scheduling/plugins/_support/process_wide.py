"""Process-wide settings, for calls that overlap in the threads of a process."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class ProcessWide:
    """Shares context managers that change the whole process and restore, on exit, what they found on entry.

    If two of them overlap in two threads, the first to exit would undo the other's change early, and the last would
    restore the first one's change for good. Here each distinct one is entered once, and all are exited, in reverse
    order, when no call needs any of them. Until then they apply to the whole process.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._entered: list[Any] = []
        self._stack = ExitStack()

    @contextmanager
    def hold(self, make: Callable[[], AbstractContextManager[Any]], key: object) -> Iterator[None]:
        """Keep a context manager entered at least as long as this one.

        Args:
            make: Creates it.
            key: Identifies it; equal keys share one context manager.
        """
        self._enter(make, key)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, make: Callable[[], AbstractContextManager[Any]], key: object) -> None:
        with self._lock:
            if key not in self._entered:
                self._stack.enter_context(make())
                self._entered.append(key)
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._entered.clear()
                self._stack.close()
