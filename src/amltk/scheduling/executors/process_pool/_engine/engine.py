"""The engine of a pool: what any thread may request of it.

Its parts, each of which uses only those before it:

- `Exchange` makes the turns: calls out, outcomes in. That is quick and never blocks.
- `LoopDriver` makes turns on the event loop of a scheduler's run, so that a call needs no thread switch.
- `PoolThread` always runs the *manager* of the workers (starts, deaths, limits). It makes the turns while no loop is
  attached, or while a callback keeps the loop busy.
- `Engine` accepts calls, and answers requests.

The locks and their order are described in `lock_order`.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from functools import partial
from typing import TYPE_CHECKING

from amltk import _guard
from amltk._shield import shielded
from amltk.exceptions import PoolBrokenError, WorkerLostError
from amltk.scheduling.executors.process_pool._child.library_threads import thread_environment
from amltk.scheduling.executors.process_pool._engine.exchange import NEED_A_TURN, Exchange
from amltk.scheduling.executors.process_pool._engine.life import OPEN, Life
from amltk.scheduling.executors.process_pool._engine.loop_driver import LoopDriver
from amltk.scheduling.executors.process_pool._engine.pool_thread import PoolThread
from amltk.scheduling.executors.process_pool._engine.wakeups import ThreadWakeup, WakeupSocketpair
from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher
from amltk.scheduling.executors.process_pool._state.lock_order import Level, PoolLocks
from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool
from amltk.scheduling.executors.process_pool._workers.manager import WorkerManager
from amltk.scheduling.executors.process_pool._workers.starts import Starts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._engine.loop_driver import Gather
    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.options import WorkerOptions


class Engine:
    """The implementation of a `ProcessPool`; arguments as there.

    It has as many methods as the pool: each acquires the locks and has one of the pool's parts do the work.
    """

    def __init__(
        self,
        max_workers: int,
        max_tasks_per_child: int | None,
        options: WorkerOptions,
    ) -> None:
        self._locks = PoolLocks()
        lock = self._locks.make(Level.STATE)
        self._selector = selectors.DefaultSelector()
        manager_selector = selectors.DefaultSelector()
        self._wakeup = WakeupSocketpair(self._selector)
        self._thread_wakeup = ThreadWakeup(manager_selector)
        self._dispatcher = Dispatcher(max_workers, max_tasks_per_child)
        self._io = WorkerIO(
            self._dispatcher,
            self._selector,
            locks=self._locks,
            lock=lock,
            shared_memory=options.shared_memory,
            wake=self._wakeup.set,
        )
        pool = ManagedPool(options, self._dispatcher, self._io, self._selector, lock)
        starts = Starts(
            pool,
            variables=partial(thread_environment, max_workers),
            control=manager_selector,
            own=[*self._wakeup.sockets, *self._thread_wakeup.sockets],
        )
        self._manager = WorkerManager(pool, starts)
        self._exchange = Exchange(
            self._dispatcher,
            self._io,
            self._selector,
            wakeup=self._wakeup,
            thread_wakeup=self._thread_wakeup,
            locks=self._locks,
            lock=lock,
            needs_manager=self._manager.needed,
        )
        self._thread = PoolThread(
            self._exchange,
            self._io,
            self._manager,
            io_selector=self._selector,
            manager_selector=manager_selector,
            wakeup=self._thread_wakeup,
            wake_exchange=self._wakeup.set,
        )

    @property
    def broken(self) -> PoolBrokenError | None:
        """Why the pool is broken; None if it is not."""
        return self._exchange.broken

    # ------------------------------------------------------------------ calls

    def accept(self, call: PoolFuture) -> None:
        """Accept a call.

        Raises:
            PoolBrokenError: The pool is broken.
            RuntimeError: The pool was shut down.
            NestingError: It is the first call, and a worker process imports the module that submits it, or too many
                pools are nested.
        """
        exchange = self._exchange
        if exchange.life is not OPEN:
            self._open()
        # No lock is needed: whoever closes the pool in between sees the call among the arrivals, or is seen here.
        exchange.arrivals.append(call)
        if exchange.life is not OPEN:
            self._withdraw(call)
        if exchange.new_calls is NEED_A_TURN or call.binding is not None:
            driver = self._thread.driver
            if driver is None or not driver.call_soon():
                self._wakeup.set()
            elif self._thread_wakeup.is_awaited:
                self._thread_wakeup.set_if_awaited()  # the thread must check whether the loop gets round to it

    def _open(self) -> None:
        """Start the thread, if calls are accepted."""
        self._refuse_if_closed()
        _guard.check("a process pool")
        with self._exchange.lock:
            self._thread.start()
            self._exchange.advance(Life.OPEN)

    def _refuse_if_closed(self) -> None:
        exchange = self._exchange
        if self.is_copy():
            raise RuntimeError(
                f"this ProcessPool is that of process {exchange.pid}, which has forked this one: make another one here"
            )
        if exchange.broken is not None:
            raise PoolBrokenError(str(exchange.broken)) from exchange.broken
        if exchange.life > OPEN:
            raise RuntimeError("cannot schedule new futures after shutdown: this ProcessPool was shut down")

    def _withdraw(self, call: PoolFuture) -> None:
        """Refuse a call that has arrived while the pool was being closed, unless it was sent to a worker already."""
        exchange = self._exchange
        with exchange.lock:
            if call.slot is not None or call.dropped:
                return
            call.dropped = True
            with contextlib.suppress(ValueError):  # the dispatcher has it, and will drop it
                exchange.arrivals.remove(call)
        self._thread_wakeup.set()  # it may have waited for this call
        self._refuse_if_closed()

    def cancel(self, call: PoolFuture) -> bool:
        """Cancel a call. False if it has ended or is already cancelled. A worker that is running it is killed."""
        if self.is_copy():
            return False
        if self._exchange.lock._is_owned():
            if not call.dropped and not call.unwanted:
                call.mark_cancelled()  # it gets no outcome meanwhile: that takes the lock
                call.dropped = call.slot is None  # a waiting call never begins
                self._unless_held(partial(self._cancel_marked, call))
            return False
        with self._exchange.lock:
            return not call.unwanted and self._give_up(call)

    def _cancel_marked(self, call: PoolFuture) -> None:
        with self._exchange.lock:
            if call.slot is not None:
                call.dropped = False  # it was just being sent to a worker
            self._give_up(call)
        call.tell_cancelled()

    def _give_up(self, call: PoolFuture) -> bool:
        """Like `cancel`. Requires the lock."""
        if call.dropped:
            return False
        slot = call.slot
        if slot is not None:
            self._io.take_back(self._io.links[slot.number])
            if call.slot is slot and slot.sent[-1] is not call:
                return False  # the worker has a later call: the outcome of this one is on its way
        slot = self._dispatcher.drop(call)
        if slot is not None:
            self._io.mark_for_kill(self._io.links[slot.number], WorkerLostError("its call was cancelled"))
            self._thread_wakeup.set()
        return True

    def _unless_held(self, step: Callable[[], object]) -> None:
        """Run a step that needs the lock; later, on the pool's thread, if this thread holds it. See `lock_order`."""
        if self._exchange.lock._is_owned():
            self._thread.postpone(step)
        else:
            step()

    def has_begun(self, call: PoolFuture) -> bool:
        """Whether a worker has begun the call."""
        if self.is_copy():
            return False
        with self._exchange.lock:
            return call.slot is not None and self._io.begun(call.slot) is call

    def measure_calls(self, on: bool) -> None:
        """Carry out `ProcessPool.measure_calls`."""
        self._io.measures = float(on)

    def running_calls(self) -> list[PoolFuture]:
        """The calls that workers have begun. The cost grows with the number of workers, not of waiting calls."""
        calls: list[PoolFuture] = []
        if self.is_copy():
            return calls
        with self._exchange.lock:
            for slot in self._dispatcher.slots.values():
                if (call := self._io.begun(slot)) is not None:
                    # Workers do not report the beginning of calls that are expected to be short.
                    call.pid = self._io.links[slot.number].pid
                    if call.begun_at is None:
                        call.begun_at = time.monotonic()
                    calls.append(call)
        return calls

    def pids(self) -> list[int]:
        """The pids of the workers."""
        if self.is_copy():
            return []
        with self._exchange.lock:
            return [link.pid for link in self._io.links.values() if link.pid]

    def when_left(self, call: PoolFuture, fn: Callable[[], object]) -> None:
        """Call `fn` when no process computes a call any more that has ended; at once if that is so."""
        slot = call.left_behind
        if slot is not None and not self.is_copy():
            with self._exchange.lock:
                if slot.number in self._dispatcher.slots:
                    slot.on_end.append(fn)
                    return
        fn()

    # ------------------------------------------------------------------ the end

    def expect_end(self) -> None:
        """Give up workers that are slow to become ready, until a loop is attached again."""
        self._manager.hurry()
        if not self.is_copy():
            self._thread_wakeup.set()

    @shielded
    def close(self, *, cancel: bool) -> None:
        """Accept no more calls. The engine ends once everything has ended."""
        if self.is_copy():
            return
        exchange = self._exchange
        with exchange.lock:
            is_unused = exchange.life is Life.NEW and not self._thread.is_started()
            exchange.advance(Life.OVER if is_unused else Life.CLOSING)
        if is_unused:
            self._thread.release()
        if cancel:
            self._unless_held(self._cancel_waiting)
        self._thread_wakeup.set()

    def _cancel_waiting(self) -> None:
        exchange = self._exchange
        with exchange.lock:
            exchange.take_arrivals()
            for link in self._io.links.values():
                self._io.take_back(link)
            waiting = self._dispatcher.waiting()
        for call in waiting:
            call.cancel()

    def kill(self) -> None:
        """Kill all workers at once. Running calls fail, waiting calls are cancelled."""
        if self.is_copy():
            return
        self.close(cancel=True)
        self._unless_held(self._kill_workers)
        self._exchange.pickling.is_late = True  # what takes long to unpickle is not waited for
        self._thread_wakeup.set()
        self.join()

    def _kill_workers(self) -> None:
        with self._exchange.lock:
            self._exchange.mark_all_for_kill(WorkerLostError("the pool's workers were killed"))

    def join(self) -> None:
        """Wait for the end, unless the end waits for the caller: in the middle of a turn, or on the pool's thread."""
        if not self.is_copy():
            self._thread.join()

    # ------------------------------------------------------------------ loops

    def attach(self, loop: asyncio.AbstractEventLoop, gather: Gather) -> bool:
        """Let a loop do the I/O from now on. Called on the loop's thread.

        Args:
            loop: The loop.
            gather: Called with a function that delivers outcomes to futures; calls it, and handles what it raises.

        Returns:
            False if that is impossible: another loop does it, or this loop cannot.
        """
        if self.is_copy():
            return False
        with self._exchange.lock:
            if self._thread.driver is not None or self._exchange.life is Life.OVER:
                return False
            self._manager.hurry(is_hurried=False)
            driver = self._thread.driver = LoopDriver(self._exchange, loop, self._selector.fileno(), gather)
        is_open = False
        try:
            is_open = driver.open()
        finally:
            if not is_open:
                self._thread.take_over()
        return is_open

    def detach(self) -> None:
        """Undo `attach`."""
        if self.is_copy():
            return
        driver = self._thread.driver
        if driver is not None:
            driver.close()
            self._thread.take_over()
            self._io.packer.forget_old_values()
        self._thread_wakeup.set()

    # ------------------------------------------------------------------ forks

    def owner(self) -> int:
        """The process that has the workers."""
        return self._exchange.pid

    def is_copy(self) -> bool:
        """Whether this process is a forked copy of the one that has the workers: it must not use their connections."""
        return self._exchange.is_copy()

    def note_fork(self, *, is_worker: bool) -> None:
        """Release, in a forked copy of the process, what belongs to its parent. Nothing is sent to anyone.

        Args:
            is_worker: Whether the copy is to be a worker, or to start one: it needs some of this, and closes the rest.
        """
        lock = self._locks.make(Level.STATE)  # a thread that does not exist in the copy may hold the other one
        self._exchange.disown(lock)
        self._thread.disown()
        self._io.segments.disown(lock)
        if not is_worker:
            self._manager.disown(lock)
            self._thread.close_selectors()
