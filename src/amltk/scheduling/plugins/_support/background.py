"""Background work, in a thread that exists only while there is something to do."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Background:
    """Calls functions one after the other, in the given order, in a thread of its own.

    The thread ends when no calls are left, so that there is nothing to close, and a virtual clock stands still only
    while the thread works. The program does not end before the thread.

    Args:
        name: The name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._jobs: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._at_work = False

    def put(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Call `fn(*args)` after everything put before. Returns at once, with its future."""
        future: Future[Any] = Future()
        with self._lock:
            self._jobs.append((future, fn, args))
            if not self._at_work:
                Thread(target=self._work, name=self._name).start()
                self._at_work = True
        return future

    def drop(self) -> None:
        """Drop the calls that have not begun."""
        with self._lock:
            self._jobs.clear()

    def _work(self) -> None:
        is_last = False
        while not is_last:
            with self._lock:
                if not self._jobs:
                    self._at_work = False
                    return
                future, fn, args = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            result, problem = None, None
            try:
                result = fn(*args)
            except BaseException as error:  # noqa: BLE001 - belongs to the future
                problem = error
            with self._lock:  # before the end is told: what is put in answer to it begins a thread of its own
                is_last = not self._jobs
                self._at_work = not is_last
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)
