"""The pool's own thread.

It runs the manager of the workers (starts, deaths, limits). It makes the turns as well, unless an event loop does, and
also while a callback keeps that loop busy.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.process_pool._engine.exchange import NEED_A_TURN
from amltk.scheduling.executors.process_pool._engine.life import OPEN, Life
from amltk.scheduling.executors.process_pool._system import shortage

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._engine.exchange import Exchange
    from amltk.scheduling.executors.process_pool._engine.loop_driver import LoopDriver
    from amltk.scheduling.executors.process_pool._engine.wakeups import ThreadWakeup
    from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
    from amltk.scheduling.executors.process_pool._workers.manager import WorkerManager

LOOP_IDLE_SECONDS = 0.005
"""How long the pool's thread lets an idle event loop be before it takes over the I/O, in seconds."""

MANAGER = "manager"
"""The key data of the manager's selector in the thread's selector."""


class PoolThread:
    """See the module's docstring.

    Args:
        exchange: The pool's exchange.
        io: Its I/O.
        manager: The manager of the workers.
        io_selector: The selector of the workers' sockets.
        manager_selector: The selector of what concerns the manager.
        wakeup: Wakes this thread, through the manager's selector.
        wake_exchange: Makes whoever makes turns make one.

    Attributes:
        driver: The event loop that makes the turns; None if this thread does.
    """

    def __init__(
        self,
        exchange: Exchange,
        io: WorkerIO,
        manager: WorkerManager,
        *,
        io_selector: selectors.DefaultSelector,
        manager_selector: selectors.DefaultSelector,
        wakeup: ThreadWakeup,
        wake_exchange: Callable[[], None],
    ) -> None:
        self.driver: LoopDriver | None = None
        self._exchange = exchange
        self._io = io
        self._manager = manager
        self._manager_selector = manager_selector
        self._wakeup = wakeup
        self._wake_exchange = wake_exchange
        self._selector = selectors.DefaultSelector()  # of both selectors: a loop selects on the I/O only
        self._selector.register(io_selector.fileno(), selectors.EVENT_READ)
        self._selector.register(manager_selector.fileno(), selectors.EVENT_READ, MANAGER)
        self._postponed: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ from any thread

    def start(self) -> None:
        """Start the thread, unless it was started. Requires the lock.

        Raises:
            RuntimeError: That is impossible now.
        """
        if self._thread is not None:
            return
        thread = self._thread = threading.Thread(target=self._work, name="amltk-process-pool", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._thread = None
            raise RuntimeError(
                f"the pool's thread cannot be started ({error}), so nothing can be computed{shortage.of_threads()}"
            ) from error
        except BaseException:  # a signal handler has raised
            if thread.ident is None:
                self._thread = None
            raise

    def is_started(self) -> bool:
        """Whether the thread was started."""
        return self._thread is not None

    def join(self) -> None:
        """Wait for the end, unless the end waits for the caller: in the middle of a turn, or on this thread."""
        thread, caller = self._thread, threading.get_ident()
        exchange = self._exchange
        waits_for = (None if thread is None else thread.ident, exchange.turner, *exchange.pickling.threads())
        if thread is not None and caller not in waits_for and not exchange.lock._is_owned():
            thread.join()
            exchange.pickling.join()

    def postpone(self, step: Callable[[], object]) -> None:
        """Take a step that needs the lock later, on this thread."""
        self._postponed.append(step)
        self._wakeup.set()

    def take_over(self) -> None:
        """Make the turns from now on, since no loop does any more."""
        with self._exchange.lock:
            self.driver = None
            is_over = self._exchange.life is Life.OVER
        if is_over:
            self.close_selectors()

    def disown(self) -> None:
        """Release, in a forked copy of the process, what belongs to its parent."""
        self._thread = None
        self._postponed.clear()
        driver, self.driver = self.driver, None
        if driver is not None:
            driver.disown()

    # ------------------------------------------------------------------ on the thread

    def _work(self) -> None:
        if self._thread is not threading.current_thread():
            return  # its start was interrupted
        exchange, wakeup = self._exchange, self._wakeup
        try:
            stands_in_since = -1
            while True:
                driver = self.driver
                turns = driver.turns if driver is not None else -1
                wakeup.is_awaited = True
                ready = self._selector.select(self._patience())
                wakeup.is_awaited = False
                if self._manager_is_due(ready) and self._run_manager():
                    return
                if driver is not None and self.driver is driver and turns != stands_in_since:
                    if self._is_loop_responsive(driver, turns):
                        continue
                    stands_in_since = turns
                began = time.monotonic()
                if not exchange.has_outcomes():  # of the last turn
                    exchange.turn()
                if exchange.tell_outcomes():
                    exchange.turn(again=True)
                exchange.note_duration(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - whatever happens, every call must end
            exchange.fail(error)
        finally:
            if not exchange.is_copy():
                self.release()

    def _is_loop_responsive(self, driver: LoopDriver, turns: int) -> bool:
        """Whether the loop has made turns since, or makes one now that something has happened."""
        if self._exchange.has_outcomes():
            self._wake_exchange()  # the loop does not know of those that this thread has received in its place
        self._manager_selector.select(LOOP_IDLE_SECONDS)
        return driver.turns != turns

    def _patience(self) -> float | None:
        """How many seconds to wait for something to happen; None for no limit."""
        exchange = self._exchange
        with exchange.lock:
            # There are outcomes if the turn after delivering others has found more.
            is_needed = self._manager.needed() or self._io.outcomes
            if is_needed or (exchange.arrivals and exchange.new_calls is NEED_A_TURN):
                return 0.0
            times = [time for time in (self._io.share_at, self._manager.due) if time is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _manager_is_due(self, ready: list[tuple[selectors.SelectorKey, int]]) -> bool:
        if any(key.data == MANAGER for key, _ in ready):
            return True
        with self._exchange.lock:
            due = self._manager.due
            return self._manager.needed() or (due is not None and due <= time.monotonic())

    def _run_manager(self) -> bool:
        """Run the manager; return whether everything is over."""
        exchange = self._exchange
        self._wakeup.clear()
        self._take_postponed_steps()
        try:
            changed = self._manager.look_after(closing=exchange.life > OPEN and not exchange.arrivals)
        except PoolBrokenError as broken:
            exchange.break_down(broken, broken.__cause__)
            changed = True
        if changed:
            self._wake_exchange()
        return exchange.is_over() and not self._postponed

    def _take_postponed_steps(self) -> None:
        while self._postponed:
            self._postponed.popleft()()

    def release(self) -> None:
        """Deliver and release what is left. Called at the thread's end, or if the thread is not needed any more."""
        exchange = self._exchange
        try:
            exchange.tell_the_last()
            self._take_postponed_steps()
        finally:
            self._manager.close()
            self._io.packer.forget_all()
            with exchange.lock:
                exchange.advance(Life.OVER)
                is_attached = self.driver is not None
            if not is_attached:
                self.close_selectors()

    def close_selectors(self) -> None:
        """Close everything to wait for."""
        self._selector.close()
        self._manager_selector.close()
        self._wakeup.close()
        self._exchange.close()
