"""One run, from `@start` to `@finished`: puts its parts together, and goes through its phases."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk import _compat
from amltk._process import clock
from amltk._shield import shielded
from amltk.scheduling._admission.pools import Pools
from amltk.scheduling._loop import forks
from amltk.scheduling._loop.inbox import Inbox
from amltk.scheduling._loop.refresh import DisplayRefresher
from amltk.scheduling._loop.signals import may_be_torn
from amltk.scheduling._loop.timers import Timer, Timers
from amltk.scheduling._loop.turns import Turns
from amltk.scheduling._run.calls.settlement import Settlement
from amltk.scheduling._run.calls.submissions import Submissions
from amltk.scheduling._run.context import RunContext
from amltk.scheduling._run.dependencies import Dependencies
from amltk.scheduling._run.dispatch import NOTHING, Delivery
from amltk.scheduling._run.end_requests import EndRequests
from amltk.scheduling._run.lifecycle import Phase, RunLifecycle
from amltk.scheduling._run.pending_calls import PendingCalls
from amltk.scheduling._run.resources import RunResources
from amltk.scheduling._run.shutdown import Shutdown
from amltk.scheduling._run.waiting import Waiting
from amltk.scheduling.events import Event, callback_name
from amltk.scheduling.exit_state import ExitState
from amltk.scheduling.scheduler_events import STOP_MESSAGE
from amltk.scheduling.scheduler_events import SchedulerEvents as Events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from amltk.scheduling._loop.refresh import View
    from amltk.scheduling._run.policy import RunOptions
    from amltk.scheduling.call import Call, Heard
    from amltk.scheduling.events import Channel, Emitter
    from amltk.scheduling.executors.adapter import ExecutorAdapter
    from amltk.scheduling.future import Future, Observer

_log = logging.getLogger(__name__)

Code = ExitState.Code


class Parts(NamedTuple):
    """What parts of a run are made of, where something may take their place."""

    turns: Callable[[], Turns] = Turns
    inbox: Callable[[asyncio.AbstractEventLoop, Turns], Inbox] = Inbox
    end_requests: Callable[..., EndRequests] = EndRequests
    submissions: Callable[..., Submissions] = Submissions
    timers: Callable[..., Timers] = Timers


COMPUTE: Event[[], Any] = Event("compute")
"""The event name, in messages, for a step of an executor that computes on the loop's thread."""


class Run:
    """One run of a scheduler, on the loop that is running when it is created.

    Everything that happens goes through the inbox, so that all bookkeeping and all callbacks run on the loop's thread,
    one at a time, in the order in which things happened.

    Owns its parts, the timeout and the display. The parts say themselves which threads may call them; the methods of
    the run may be called from any thread where they say so, and else on the loop's thread.

    It has more than 25 methods, most of which pass a request on, because it is the one face of a run: for the
    scheduler, plugins, signal handlers, and executors that compute on its loop.

    Args:
        emitter: The emitter of the scheduler's events.
        backend: The executor and how to terminate it.
        options: The user's options.
        view: The view that shows the run, or None.
        numbers: The numbers for its submissions.
        observers: Called with every call that is submitted to the executor.
        pools: What calls may have to wait for; None for nothing.
        parts: What to make parts of the run of; None for the usual ones.

    Attributes:
        loop: The loop on whose thread everything is delivered.
        pending_calls: The submissions that have not ended.
        dependencies: Those of them that wait for the results of others.
        lifecycle: The phase of the run, and why it ends.
        resources: What plugins share during this run.
        submissions: Takes calls to the executor.
        end_requests: Takes everything that can end the run.
        settlement: Ends calls.
        timers: Its delayed calls.
        deadline: When the timeout is reached, on the loop's clock; None without one, and until the time counts.
    """

    def __init__(
        self,
        emitter: Emitter,
        backend: ExecutorAdapter,
        options: RunOptions,
        view: View | None,
        *,
        numbers: Iterator[int],
        observers: Sequence[Observer] = (),
        pools: Pools | None = None,
        parts: Parts | None = None,
    ) -> None:
        parts = parts or Parts()
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.pending_calls: PendingCalls = PendingCalls(numbers)
        self.lifecycle: RunLifecycle = RunLifecycle(self.pending_calls)
        self.resources: RunResources = RunResources()
        self._backend = backend
        self._options = options
        self._channel = emitter.channel
        self._refresher = DisplayRefresher(self.loop, view)
        self.deadline: float | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._announced = False  # @finishing was delivered
        turns = parts.turns()
        self._inbox = inbox = parts.inbox(self.loop, turns)
        self.dependencies: Dependencies = Dependencies()
        context = RunContext(
            self.loop,
            turns,
            inbox,
            backend,
            options,
            self.pending_calls,
            self.dependencies,
            self.lifecycle,
            emitter.channel,
            pools or Pools(),
            self.time_left,
        )
        self.end_requests: EndRequests = parts.end_requests(context, self._announce_end)
        self._delivery = delivery = Delivery(
            self.loop,
            turns,
            on_error=self.end_requests.callback_failed,
            on_coroutine_end=lambda task: inbox.put(waiting.coroutine_ended, task),
        )
        self._tell = delivery.tell
        self._waiting = waiting = Waiting(context, delivery, self.end_requests)
        settlement = Settlement(context, delivery, self.end_requests, waiting, self._repeat)
        self.settlement: Settlement = settlement
        self.submissions: Submissions = parts.submissions(context, delivery, self.end_requests, settlement, observers)
        self._shutdown = Shutdown(context, delivery, self.end_requests, waiting, settlement)
        self.timers: Timers = parts.timers(self.loop, inbox, delivery.call)
        inbox.connect(on_work=settlement.settle, on_idle=waiting.idle, on_crash=self.end_requests.crashed)

    is_recorded: bool = False
    """Whether it has a journal."""

    # ------------------------------------------------------------------ from any thread

    def is_here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return self._inbox.here()

    @shielded
    def running(self) -> bool:
        """Whether work is accepted: from `@start` until the end is requested or the timeout is reached."""
        if self.deadline is not None and self.lifecycle.running and self.loop.time() >= self.deadline:
            # A callback that loops while this is true must see the timeout, although the loop's own timer gets no turn;
            # and because it then stops submitting, the run must not end as exhausted.
            self.end_requests.request(Code.TIMEOUT)
        return self.lifecycle.running

    def time_left(self) -> float:
        """How many seconds are left until the timeout; infinite without one, negative after it."""
        left = self._options.timeout if self.deadline is None else self.deadline - self.loop.time()
        return math.inf if left is None else left

    def call_later(self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timer:
        """Call `fn` on the loop's thread after `delay` seconds, unless the run is over by then."""
        if not self.lifecycle.running:
            self.lifecycle.check_running(f"call {callback_name(fn)} later")
        return self.timers.later(delay, fn, args, kwargs)

    def check_offer(self, call: Call) -> Future[Any] | None:
        """Raise unless a call may be offered to the plugins of its task; its future if that is done later."""
        self.lifecycle.check_running(f"submit {call.task.name}")
        return None

    def set_timer(self, delay: float, fn: Callable[[], object]) -> Timer:
        """Call `fn` on the loop's thread after `delay` seconds, unless the run is over by then. For plugins."""
        return self.timers.later(delay, fn, (), {})

    @shielded
    def dispatch(self, channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Deliver an event after everything that happened before it."""
        # When a user insists on the end, callbacks may be emitting without end.
        if not self.end_requests.insisted:
            # Events that callbacks cause precede that of the end, unless they never stop causing more.
            put = self._inbox.put if self.lifecycle.running or self._announced else self._inbox.put_input
            put(self._tell, channel, args, kwargs)

    @shielded
    def report(self, error: BaseException, where: str) -> None:
        """Carry out `Scheduler.report`."""
        self._inbox.run_here(self.end_requests.callback_failed, error, where)

    # ------------------------------------------------------------------ for signal handlers

    @property
    def in_user_code(self) -> bool:
        """Whether a callback is running right now."""
        return self._delivery.in_user_code

    @property
    def n_interruptions(self) -> int:
        """How many times the run was interrupted from outside, so that it raises."""
        return self.end_requests.n_interruptions

    def interrupt_from_signal(self, exception: BaseException) -> None:
        """End at once. Called by a signal handler, on the loop's thread.

        A callback that is running goes on; it is told by `running()`, or by what it asks for next.
        """
        if self.in_user_code:
            self.end_requests.end_at_once(exception)
        self._inbox.put_first(self.end_requests.interrupt, exception)

    def raise_from_signal(self, exception: BaseException) -> None:
        """Note that a signal handler is about to raise this in user code: in a callback, or in compute on the loop."""
        self.end_requests.signalled = exception

    def note_fork(self) -> None:
        """End the run in a forked copy of the process, if a callback that forked returns there: nothing is computed."""
        text = (
            f"this process, {os.getpid()}, was forked during a run, which goes on in process {os.getppid()} only: "
            "end it by os._exit() before the callback returns, or start it by multiprocessing"
        )
        self._inbox.put_first(self._end_copy, text)

    # ------------------------------------------------------------------ on the loop's thread

    @shielded
    def deliver(self, heard: Heard, *, at_once: bool = False) -> None:
        """Deliver a message of a running call, as an input. Its follower hears nothing after a second interrupt.

        Args:
            heard: The message.
            at_once: Return when the callbacks have returned. For compute on the loop's own thread.

        Raises:
            JournalWriteError: It cannot be recorded; only with `at_once`.
        """
        if self.end_requests.insisted:
            return
        if at_once:
            in_user_code = self._delivery.in_user_code
            self._inbox.put_and_wait(self._tell_at_once, heard)
            self._delivery.in_user_code = in_user_code  # back to that of the compute
        else:
            self._inbox.put_input(self.tell_heard, heard)

    def tell_heard(self, heard: Heard) -> None:
        """Tell callbacks of a message. For the inbox only."""
        heard.note()
        self._tell(heard.channel, heard.args, NOTHING, heard.follower)

    def _tell_at_once(self, heard: Heard) -> None:
        self.tell_heard(heard)

    @property
    def is_replaying(self) -> bool:
        """Whether recorded inputs are being told."""
        return self._inbox.replaying

    def move_here(self) -> None:
        """Move the run to this thread, which drives the loop from now on. Not while the loop is running."""
        self.submissions.move_here()
        self._inbox.move_here()

    def hold(self, on: bool) -> None:
        """Take no more inputs, or take them again, in a run with a journal: the body of a loop over results works."""

    def conclude(self) -> ExitState:
        """The return value of the run; raises what is to be raised. Call once, when it is over."""
        cause = self.lifecycle.drop_exception()
        state = ExitState(
            cause.code,
            cause.exception,
            self.pending_calls.exceptions,
            self.end_requests.callback_exceptions,
            reason=cause.message,
        )
        if cause.raises and cause.exception is not None:
            try:
                raise cause.exception
            finally:
                del cause, state  # the traceback of what is raised refers to this frame
        return state

    async def live(self) -> None:
        """Go from `@start` to `@finished`. Must not be cancelled: `EndRequests.interrupt` ends it early and cleanly."""
        try:
            self._open()
            await self._waiting.until(lambda: self._announced)
            await self._shutdown.close_down()
            self._delivery.accept_coroutines()
            self._inbox.put(self._tell, self._channel(Events.FINISHED), ())
            await self._waiting.until_quiet()
        except BaseException:
            # Torn in the middle of a step by a signal handler that raises: at least leave no process behind, but for
            # what a later run will find.
            self._backend.leave_calls()
            if self._backend.kills:
                self._backend.kill()
            raise
        finally:
            self._release()

    def _open(self) -> None:
        clock.hold(self)
        forks.runs.add(self)
        self._backend.attach(self._run_step, None if may_be_torn() else self._inbox.gather)
        if self.is_recorded or self.submissions.observers:
            self._backend.measure_calls()
        self._start_timeout()
        self._refresher.start()
        self.lifecycle.move_to(Phase.RUNNING)
        _log.info("run started on %r", self._backend.executor)
        self._inbox.put(self._announce_start)

    def _start_timeout(self) -> None:
        is_up = partial(self._inbox.put_own, self._count_time)
        if self._options.timeout_from == "start" or not self._backend.await_worker(is_up):
            self._count_time()

    def _count_time(self) -> None:
        if self._options.timeout is not None:
            self.deadline = self.loop.time() + self._options.timeout
            self._timeout = self.loop.call_at(self.deadline, self.end_requests.request, Code.TIMEOUT)

    def _announce_start(self) -> None:
        self._tell(self._channel(Events.STARTED), ())
        self._waiting.check_empty(due=self.lifecycle.running)

    def _announce_end(self, message: str, exception: BaseException | None) -> None:
        code = self.lifecycle.cause.code
        _log.info("run is ending: %s", message or code.name)
        try:
            if code is Code.TIMEOUT:
                self._tell(self._channel(Events.TIMEOUT), ())
            elif code is not Code.EXHAUSTED:
                self._tell(self._channel(Events.STOP), (message or STOP_MESSAGE, exception))
            self._tell(self._channel(Events.FINISHING), ())
            self.submissions.expect_end()
        finally:
            self._announced = True  # even if torn: what comes next must not wait forever

    def _release(self) -> None:
        """Release everything, however the run ended."""
        forks.runs.discard(self)
        self.lifecycle.move_to(Phase.OVER)
        self.end_requests.attempt(self.resources.close, "teardown of what plugins share")
        self.timers.clear()
        if self._timeout is not None:
            self._timeout.cancel()
        self._inbox.close()
        self.submissions.close()
        self._backend.release()
        self._refresher.stop()
        clock.release(self)
        _log.info("run is over: %s", self.lifecycle.cause.code.name)

    def _end_copy(self, text: str) -> None:
        # In a copy asyncio forgets that its loop is running; from CPython 3.14 on, no task would go on. It is set only
        # here, since a copy that never comes back, such as a worker, has no running loop.
        _compat.set_running_loop(self.loop)
        self.end_requests.fail(text, RuntimeError(text), raises=True, abandon=True)

    def _repeat(self, future: Future[Any], call: Call) -> bool:
        """Make another attempt, as a plugin requested. False if the run is ending."""
        if not self.running():
            return False
        call.attempt += 1
        future.note_attempt(future.attempt + 1)
        self.submissions.hand_over_accepted(future, *call.given)
        return True

    def _run_step(self, step: Callable[[], None]) -> None:
        """Run a step of an executor that computes on the loop's thread, after the loop has had a turn."""
        self.loop.call_soon(self._make_step, step)

    def _make_step(self, step: Callable[[], None]) -> None:
        if self._inbox:
            self._run_step(step)  # first deliver what has happened
        elif self.lifecycle.running or (self._options.wait and not self.lifecycle.abandon):
            self._delivery.call(step, (), {}, COMPUTE)
        # else the waiting calls are about to be cancelled and must not begin
