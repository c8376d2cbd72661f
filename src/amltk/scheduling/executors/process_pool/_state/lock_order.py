"""The locks of a pool and their order.

A thread that waits for one of them may hold only those before it:

1. `Level.TURN` is held by the thread that makes a turn.
2. `Level.PICKLING` is held while something is pickled for a worker, which runs users' code and may take long. A turn
   does not wait for it: what cannot be pickled now, or quickly, is given to another thread, see `SlowPickling`.
3. `Level.STATE` guards the life of the pool, the dispatcher, the links and the I/O. It is the innermost one: a thread
   that holds it never waits for another lock, runs users' code, or does anything that may block, except that the first
   call starts the pool's thread.

Users' code can still run anywhere: the garbage collector calls `__del__` methods and finalizers, and Python calls
signal handlers, in the middle of whatever a thread does. That code may use the pool, so `STATE` is reentrant, and no
request waits for another lock; accepting a call takes none at all. A request that would change what its own thread is
working on is postponed, see `Engine._unless_held`.

The tests switch on a check of this order, with `check_order`.
"""

from __future__ import annotations

import enum
import threading
from typing import Any


class Level(enum.IntEnum):
    """The place of a lock in the order."""

    TURN = 1
    PICKLING = 2
    STATE = 3


check_order: bool = False
"""Whether locks made from now on check that they are acquired in order. For tests: it makes them slow."""


class PoolLocks:
    """Makes the locks of one pool."""

    def __init__(self) -> None:
        self._held = threading.local()

    def make(self, level: Level) -> Any:
        """A lock of that level: an `RLock` for `STATE`, whose `_is_owned` is used, and a `Lock` for the others."""
        lock: Any = threading.RLock() if level is Level.STATE else threading.Lock()
        return CheckedLock(lock, level, self._held) if check_order else lock


class CheckedLock:
    """A lock that fails an assertion instead of waiting for itself out of order.

    Args:
        lock: The lock.
        level: Its level.
        held: Where each thread notes the levels of the pool's locks that it holds.
    """

    def __init__(self, lock: Any, level: Level, held: threading.local) -> None:
        self._lock = lock
        self._level = level
        self._held = held

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Like `Lock.acquire`.

        Raises:
            AssertionError: The thread may have to wait, and holds a lock that comes later in the order.
        """
        levels: list[Level] = self._held.__dict__.setdefault("levels", [])
        if blocking:
            highest = max(levels, default=self._level)
            assert highest <= self._level, f"waits for {self._level!r} while it holds {highest!r}"
        is_acquired: bool = self._lock.acquire(blocking, timeout)
        if is_acquired:
            levels.append(self._level)
        return is_acquired

    def locked(self) -> bool:
        """Whether a thread holds it; of a `Lock` only."""
        return bool(self._lock.locked())

    def release(self) -> None:
        """Like `Lock.release`."""
        self._held.levels.remove(self._level)
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        """Whether this thread holds it; of an `RLock` only."""
        return bool(self._lock._is_owned())
