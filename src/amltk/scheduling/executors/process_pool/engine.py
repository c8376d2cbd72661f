"""The engine of a pool: which thread does the I/O, which one manages the workers, and when.

The I/O (calls out, outcomes in) is quick and never blocks. While a scheduler's run is attached, its event loop does the
I/O, so that a call needs no thread switch; otherwise the pool's own thread does. That thread always runs the *manager*
(starts, deaths, limits), and takes over the I/O when a callback keeps the loop busy.

Locks:

- `_submit_lock` guards the decision whether a call is accepted.
- `_turn_lock` is held by the thread that makes a turn.
- `_lock` guards the state of the dispatcher, the links and the I/O. It is the innermost lock: a thread that holds it
  never waits for another lock, runs users' code, or does anything that may block.

Users' code can still run anywhere: the garbage collector calls `__del__` methods and finalizers, and Python calls
signal handlers, in the middle of whatever a thread does. If that thread holds `_lock`, their requests are postponed,
see `_unless_held`: the pool's thread carries them out once the lock is free.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import socket
import threading
import time
from collections import deque
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from amltk import _guard
from amltk.exceptions import PoolBrokenError, WorkerLostError
from amltk.scheduling.executors.process_pool._child.library_threads import thread_environment
from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher
from amltk.scheduling.executors.process_pool._state.outcomes import tell
from amltk.scheduling.executors.process_pool._workers.manager import WorkerManager

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Gather = Callable[[Callable[[], None]], None]

    from amltk.scheduling.executors.process_pool._state.outcomes import Outcome
    from amltk.scheduling.executors.process_pool.future import PoolFuture
    from amltk.scheduling.executors.process_pool.options import WorkerOptions

LOOP_IDLE_SECONDS = 0.005
"""How long the pool's thread lets an idle event loop be before it takes over the I/O, and how long one of the two waits
for the other, in seconds."""

MAX_SLICE_SECONDS = 0.001
"""How long a loop keeps delivering outcomes while more come in, before it does its other work, in seconds."""

MANAGER = "manager"
"""The key data of the manager's selector in the thread's selector."""


class WakeupSocketpair:
    """Wakes a selector from any thread."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._writer, self._reader = socket.socketpair()
        self._writer.setblocking(False)
        self._reader.setblocking(False)
        selector.register(self._reader, selectors.EVENT_READ)

    @property
    def sockets(self) -> list[socket.socket]:
        """Its two sockets."""
        return [self._writer, self._reader]

    def set(self) -> None:
        """Wake the selector."""
        with contextlib.suppress(BlockingIOError, OSError):  # already set, or closed
            self._writer.send(b".")

    def clear(self) -> None:
        """Reset it after the selector woke up."""
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)

    def close(self) -> None:
        """Close it."""
        self._writer.close()
        self._reader.close()


class Engine:
    """The implementation of a `ProcessPool`; arguments as there."""

    def __init__(
        self,
        max_workers: int,
        max_tasks_per_child: int | None,
        options: WorkerOptions,
    ) -> None:
        self.broken: PoolBrokenError | None = None
        self._pid = os.getpid()  # a forked copy of the process must not touch its parent's workers
        self._lock: Any = threading.RLock()  # Any: for `_is_owned`, which condition variables use
        self._turn_lock = threading.Lock()
        self._turner = 0  # the thread that is making a turn
        self._submit_lock = threading.RLock()  # the garbage collector may call `close` while it is held
        self._keys = itertools.count(1)
        self._arrivals: deque[PoolFuture] = deque()
        self._put_off: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._over = False
        self._again = False  # another turn was requested
        self._needs_wakeup = True  # no thread checks the arrivals until something happens
        self._thread_sleeps = False  # until something happens
        self._has_capacity = True  # a new call would find a worker
        # The loop selects on the I/O, the thread on both.
        self._selector = selectors.DefaultSelector()
        self._manager_selector = selectors.DefaultSelector()
        self._thread_selector = selectors.DefaultSelector()
        self._thread_selector.register(self._selector.fileno(), selectors.EVENT_READ)
        self._thread_selector.register(self._manager_selector.fileno(), selectors.EVENT_READ, MANAGER)
        self._wake_up = WakeupSocketpair(self._selector)
        self._manager_wakeup = WakeupSocketpair(self._manager_selector)
        self._dispatcher = Dispatcher(max_workers, max_tasks_per_child)
        self._io = WorkerIO(self._dispatcher, self._selector)
        self._manager = WorkerManager(
            options,
            variables=partial(thread_environment, max_workers),
            dispatcher=self._dispatcher,
            io=self._io,
            selector=self._selector,
            control=self._manager_selector,
            lock=self._lock,
            own=[*self._wake_up.sockets, *self._manager_wakeup.sockets],
        )
        self._driver: LoopDriver | None = None

    # ------------------------------------------------------------------ from any thread

    def accept(self, call: PoolFuture) -> None:
        """Accept a call.

        Raises:
            PoolBrokenError: The pool is broken.
            RuntimeError: The pool was shut down.
            NestingError: It is the first call, and a worker process imports the module that submits it, or too many
                pools are nested.
        """
        with self._submit_lock:
            if self._closing or self._thread is None:
                self._open()  # also in a forked copy, which has no thread
            self._arrivals.append(call)
        if self._needs_wakeup and self._has_capacity:
            driver = self._driver
            if driver is None or not driver.call_soon():
                self._wake_up.set()
            elif self._thread_sleeps:  # it must check whether the loop gets round to it
                self._thread_sleeps = False
                self._manager_wakeup.set()

    def _open(self) -> None:
        """Start the thread, if calls are accepted."""
        if self.is_copy():
            raise RuntimeError(
                f"this ProcessPool is that of process {self._pid}, which has forked this one: make another one here"
            )
        if self.broken is not None:
            raise PoolBrokenError(str(self.broken)) from self.broken
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown: this ProcessPool was shut down")
        _guard.check("a process pool")
        thread = threading.Thread(target=self._work, name="amltk-process-pool", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise RuntimeError(
                f"the pool's thread cannot be started ({error}), so nothing can be computed: the limit of threads and "
                "processes is reached, or the interpreter is shutting down"
            ) from error
        self._thread = thread

    def cancel(self, call: PoolFuture) -> bool:
        """Cancel a call. False if it has ended or is already cancelled. A worker that is running it is killed."""
        if self.is_copy():
            return False
        if self._lock._is_owned():
            if not call.dropped and not call.unwanted:
                call.mark_cancelled()  # it gets no outcome meanwhile: that takes the lock
                call.dropped = call.slot is None  # a waiting call never begins
                self._unless_held(partial(self._cancel_marked, call))
            return False
        with self._lock:
            return not call.unwanted and self._give_up(call)

    def _cancel_marked(self, call: PoolFuture) -> None:
        with self._lock:
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
            self._manager_wakeup.set()
        return True

    def _unless_held(self, step: Callable[[], object]) -> None:
        """Run a step that needs the lock; later, on the pool's thread, if this thread holds it. See the module."""
        if self._lock._is_owned():
            self._put_off.append(step)
            self._manager_wakeup.set()
        else:
            step()

    def _do_what_was_put_off(self) -> None:
        while self._put_off:
            self._put_off.popleft()()

    def expect_end(self) -> None:
        """Give up workers that are slow to become ready, until a loop is attached again."""
        self._manager.is_hurried = True
        if not self.is_copy():
            self._manager_wakeup.set()

    def note_fork(self, *, is_worker: bool) -> None:
        """Release, in a forked copy of the process, what belongs to its parent. Nothing is sent to anyone.

        Args:
            is_worker: Whether the copy is to be a worker, or to start one: it needs some of this, and closes the rest.
        """
        self._thread = None
        # Threads that held these do not exist in the copy.
        self._lock, self._turn_lock, self._submit_lock = threading.RLock(), threading.Lock(), threading.RLock()
        self._turner = 0
        self._put_off.clear()
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.disown()
        if not is_worker:
            self._manager.disown(self._lock)
            self._close_selectors()

    def owner(self) -> int:
        """The process that has the workers."""
        return self._pid

    def is_copy(self) -> bool:
        """Whether this process is a forked copy of the one that has the workers: it must not use their connections."""
        return os.getpid() != self._pid

    def has_begun(self, call: PoolFuture) -> bool:
        """Whether a worker has begun the call."""
        if self.is_copy():
            return False
        with self._lock:
            return call.slot is not None and self._io.begun(call.slot) is call

    def running_calls(self) -> list[PoolFuture]:
        """The calls that workers have begun. The cost grows with the number of workers, not of waiting calls."""
        calls: list[PoolFuture] = []
        if self.is_copy():
            return calls
        with self._lock:
            for slot in self._dispatcher.slots.values():
                if (call := self._io.begun(slot)) is not None:
                    call.pid = self._io.links[slot.number].pid  # workers do not report the beginning of short calls
                    calls.append(call)
        return calls

    def close(self, *, cancel: bool) -> None:
        """Accept no more calls. The engine ends once everything has ended."""
        if self.is_copy():
            return
        with self._submit_lock:
            self._closing = True
            is_unused = self._thread is None and not self._over
            self._over = self._over or is_unused
        if is_unused:
            self._release()
        if cancel:
            self._unless_held(self._cancel_waiting)
        self._manager_wakeup.set()

    def _cancel_waiting(self) -> None:
        with self._lock:
            self._take_arrivals()
            for link in self._io.links.values():
                self._io.take_back(link)
            waiting = [call for call in self._dispatcher.queue if not call.dropped]
        for call in waiting:
            call.cancel()

    def kill(self) -> None:
        """Kill all workers at once. Running calls fail, waiting calls are cancelled."""
        if self.is_copy():
            return
        self.close(cancel=True)
        self._unless_held(partial(self._condemn_all, WorkerLostError("the pool's workers were killed")))
        self._manager_wakeup.set()
        self.join()

    def _condemn_all(self, why: BaseException) -> None:
        with self._lock:
            for link in self._io.links.values():
                self._io.mark_for_kill(link, why)

    def join(self) -> None:
        """Wait for the end, unless the end waits for the caller: in the middle of a turn, or on the pool's thread."""
        if self.is_copy():
            return
        thread, caller = self._thread, get_ident()
        if thread is not None and caller not in {thread.ident, self._turner} and not self._lock._is_owned():
            thread.join()

    def pids(self) -> list[int]:
        """The pids of the workers."""
        if self.is_copy():
            return []
        with self._lock:
            return [link.pid for link in self._io.links.values() if link.pid]

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
        with self._submit_lock:
            if self._driver is not None or self._over:
                return False
            self._manager.is_hurried = False
            try:
                self._driver = LoopDriver(self, loop, self._selector.fileno(), gather)
            except NotImplementedError:
                return False
            return True

    def detach(self) -> None:
        """Undo `attach`."""
        if self.is_copy():
            return
        with self._submit_lock:
            if self._driver is not None:
                self._driver.close()
                self._driver = None
                self._io.forget_old_values()
            if self._over:
                self._close_selectors()
        self._manager_wakeup.set()

    # ------------------------------------------------------------------ a turn

    def turn(self, *, again: bool = False) -> bool:
        """Send calls and receive outcomes, which must be delivered afterwards, see `take_outcomes`.

        Args:
            again: Outcomes were delivered since the last turn: send what callbacks have submitted, but receive only if
                workers are running out of work. Receiving less often handles more at once, which is cheaper.

        Returns:
            False if another thread is making a long turn because it pickles something; that turn does this one's work
            as well.
        """
        self._again = True
        while self._again:
            # Wait: polling would keep the interpreter lock from the other thread.
            if not self._turn_lock.acquire(timeout=LOOP_IDLE_SECONDS):
                return False
            try:
                self._again = False
                self._turner = get_ident()
                self._exchange(receive=not again)
            finally:
                self._turner = 0
                self._turn_lock.release()
        return True

    def _exchange(self, *, receive: bool) -> None:
        dispatcher = self._dispatcher
        self._needs_wakeup = False
        self._send()
        with self._lock:
            if receive or not dispatcher.queue or dispatcher.urgent():
                self._io.handle(self._selector.select(0))
            if not dispatcher.urgent() and not self._io.questions:
                self._leave()
                return
        self._answer()
        self._send()  # before callbacks run, which may take long
        with self._lock:
            self._leave()

    def _send(self) -> None:
        io = self._io
        with self._lock:
            self._take_arrivals()
            io.share()
            if not self._dispatcher.queue:
                return
            unpacked = io.unpacked()
        problems = io.pack(unpacked)
        with self._lock:
            for call, problem in problems:
                if not call.dropped:
                    io.end(call, problem)
            io.send_calls()

    def _answer(self) -> None:
        """Answer questions of workers, whose calls are waiting for the answers."""
        io = self._io
        with self._lock:
            questions, io.questions = io.questions, []
        if questions:
            answers = io.find_answers(questions)
            with self._lock:
                io.send_answers(answers)

    def _leave(self) -> None:
        """Arrange for the remaining work to be done, since callbacks may now take long. Requires the lock."""
        io = self._io
        # Whoever delivers outcomes makes another turn, with what callbacks have submitted.
        self._has_capacity = bool(io.outcomes) or self._dispatcher.hungry()
        self._needs_wakeup = True
        is_due_sooner = io.plan_sharing() and self._thread_sleeps
        if is_due_sooner or self._manager.needed() or (self._closing and self._dispatcher.idle()):
            self._thread_sleeps = False
            self._manager_wakeup.set()
        if self._arrivals and self._has_capacity and not io.outcomes:  # they arrived while no thread was asleep
            self._again = True

    def _take_arrivals(self) -> None:
        arrivals = self._arrivals
        while arrivals:
            call = arrivals.popleft()
            call.key = next(self._keys)
            self._dispatcher.queue.append(call)

    def take_outcomes(self) -> list[Outcome]:
        """The outcomes since the last time, to be delivered."""
        with self._lock:
            outcomes, self._io.outcomes = self._io.outcomes, []
            return outcomes

    def _tell_outcomes(self) -> bool:
        """Deliver outcomes; return whether there were any. Afterwards no live frame keeps a result alive."""
        outcomes = self.take_outcomes()
        tell(outcomes)
        return bool(outcomes)

    def has_outcomes(self) -> bool:
        """Whether there are outcomes to deliver."""
        return bool(self._io.outcomes)

    def share_at(self) -> float | None:
        """When the next turn is due even if nothing happens, on the monotonic clock; None for never."""
        return self._io.share_at

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        try:
            stands_in_since = -1
            while True:
                driver = self._driver
                turns = driver.turns if driver is not None else -1
                self._thread_sleeps = True
                ready = self._thread_selector.select(self._patience())
                self._thread_sleeps = False
                if self._manager_is_due(ready) and self._run_manager():
                    return
                if driver is not None and self._driver is driver and turns != stands_in_since:
                    self._manager_selector.select(LOOP_IDLE_SECONDS)
                    if driver.turns != turns:
                        continue  # the loop is doing it
                    stands_in_since = turns
                if not self.has_outcomes():  # of the last turn
                    self.turn()
                if self._tell_outcomes():
                    self.turn(again=True)
        except BaseException as error:  # noqa: BLE001 - whatever happens, every call must end
            self.fail(error)
        finally:
            if not self.is_copy():
                self._release()

    def _patience(self) -> float | None:
        """How many seconds to wait for something to happen; None for no limit."""
        with self._lock:
            # There are outcomes if the turn after delivering others has found more.
            if self._manager.needed() or self._io.outcomes or (self._arrivals and self._has_capacity):
                return 0.0
            times = [time for time in (self._io.share_at, self._manager.due) if time is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _manager_is_due(self, ready: list[tuple[selectors.SelectorKey, int]]) -> bool:
        if any(key.data == MANAGER for key, _ in ready):
            return True
        with self._lock:
            due = self._manager.due
            return self._manager.needed() or (due is not None and due <= time.monotonic())

    def _run_manager(self) -> bool:
        """Run the manager; return whether everything is over."""
        self._manager_wakeup.clear()
        self._do_what_was_put_off()
        closing = self._closing and not self._arrivals
        try:
            changed = self._manager.look_after(closing=closing)
        except PoolBrokenError as broken:
            self._break(broken, broken.__cause__)
            changed = True
        if changed:
            self._wake_up.set()
        with self._lock:
            unsettled = self._io.links or self._io.outcomes or self._put_off
            return closing and self._dispatcher.idle() and not unsettled

    def fail(self, error: BaseException) -> None:
        """Break the pool, since a turn was torn in the middle: by a defect, or by a signal handler that raises."""
        if self.is_copy():
            return  # users' code forked in the middle of a turn
        self._break(PoolBrokenError(f"the pool's own work was torn by {error!r}"), error)
        self._manager_wakeup.set()

    def _break(self, broken: PoolBrokenError, cause: BaseException | None) -> None:
        broken.__cause__ = cause
        with self._submit_lock:
            self.broken = broken
            self._closing = True
        with self._lock:
            self._take_arrivals()
            for call in list(self._dispatcher.pending()):
                self._dispatcher.drop(call)
                self._io.end(call, broken)
        self._condemn_all(broken)

    def _release(self) -> None:
        try:
            tell(self.take_outcomes())
            self._do_what_was_put_off()
        finally:
            self._manager.close()
            self._io.forget_all()
            with self._submit_lock:
                self._closing = self._over = True
                if self._driver is None:
                    self._close_selectors()

    def _close_selectors(self) -> None:
        for closing in (
            self._thread_selector,
            self._selector,
            self._manager_selector,
            self._wake_up,
            self._manager_wakeup,
        ):
            closing.close()


def _raise(error: BaseException) -> None:
    raise error


class LoopDriver:
    """An event loop that does the I/O of a pool.

    Args:
        engine: The pool's engine.
        loop: The loop.
        descriptor: Readable when something has arrived.
        gather: As in `Engine.attach`.

    Attributes:
        turns: How many turns it has made, which shows whether the loop is responsive.
    """

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        descriptor: int,
        gather: Gather,
    ) -> None:
        self.turns: int = 0
        self._engine = engine
        self._loop = loop
        self._descriptor = descriptor
        self._gather = gather
        self._thread = get_ident()
        self._is_at_it = False  # what callbacks submit now is sent before the turn ends
        self._is_due = False  # a turn is scheduled
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        loop.add_reader(descriptor, self._turn)
        self.call_soon()

    def call_soon(self) -> bool:
        """Make a turn soon. False if the caller is on another thread, where this is not possible."""
        if get_ident() != self._thread:
            return False
        if not self._is_at_it and not self._is_due:
            self._loop.call_soon(self._turn_that_was_due)
            self._is_due = True  # set second, in case a signal handler raises in between
        return True

    def _turn_that_was_due(self) -> None:
        self._is_due = False
        self._turn()

    def _turn(self) -> None:
        if self._is_closed:
            return  # it was already scheduled
        try:
            self._make_turn()
        except BaseException as error:  # noqa: BLE001 - passed on: a loop would only log it
            self._engine.fail(error)
            self._gather(partial(_raise, error))

    def _make_turn(self) -> None:
        self.turns += 1
        self._is_at_it = True
        engine = self._engine
        until = time.monotonic() + MAX_SLICE_SECONDS
        if not engine.has_outcomes():  # of the last turn
            engine.turn()
        while outcomes := engine.take_outcomes():
            self._gather(partial(tell, outcomes))
            del outcomes  # no live frame keeps a result alive
            if self._is_closed:
                return  # a callback has detached the loop
            engine.turn(again=True)
            if time.monotonic() >= until:
                break
        self._is_at_it = False
        if engine.has_outcomes():
            self.call_soon()
        self.turns += 1
        if self._timer is None and (share_at := engine.share_at()) is not None:
            self._timer = self._loop.call_later(max(0.0, share_at - time.monotonic()), self._share)

    def _share(self) -> None:
        self._timer = None
        self._turn()

    def disown(self) -> None:
        """Do nothing any more, in a forked copy of the process: the loop's descriptors are its parent's as well."""
        self._is_closed = True

    def close(self) -> None:
        """Stop using the loop."""
        self._is_closed = True
        self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
