"""A run that plain code drives step by step: between two steps its loop stands still while the caller works."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from contextlib import ExitStack
from threading import get_ident
from typing import TYPE_CHECKING, Any

from amltk.scheduling._loop import nested_loop
from amltk.scheduling._loop.signals import Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from amltk.scheduling._run.run import Run
    from amltk.scheduling.exit_state import ExitState

_log = logging.getLogger(__name__)


class Steps:
    """One run with its own loop, which advances only during `step`.

    To the run, what the caller does in between is like a slow callback: timers, timeouts and events are handled
    afterwards, and executors keep computing. During a step signals end the run cleanly; in between they are left to the
    caller.

    Owns the loop and the task of the run. On the thread that made it, but for `close`, which may be called from any
    thread.

    Args:
        make_run: Creates the run, on the loop.

    Attributes:
        run: The run.
        ends: What to do once the run is over.
    """

    def __init__(self, make_run: Callable[[], Coroutine[Any, Any, Run]]) -> None:
        self.ends: ExitStack = ExitStack()
        self._thread = get_ident()
        self._pid = os.getpid()
        self._runner = asyncio.Runner(loop_factory=nested_loop.new_loop)
        with nested_loop.running_loop_set_aside():
            self._loop = self._runner.get_loop()
            self.run: Run = self._loop.run_until_complete(make_run())
            self._life = self._loop.create_task(self.run.live(), name="amltk-run")
        self._woken: asyncio.Future[None] = self._loop.create_future()
        self._life.add_done_callback(lambda _: self.wake())
        self._is_closed = False
        # Registered after the executor's own exit function, which waits for the end of the run.
        atexit.register(self.close, "the program ends within the loop over the results")

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._life.done()

    def can_step(self) -> bool:
        """Whether the caller may drive the run: it is on this thread, and not in one of the run's callbacks."""
        return get_ident() == self._thread and not self._loop.is_running()

    def step(self) -> None:
        """Let the run continue until `wake` is called or it is over."""
        self._woken = self._loop.create_future()
        if self.over:
            return
        self.run.hold(False)
        with (
            nested_loop.running_loop_set_aside(),
            Interrupts(self.run, self._life, holds_up_others=True) as interrupts,
        ):
            nested_loop.drive(self._loop, self._woken, self.run.end_requests.interrupt)
            if interrupts.told:  # the signal takes effect when the run is over
                self.run.hold(False)
                nested_loop.drive(self._loop, self._life, self.run.end_requests.interrupt)

    def wake(self) -> None:
        """End the current step soon. Called on the loop's thread."""
        if not self._woken.done():
            self.run.hold(True)
            self._woken.set_result(None)

    def conclude(self) -> ExitState:
        """How the run ended; raises what `Scheduler.run` would raise."""
        self._life.result()
        return self.run.conclude()

    def close(self, why: str) -> None:
        """Release everything. A run that is not over ends at once, without waiting for compute. May be repeated.

        Args:
            why: The message of `@stop`.
        """
        if self._is_closed or os.getpid() != self._pid:
            return  # in a forked copy of the program: the run is not its own
        self._is_closed = True
        atexit.unregister(self.close)
        if get_ident() == self._thread:
            self._close(why)
        else:
            # Called by the garbage collector on this thread, which may be in the middle of anything.
            threading.Thread(target=self._close_elsewhere, args=(why,), name="amltk-left").start()

    def _close_elsewhere(self, why: str) -> None:
        self._thread = get_ident()
        self.run.move_here()
        self._close(why)

    def _close(self, why: str) -> None:
        with self.ends:
            try:
                if not self.over:
                    self._leave(why)
            finally:
                with nested_loop.running_loop_set_aside():
                    self._runner.close()
                self.run.lifecycle.drop_exception()

    def _leave(self, why: str) -> None:
        raised = sys.exc_info()[1]
        self._loop.call_soon(self.run.end_requests.leave, why)  # takes effect once the run has begun
        while not self.over:
            self.step()
        error = self.run.lifecycle.cause.exception
        if error is not None and error is not raised:
            _log.error("the run raised after the loop over its results was left", exc_info=error)
