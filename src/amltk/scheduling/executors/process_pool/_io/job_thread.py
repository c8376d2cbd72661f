"""Does jobs one after the other, in a thread that exists while there are any."""

from __future__ import annotations

from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

from amltk._process.threads import start_daemon

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class JobThread:
    """See the module's docstring.

    Args:
        name: The name of the thread.
        lock: The pool's lock of the level `STATE`.
        on_error: Called with what a job raises. The next ones are done all the same.

    Attributes:
        ident: The thread that does the jobs; None if there is none.
    """

    def __init__(self, name: str, lock: Any, on_error: Callable[[BaseException], None]) -> None:
        self._name = name
        self._lock = lock
        self._on_error = on_error
        self._jobs: deque[Callable[[], None]] = deque()
        self._is_running = False
        self._thread: threading.Thread | None = None
        self.ident: int | None = None

    def add(self, job: Callable[[], None]) -> None:
        """Add a job, to be done once `start` is called. Requires the lock."""
        self._jobs.append(job)

    def start(self) -> None:
        """Begin to do what was added. Call without the lock."""
        if not self._jobs:
            return
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        self._thread = start_daemon(self._work, self._name)
        if self._thread is None:
            self._work()  # rather hold up this thread than do nothing

    def join(self) -> None:
        """Wait until everything is done. Not for this thread itself."""
        self.start()
        if self._thread is not None:
            self._thread.join()

    def disown(self, lock: Any) -> None:
        """Forget everything, in a forked copy of the process."""
        self._lock = lock
        self._jobs.clear()
        self._is_running = False
        self._thread = self.ident = None

    def _work(self) -> None:
        self.ident = get_ident()  # set here: a job may look before whoever has started the thread goes on
        while True:
            while self._jobs:
                try:
                    self._jobs.popleft()()
                except BaseException as error:  # noqa: BLE001 - passed on
                    self._on_error(error)
            with self._lock:
                if not self._jobs:
                    self._is_running = False
                    self.ident = None
                    return
