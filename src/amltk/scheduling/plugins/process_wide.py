"""Settings of a whole process, for calls that overlap in its threads."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class ProcessWide:
    """Context managers that change the whole process and put back, when left, what they found when entered.

    Of two such that overlap in two threads, the first to be left would undo the other's change early, and the last
    would put back the first one's for ever. Here each different one is entered once, and all of them are left, in
    reverse order, when nobody needs any of them. Until then they hold for everything in the process.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._entered: list[Any] = []
        self._stack = ExitStack()

    @contextmanager
    def hold(self, make: Callable[[], AbstractContextManager[Any]], key: object) -> Iterator[None]:
        """Have a context manager entered for as long as this one is, at least.

        Args:
            make: Makes it.
            key: Equal for equal ones.
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
