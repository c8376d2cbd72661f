"""Exchanges calls for outcomes, in turns that one thread at a time makes.

The exchange is quick and never blocks, except while it pickles. Which thread makes a turn, and when, is decided by
`LoopDriver` and `PoolThread`.
"""

from __future__ import annotations

import enum
import itertools
import os
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr
from amltk._process.limits import memory_limits
from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.process_pool._engine.life import OPEN, Life
from amltk.scheduling.executors.process_pool._io.pace import QUICK_SECONDS
from amltk.scheduling.executors.process_pool._io.slow_pickling import SlowPickling
from amltk.scheduling.executors.process_pool._state.lock_order import Level
from amltk.scheduling.executors.process_pool._state.outcomes import tell

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Sequence

    from amltk.scheduling.executors.process_pool._engine.wakeups import ThreadWakeup, WakeupSocketpair
    from amltk.scheduling.executors.process_pool._io.worker_io import WorkerIO
    from amltk.scheduling.executors.process_pool._state.dispatcher import Dispatcher
    from amltk.scheduling.executors.process_pool._state.lock_order import PoolLocks
    from amltk.scheduling.executors.process_pool._state.outcomes import Outcome
    from amltk.scheduling.executors.process_pool.future import PoolFuture

TURN_WAIT_SECONDS = 0.005
"""How long a thread waits for another one that is making a turn, in seconds."""


class NewCalls(enum.Enum):
    """Who sees to calls that arrive now. Changed only by the thread that makes a turn."""

    NEED_A_TURN = enum.auto()
    """Nobody, and a worker has room for them, or can be started: whoever accepts one wakes those who make turns."""
    SEEN_BY_TURN = enum.auto()
    """The turn that is being made: it looks for them at its end."""
    WAIT_FOR_ROOM = enum.auto()
    """The turn that makes room for them."""


NEED_A_TURN, SEEN_BY_TURN, WAIT_FOR_ROOM = NewCalls.NEED_A_TURN, NewCalls.SEEN_BY_TURN, NewCalls.WAIT_FOR_ROOM
"""Names that are found faster."""


class Exchange:
    """See the module's docstring.

    Args:
        dispatcher: Decides which worker gets which call.
        io: Sends calls, and receives outcomes.
        selector: The selector of the workers' sockets.
        wakeup: Wakes the thread that waits in that selector.
        thread_wakeup: Wakes the pool's thread.
        locks: Makes the pool's locks.
        lock: The pool's lock of the level `STATE`.
        needs_manager: Whether the workers' manager has something to do at once; called under the lock.

    Attributes:
        pid: The process that has the workers.
        lock: Guards the state, see `lock_order`.
        life: Whether calls are accepted; changed by `advance` only.
        broken: Why the pool is broken; None if it is not.
        arrivals: The accepted calls that are not in the dispatcher yet.
        new_calls: Who sees to those.
        turner: The thread that is making a turn; 0 if there is none.
        pickling: Pickles what may take long.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        io: WorkerIO,
        selector: selectors.BaseSelector,
        *,
        wakeup: WakeupSocketpair,
        thread_wakeup: ThreadWakeup,
        locks: PoolLocks,
        lock: Any,
        needs_manager: Callable[[], bool],
    ) -> None:
        self.pid: int = os.getpid()
        self.lock: Any = lock
        self.life: Life = Life.NEW
        self.broken: PoolBrokenError | None = None
        self.arrivals: deque[PoolFuture] = deque()
        self.new_calls: NewCalls = NEED_A_TURN
        self.turner: int = 0
        self._turn_lock = locks.make(Level.TURN)
        self._again = False  # another turn was requested
        self._keys = itertools.count(1)
        self._dispatcher = dispatcher
        self._io = io
        self._packer = io.packer
        self.pickling: SlowPickling = SlowPickling(io, lock, wake=wakeup.set, on_error=self.fail)
        self._selector = selector
        self._wakeup = wakeup
        self._thread_wakeup = thread_wakeup
        self._locks = locks
        self._needs_manager = needs_manager

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
            if not self._turn_lock.acquire(timeout=TURN_WAIT_SECONDS):
                return False
            try:
                self._again = False
                self.turner = get_ident()
                self._exchange(receive=not again)
            finally:
                self.turner = 0
                self._turn_lock.release()
        return True

    def _exchange(self, *, receive: bool) -> None:
        dispatcher, io = self._dispatcher, self._io
        has_jobs = False
        self.new_calls = SEEN_BY_TURN
        self._send()
        with self.lock:
            if receive or not dispatcher.queue or dispatcher.urgent():
                io.handle(self._selector.select(0))
                if has_jobs := bool(io.questions or io.unknown_outcomes):
                    self.pickling.take_over()
            is_done = not dispatcher.urgent()
            if is_done:
                self._leave()
        if has_jobs:
            self.pickling.start()
        if is_done:
            return
        self._send()  # before callbacks run, which may take long
        with self.lock:
            self._leave()

    def _send(self) -> None:
        io = self._io
        with self.lock:
            self.take_arrivals()
            io.share()
            if io.segments.returned:
                io.segments.take_returned()
            bound = self._dispatcher.bound
            if bound.in_use and bound.make_room():
                io.manager_wanted = True
            if not self._dispatcher.queue and not bound.waiting:
                return
            unpacked = io.unpacked()
        problems = self._pack(unpacked) if unpacked else ()
        with self.lock:
            for call, problem in problems:
                if not call.dropped:
                    io.end(call, problem)
            io.send_calls()

    def _pack(self, calls: list[PoolFuture]) -> Sequence[tuple[PoolFuture, BaseException]]:
        """Pickle calls, or have them pickled by another thread, since that may take long."""
        problems, left = self._packer.pack_quick_ones(calls)
        if left:
            with self.lock:
                self.pickling.pack([call for call in left if not call.dropped])
            self.pickling.start()
        return problems

    def _leave(self) -> None:
        """Arrange for the remaining work to be done, since callbacks may now take long. Requires the lock."""
        io = self._io
        # Whoever delivers outcomes makes another turn, with what callbacks have submitted.
        has_room = io.outcomes or self._dispatcher.hungry()
        self.new_calls = NEED_A_TURN if has_room else WAIT_FOR_ROOM
        is_due_sooner = io.plan_sharing() and self._thread_wakeup.is_awaited
        if is_due_sooner or self._needs_manager() or (self.life > OPEN and self._is_end_due()):
            self._thread_wakeup.is_awaited = False
            self._thread_wakeup.set()
        if self.arrivals and has_room:  # they arrived during the turn
            if io.outcomes:
                self._thread_wakeup.set_if_awaited()  # callbacks may take long
            else:
                self._again = True
        if io.segments.returned and not io.outcomes:
            self._again = True  # likewise; the wake-up for them may have been received already

    def _is_end_due(self) -> bool:
        """Whether the manager has to hang up on workers, since nothing is left to do, or finds that none is left."""
        links = self._io.links.values()
        return self._dispatcher.idle() and (not links or any(link.hung_up_at is None for link in links))

    def take_arrivals(self) -> None:
        """Give the calls that have arrived to the dispatcher. Requires the lock."""
        arrivals = self.arrivals
        while arrivals:
            call = arrivals.popleft()
            call.key = next(self._keys)
            if call.binding is None:
                self._dispatcher.queue.append(call)
            else:
                self._dispatcher.bound.add(call)

    def take_outcomes(self) -> list[Outcome]:
        """The outcomes since the last time, to be delivered."""
        if not self._io.outcomes:
            return []
        with self.lock:
            outcomes, self._io.outcomes = self._io.outcomes, []
            return outcomes

    def note_duration(self, seconds: float) -> None:
        """Note how long it took to make turns and to deliver outcomes, which includes pickling and unpickling."""
        if seconds >= QUICK_SECONDS:
            self._packer.pace.forget()
            self._io.unpickling_pace.forget()

    def tell_the_last(self) -> None:
        """Deliver what is left, since no more turns are made."""
        with self.lock:
            self.pickling.is_late = True
            self.pickling.take_over()
        self.pickling.start()
        self.tell_outcomes()

    def tell_outcomes(self) -> bool:
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

    # ------------------------------------------------------------------ its life

    def advance(self, life: Life) -> None:
        """Enter a stage of life, unless it has come already. Requires the lock."""
        self.life = max(self.life, life)

    def fail(self, error: BaseException) -> None:
        """Break the pool, since a turn was torn in the middle: by a defect, or by a signal handler that raises."""
        if self.is_copy():
            return  # users' code forked in the middle of a turn
        if isinstance(error, MemoryError):
            why = f"this process has no memory left ({memory_limits()}). Submit less at a time, or raise the limit"
        else:
            why = f"the pool's own work was interrupted by {safe_repr(error)}"
        self.break_down(PoolBrokenError(why), error)
        self._thread_wakeup.set()

    def break_down(self, broken: PoolBrokenError, cause: BaseException | None) -> None:
        """Break the pool: all calls fail with an error, and the workers are killed."""
        broken.__cause__ = cause
        with self.lock:
            self.broken = broken
            self.advance(Life.BROKEN)
            self.take_arrivals()
            for call in list(self._dispatcher.pending()):
                self._dispatcher.drop(call)
                self._io.end(call, broken)
            self.mark_all_for_kill(broken)

    def mark_all_for_kill(self, why: BaseException) -> None:
        """Mark all workers to be killed. Requires the lock."""
        for link in self._io.links.values():
            self._io.mark_for_kill(link, why)

    def is_over(self) -> bool:
        """Whether nothing is left to be computed or delivered, nor any worker, and no more calls come."""
        with self.lock:
            is_told = not self._io.outcomes and not self.pickling.has_outcomes()
            is_done = not self.arrivals and is_told and self._dispatcher.idle()
            return self.life > OPEN and is_done and not self._io.links

    def is_copy(self) -> bool:
        """Whether this process is a forked copy of the one that has the workers: it must not use their connections."""
        return os.getpid() != self.pid

    def disown(self, lock: Any) -> None:
        """Release, in a forked copy of the process, what belongs to its parent.

        Args:
            lock: Instead of the one that a thread may hold that does not exist in the copy.
        """
        self.lock = lock
        self._turn_lock = self._locks.make(Level.TURN)
        self.turner = 0
        self.life = Life.OVER
        self.pickling.disown(lock)

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()
        self._wakeup.close()
