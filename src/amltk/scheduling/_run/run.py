"""One run, from `@start` to `@finished`. This module enforces the order of events."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures import Future as Work
from threading import get_ident
from typing import TYPE_CHECKING, Any

from amltk import _clock
from amltk._notes import add_note, safe_repr
from amltk._threads import start_daemon
from amltk.exceptions import ExecutorBrokenError, FutureCancelledError
from amltk.scheduling._loop.inbox import Inbox
from amltk.scheduling._loop.signals import may_be_torn
from amltk.scheduling._loop.timers import Timer, Timers
from amltk.scheduling._loop.turns import Turns
from amltk.scheduling._run.dispatch import NOTHING, Delivery
from amltk.scheduling._run.lifecycle import Phase, RunLifecycle
from amltk.scheduling._run.outcome_hooks import OutcomeHooks
from amltk.scheduling._run.pending_calls import PendingCalls
from amltk.scheduling._run.policy import ends_program, note_outcome
from amltk.scheduling._run.refresh import DisplayRefresher
from amltk.scheduling._run.resources import RunResources
from amltk.scheduling.call import Outcome
from amltk.scheduling.events import Event, callback_name
from amltk.scheduling.exit_state import ExitState
from amltk.scheduling.future import Future
from amltk.scheduling.scheduler_events import STOP_MESSAGE
from amltk.scheduling.scheduler_events import SchedulerEvents as Events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from amltk.scheduling._run.dispatch import DeliveryListener
    from amltk.scheduling._run.policy import RunOptions
    from amltk.scheduling._run.refresh import View
    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Channel, Emitter
    from amltk.scheduling.executors.adapter import ExecutorAdapter
    from amltk.scheduling.future import Observer

_log = logging.getLogger(__name__)

Code = ExitState.Code

KILLING_SECONDS = 2.0
"""How long an executor that really kills may take to do so, even if a user insists: giving up half-way would leave
processes behind."""

COMPUTE: Event[[], Any] = Event("compute")
"""The event name, in messages, for a step of an executor that computes on the loop's thread."""


_going_on: weakref.WeakSet[Run] = weakref.WeakSet()


def _note_fork() -> None:
    for run in list(_going_on):
        run.note_fork()


os.register_at_fork(after_in_child=_note_fork)


class Run:
    """One run of a scheduler, on the loop that is running when it is created.

    Everything that happens goes through the inbox, so that all bookkeeping and all callbacks run on the loop's thread,
    one at a time, in the order in which things happened. An ending is atomic: its events (of the scheduler, then of the
    task), the reaction of the policy, and `@empty` if it was the last one, are never interleaved with others.

    Args:
        emitter: The emitter of the scheduler's events.
        backend: The executor and how to terminate it.
        options: The user's options.
        view: The view that shows the run, or None.
        numbers: The numbers for its submissions.
        observers: Called with every call that is submitted to the executor.

    Attributes:
        pending_calls: The submissions that have not ended.
        lifecycle: The phase of the run, and why it ends.
        loop: The loop on whose thread everything is delivered.
        resources: What plugins share during this run.
        callback_exceptions: How many exceptions callbacks and plugins have raised.
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
    ) -> None:
        self.pending_calls: PendingCalls = PendingCalls(numbers)
        self.lifecycle: RunLifecycle = RunLifecycle(self.pending_calls)
        self.resources: RunResources = RunResources()
        self._backend = backend
        self._options = options
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        loop = self.loop
        self._thread = get_ident()
        self._refresher = DisplayRefresher(loop, view)
        self._observers = observers
        self._turns = turns = Turns()
        self._awaited: set[Future[Any]] = set()  # futures that are being awaited
        self._inbox = inbox = Inbox(loop, turns, on_work=self._settle, on_idle=self._idle, on_crash=self._crashed)
        self._put_work = inbox.put_work
        self._delivery = Delivery(
            loop,
            turns,
            on_error=self._callback_failed,
            on_coroutine_end=lambda task: inbox.put(self._coroutine_ended, task),
        )
        self._tell = self._delivery.tell
        self._outcome_hooks = OutcomeHooks(
            loop,
            inbox,
            conclude=self._conclude_reviewed,
            repeat=self._repeat,
            on_error=self._callback_failed,
        )
        self._timers = Timers(loop, inbox, self._delivery.call)
        self._deadline: float | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._waiter: tuple[Callable[[], bool], asyncio.Future[None]] | None = None  # what `live` waits for
        self._empty_due = True  # @empty was not emitted since the last submission
        self._announced = False  # @finishing was delivered
        self._ends_calls = False  # from now on a lost worker is due to the end of this run
        self._signalled: BaseException | None = None  # what a signal handler has raised in user code
        self._abandoning = False  # the run itself cancels and kills now: policies do not apply
        self.callback_exceptions: int = 0
        self._interrupts = 0
        self._cancellations = 0
        self._channel = emitter.channel
        self._submitted = emitter.channel(Events.FUTURE_SUBMITTED)
        self._done = emitter.channel(Events.FUTURE_DONE)
        self._result = emitter.channel(Events.FUTURE_RESULT)

    # ------------------------------------------------------------------ requests of users, from any thread

    @property
    def in_user_code(self) -> bool:
        """Whether a callback is running right now."""
        return self._delivery.in_user_code

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted from outside, so that it raises."""
        return self.n_interruptions > 0

    @property
    def n_interruptions(self) -> int:
        """How many times it was interrupted."""
        return self._interrupts + self._cancellations

    def is_here(self) -> bool:
        """Whether the caller is on the loop's thread."""
        return self._inbox.here()

    def running(self) -> bool:
        """Whether work is accepted: from `@start` until the end is requested or the timeout is reached."""
        if self._deadline is not None and self.lifecycle.running and self.loop.time() >= self._deadline:
            # A callback that loops while this is true must see the timeout, although the loop's own timer gets no turn;
            # and because it then stops submitting, the run must not end as exhausted.
            self._end(Code.TIMEOUT)
        return self.lifecycle.running

    def conclude(self) -> ExitState:
        """The return value of the run; raises what is to be raised. Call once."""
        lifecycle = self.drop_exception()
        state = ExitState(
            lifecycle.code,
            lifecycle.exception,
            self.pending_calls.exceptions,
            self.callback_exceptions,
            reason=lifecycle.message,
        )
        if lifecycle.raises and lifecycle.exception is not None:
            try:
                raise lifecycle.exception
            finally:
                del lifecycle, state  # the traceback of what is raised refers to this frame
        return state

    def drop_exception(self) -> RunLifecycle:
        """Drop the exception, since much refers to a run. Return how the run ended."""
        lifecycle, self.lifecycle = self.lifecycle, self.lifecycle.without_exception()
        return lifecycle

    def running_calls(self) -> list[Future[Any]] | None:
        """Carry out `Scheduler.running_calls`."""
        works = self._backend.running_calls(self.pending_calls.oldest)
        return None if works is None else self.pending_calls.behind(works)

    def submit(
        self,
        task: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call: Call | None = None,
    ) -> Future[Any]:
        """Accept a submission. `task` is None or its `Task`; `call` is the call as its plugins have prepared it."""
        future = Future(self, task, fn, args, kwargs, self.loop, call)
        if get_ident() == self._thread:
            if not self.lifecycle.running:
                self.lifecycle.check_running(f"submit {callback_name(fn)}")
            self._hand_over(future, args, kwargs)
        else:
            self.lifecycle.accept(lambda: f"submit {callback_name(fn)}", lambda: self.pending_calls.wait(future))
            self._inbox.put(self._hand_over_accepted, future, args, kwargs)
        return future

    def cancel(self, future: Future[Any]) -> bool:
        """Carry out `Future.cancel`."""
        if not self._inbox.here():
            self._inbox.put(future.cancel)
            return True
        if future.done():
            return False  # it ended meanwhile
        work = future.work
        future.mark_cancelled()
        if self._outcome_hooks.drop(future):
            return True
        # The ending is caused by this call, it is not an input. Work that cannot be cancelled runs on; its future ends
        # anyway, and its later outcome is dropped. A submission that the executor does not have yet is dropped at its
        # turn.
        if work is not None:
            self._backend.cancel(work)
            self._inbox.put(self._settle, work)
        return True

    def note_waiter(self, future: Future[Any]) -> None:
        """Note that a future is awaited: what awaits it continues before the next input is handled."""
        self._awaited.add(future)

    def call_later(self, delay: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timer:
        """Call `fn` on the loop's thread after `delay` seconds, unless the run is over by then."""
        if not self.lifecycle.running:
            self.lifecycle.check_running(f"call {callback_name(fn)} later")
        return self._timers.later(delay, fn, args, kwargs)

    def dispatch(self, channel: Channel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Deliver an event after everything that happened before it."""
        # When a user insists on the end, callbacks may be emitting without end.
        if not self._insisted():
            # Events that callbacks cause are delivered before the end is announced, unless they never stop causing
            # more.
            put = self._inbox.put if self.lifecycle.running or self._announced else self._inbox.put_input
            put(self._tell, channel, args, kwargs)

    def deliver(
        self, channel: Channel, args: tuple[Any, ...], follower: DeliveryListener, *, at_once: bool = False
    ) -> None:
        """Like `dispatch`, for a plugin that follows the delivery.

        Args:
            channel: The event.
            args: The arguments of its callbacks.
            follower: Called as the delivery proceeds, but not once the run was interrupted twice.
            at_once: Return when the callbacks have returned. For compute on the loop's own thread.
        """
        if self._insisted():
            return
        if at_once:
            in_user_code = self._delivery.in_user_code
            self._inbox.put_and_wait(self._tell, channel, args, NOTHING, follower)
            self._delivery.in_user_code = in_user_code  # back to that of the compute
        else:
            self._inbox.put_input(self._tell, channel, args, NOTHING, follower)

    def report(self, error: BaseException, where: str) -> None:
        """Carry out `Scheduler.report`."""
        self._inbox.run_here(self._callback_failed, error, where)

    def stop(self, message: str, exception: BaseException | None) -> None:
        """Carry out `Scheduler.stop`."""
        if exception is None:
            self._end(Code.STOPPED, message)
        elif not self._fail(
            message,
            exception,
            raises=ends_program(exception) or self._options.on_exception.decide(exception) == "raise",
            abandon=ends_program(exception),
        ):
            _log.error("stop() was called with an exception while the run was ending", exc_info=exception)

    def leave(self, why: str) -> None:
        """End without waiting for compute: the code that drove the run is gone."""
        self._end(Code.STOPPED, why, abandon=True)

    def move_here(self) -> None:
        """Move the run to this thread, which drives the loop from now on. Not while the loop is running."""
        self._thread = get_ident()
        self._inbox.move_here()

    def is_ending(self) -> bool:
        """Whether the end was requested."""
        return self.lifecycle.phase in {Phase.FINISHING, Phase.OVER}

    def is_over(self) -> bool:
        """Whether everything was delivered."""
        return self.lifecycle.phase is Phase.OVER

    def interrupt(self, exception: BaseException) -> None:
        """End at once, because of a signal or a cancellation; from the second time on, without waiting for anything."""
        if isinstance(exception, asyncio.CancelledError):
            self._cancellations += 1
        else:
            self._interrupts += 1
            self._ends_calls = True  # a terminal sends Ctrl-C to the workers as well
        self._fail(f"interrupted by {safe_repr(exception)}", exception, raises=True, abandon=True)

    def _insisted(self) -> bool:
        """Whether the run was interrupted a second time.

        One Ctrl-C may both reach the run and cancel the task that awaits it, so signals and cancellations are counted
        separately.
        """
        return max(self._interrupts, self._cancellations) > 1

    def interrupt_from_signal(self, exception: BaseException) -> None:
        """Like `interrupt`, from a signal handler: takes no lock."""
        self._inbox.put_first(self.interrupt, exception)

    def raise_from_signal(self, exception: BaseException) -> None:
        """Note that a signal handler is about to raise this in user code: in a callback, or in compute on the loop."""
        self._signalled = exception

    def _end(
        self, code: ExitState.Code, message: str = "", exception: BaseException | None = None, *, abandon: bool = False
    ) -> None:
        if self.lifecycle.request(code, message, abandon=abandon):
            self._inbox.put_and_wake(self._announce_end, message, exception)
        else:
            self._inbox.wake()  # `live` may wait for less now; an input would count as a delivery

    def _fail(self, message: str, error: BaseException, *, raises: bool, abandon: bool = False) -> bool:
        """End because of an error. False if the error was not kept because there is an earlier one."""
        kept = self.lifecycle.keep(error, raises=raises)
        self._end(Code.EXCEPTION, message, error, abandon=abandon)
        return kept

    # ------------------------------------------------------------------ life

    async def live(self) -> None:
        """Go from `@start` to `@finished`. Must not be cancelled: `interrupt` ends it early and cleanly."""
        try:
            self._open()
            await self._until(lambda: self._announced)
            await self._close_down()
            self._delivery.accept_coroutines()
            self._inbox.put(self._tell, self._channel(Events.FINISHED), ())
            await self._until_quiet()
        except BaseException:
            # Torn in the middle of a step by a signal handler that raises: at least leave no process behind.
            if self._backend.kills:
                self._backend.kill()
            raise
        finally:
            self._release()

    def note_fork(self) -> None:
        """End the run in a forked copy of the process, if a callback that forked returns there: nothing is computed."""
        text = (
            f"this process, {os.getpid()}, was forked during a run, which goes on in process {os.getppid()} only: "
            "end it by os._exit() before the callback returns, or start it by multiprocessing"
        )
        self._inbox.put_first(self._end_copy, text)

    def _end_copy(self, text: str) -> None:
        # In a copy asyncio forgets that its loop is running; from CPython 3.14 on, no task would go on. It is set only
        # here, since a copy that never comes back, such as a worker, has no running loop.
        asyncio._set_running_loop(self.loop)
        self._fail(text, RuntimeError(text), raises=True, abandon=True)

    def _open(self) -> None:
        _clock.hold(self)
        _going_on.add(self)
        self._backend.attach(self._run_step, None if may_be_torn() else self._inbox.gather)
        if self._options.timeout is not None:
            self._deadline = self.loop.time() + self._options.timeout
            self._timeout = self.loop.call_at(self._deadline, self._end, Code.TIMEOUT)
        self._refresher.start()
        self.lifecycle.move_to(Phase.RUNNING)
        _log.info("run started on %r", self._backend.executor)
        self._inbox.put(self._announce_start)

    def _announce_start(self) -> None:
        self._tell(self._channel(Events.STARTED), ())
        self._check_empty(due=self.lifecycle.running)

    def _announce_end(self, message: str, exception: BaseException | None) -> None:
        code = self.lifecycle.code
        _log.info("run is ending: %s", message or code.name)
        try:
            if code is Code.TIMEOUT:
                self._tell(self._channel(Events.TIMEOUT), ())
            elif code is not Code.EXHAUSTED:
                self._tell(self._channel(Events.STOP), (message or STOP_MESSAGE, exception))
            self._tell(self._channel(Events.FINISHING), ())
        finally:
            self._announced = True  # even if torn: what comes next must not wait forever

    async def _close_down(self) -> None:
        """Bring every submission to its end, then the executor."""
        if self._options.wait:
            self._backend.expect_end()
            await self._until(lambda: self._quiet() or self.lifecycle.abandon)
            if not self.lifecycle.abandon:
                await self._in_thread(self._backend.close, unless=lambda: self.lifecycle.abandon)
                # Timers may have begun coroutines meanwhile.
                await self._until(lambda: self._quiet() or self.lifecycle.abandon)
        if not self._options.wait or self.lifecycle.abandon:
            await self._abandon_compute()

    async def _abandon_compute(self) -> None:
        """Cancel what has not begun, kill what runs if possible, and write off the rest."""
        self._abandoning = True
        self._outcome_hooks.drop_all()
        # A broken executor fails its futures without help, and must not be disturbed: before CPython 3.12.3 a future
        # that is cancelled at that moment raises in the standard library's thread, which then fails no other.
        is_broken = isinstance(self.lifecycle.exception, ExecutorBrokenError)
        if not is_broken:
            self._inbox.put_input(self._begin_to_end_calls)  # what ended before this is delivered with its real outcome
        for n, future in enumerate(() if is_broken else self.pending_calls):
            if future.work is not None:
                self._backend.withdraw(future.work)
            if n % 1000 == 0:
                await self._uncancelled(asyncio.sleep(0))
        patience_until = self.loop.time() + (KILLING_SECONDS if self._backend.kills else 0.0)
        await self._in_thread(
            self._backend.end_calls, unless=lambda: self._insisted() and self.loop.time() >= patience_until
        )
        self._write_off()
        self._delivery.cancel_coroutines()
        await self._until_quiet()

    def _begin_to_end_calls(self) -> None:
        self._ends_calls = True

    def _write_off(self) -> None:
        """End everything that is still pending as cancelled, whatever its outcome may be."""
        left = 0
        for future in self.pending_calls:
            work = future.work
            if work is not None:
                left += self._backend.is_running(work)
                self._inbox.put_work(work)  # in case it never reports an end
            future.cancel()
        if left and self._backend.is_own:
            calls = "1 running call" if left == 1 else f"{left} running calls"
            _log.warning("%s cannot be killed in %r: what runs goes on unseen", calls, self._backend.executor)

    def _release(self) -> None:
        """Release everything, however the run ended."""
        _going_on.discard(self)
        self.lifecycle.move_to(Phase.OVER)
        self._attempt(self.resources.close, "teardown of what plugins share")
        self._timers.clear()
        if self._timeout is not None:
            self._timeout.cancel()
        self._inbox.close()
        self._backend.release()
        self._refresher.stop()
        _clock.release(self)
        _log.info("run is over: %s", self.lifecycle.code.name)

    # ------------------------------------------------------------------ submissions, on the loop's thread

    def _hand_over(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Submit to the executor. What that raises goes to the submitter: the submission was not accepted."""
        try:
            if future.call is None:
                work = self._backend.submit(future.function, *args, **kwargs)
            else:
                work = self._backend.submit_call(future.call)
        except BrokenExecutor as error:
            self._executor_broke(error)
            raise
        if not hasattr(work, "add_done_callback"):
            executor = safe_repr(self._backend.executor)
            raise TypeError(f"{executor} returned {safe_repr(work)} from submit(): it must return a future")
        self._enter(work, future, args, kwargs)

    def _hand_over_accepted(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Submit what another thread submitted to the executor. It was accepted, so any error becomes its outcome."""
        stand_in: Work[Any] = Work()
        if future.cancelled() or self._abandoning:
            stand_in.cancel()
        else:
            try:
                self._hand_over(future, args, kwargs)
                return
            except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the future
                stand_in.set_exception(error)
        self._enter(stand_in, future, args, kwargs)

    def _enter(self, work: Work[Any], future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.pending_calls.enter(work, future)
        self._empty_due = True
        try:
            call = future.call
            if call is not None:
                call.future = future
            for observer in self._observers:
                observer(future, args, kwargs)
            if call is None or call.attempt == 1:
                self._announce(self._submitted, future, (), NOTHING)
                if future.task is not None:
                    self._announce(future.task.channels.submitted, future, args, kwargs)
            work.add_done_callback(self._put_work)
        except BaseException as error:
            # It was accepted, so it needs an ending, which nothing else will deliver.
            self._inbox.put(self._settle, work, error)
            if not isinstance(error, Exception):
                raise

    def _announce(
        self, channel: Channel, future: Future[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if channel.calls:
            self._inbox.put(self._tell, channel, (future, *args), kwargs)
        else:
            channel.count += 1

    # ------------------------------------------------------------------ endings, on the loop's thread

    def _settle(self, work: Work[Any], error: BaseException | None = None) -> None:
        """Turn the end of a piece of compute into the single ending of its future. Drop it if the future has ended.

        Args:
            work: The executor's future.
            error: Why its outcome is unavailable; None if `work` has it.
        """
        future = self.pending_calls.settle(work)
        if future is None:
            return
        result: Any = None
        if error is None and not future.cancelled():
            try:
                error = work.exception()
                result = None if error is not None else work.result()
            except CancelledError:
                future.mark_cancelled()
            except BaseException as failure:  # noqa: BLE001 - the executor cannot give an outcome: this is it
                error = failure
        if error is not None and self._is_of_the_end(error):
            error = None
            future.mark_cancelled()
        if future.call is None:
            self._conclude(future, result, error)
        else:
            self._outcome_hooks.ask(future, future.call, Outcome(result, error, future.cancelled()))
            if self._abandoning or future.cancelled():
                self._outcome_hooks.drop(future)

    def _is_of_the_end(self, error: BaseException) -> bool:
        """Whether a call ended with this because the run ends: it is then delivered as cancelled, not as failed."""
        if self._backend.is_in_loop and (error is self._signalled or isinstance(error, KeyboardInterrupt)):
            self._callback_failed(error, "signal that came in a call")  # only the compute could have been interrupted
            return True
        return self._ends_calls and self._backend.may_have_ended_with(error)

    def _conclude(self, future: Future[Any], result: Any, error: BaseException | None) -> None:
        """Deliver the ending of a future."""
        was_running = self.lifecycle.running
        if self._awaited and future in self._awaited:
            self._awaited.remove(future)
            self._turns.expect_steps()
        if future.cancelled():
            self._settle_cancelled(future)
        elif error is None:
            self._settle_result(future, result)
        else:
            self._settle_exception(future, error)
        if future.call is not None:
            self._attempt(future.call.end, f"teardown of a plugin of {future.task.name}")
            future.call = None  # a reference cycle: must not wait for the garbage collector
        future.work = None
        if not self.pending_calls:
            self._check_empty(due=was_running)

    def _settle_result(self, future: Future[Any], result: Any) -> None:
        self.pending_calls.results += 1
        future.succeed(result)
        self._tell_outcome(self._done, self._result, future, result)
        if future.task is not None:
            channels = future.task.channels
            self._tell_outcome(channels.done, channels.result, future, result)

    def _settle_exception(self, future: Future[Any], error: BaseException) -> None:
        self.pending_calls.exceptions += 1
        if not isinstance(error, Exception):
            note_outcome(error)
        future.fail(error)
        traceback = error.__traceback__
        self._tell_outcome(self._done, self._channel(Events.FUTURE_EXCEPTION), future, error)
        if future.task is not None:
            channels = future.task.channels
            self._tell_outcome(channels.done, channels.exception, future, error)
        if error is not self.lifecycle.exception:
            # Callbacks that called `result` have added frames to the traceback, and enclosing frames refer to the
            # future: it would have to wait for the garbage collector.
            error.__traceback__ = traceback
        if self._abandoning:
            return  # it was killed, or is not waited for
        if isinstance(error, BrokenExecutor):
            self._executor_broke(error)
        reaction = self._options.on_exception.decide(error)
        if reaction != "continue":
            # Not logged if an earlier exception is kept: the events have delivered it.
            label = future.label
            add_note(error, f"raised by the call {label}")
            self._fail(f"{label} raised {safe_repr(error)}", error, raises=reaction == "raise")

    def _tell_outcome(self, done: Channel, outcome: Channel, future: Future[Any], value: Any) -> None:
        """Deliver that the future ended, and then its outcome; usually one of the two has no subscriber."""
        if done.calls:
            self._tell(done, (future,))
        else:
            done.count += 1
        if outcome.calls:
            self._tell(outcome, (future, value))
        else:
            outcome.count += 1

    def _settle_cancelled(self, future: Future[Any]) -> None:
        self.pending_calls.cancelled += 1
        self._tell(self._channel(Events.FUTURE_CANCELLED), (future,))
        if future.task is not None:
            self._tell(future.task.channels.cancelled, (future,))
        reaction = self._options.on_cancelled
        if reaction != "continue" and not self._abandoning:
            message = f"the call {future.label} was cancelled, and on_cancelled is {reaction!r}"
            error = FutureCancelledError(message)
            self.lifecycle.keep(error, raises=reaction == "raise")
            self._end(Code.CANCELLED, message, error)

    def _conclude_reviewed(self, future: Future[Any], outcome: Outcome) -> None:
        self.pending_calls.conclude(future)
        self._conclude(future, outcome.result, outcome.error)

    def _repeat(self, future: Future[Any], call: Call) -> bool:
        """Make another attempt, as a plugin requested. False if the run is ending."""
        if not self.running():
            return False
        call.attempt += 1
        self._hand_over_accepted(future, *call.given)
        return True

    # ------------------------------------------------------------------ errors

    def _attempt(self, step: Callable[[], object], where: str) -> None:
        """Call a plugin; what it raises goes to the policy."""
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - reported to the policy
            self._callback_failed(error, where)

    def _callback_failed(self, error: BaseException, where: str) -> None:
        if error is self.lifecycle.exception:
            return  # it also escaped from the loop, or was given to stop()
        self.callback_exceptions += 1
        abandon = ends_program(error)
        if abandon and isinstance(error, KeyboardInterrupt):
            self._interrupts += 1  # Ctrl-C during a callback
        self._ends_calls = self._ends_calls or abandon
        reaction = "raise" if abandon else self._options.on_callback_exception.decide(error)
        if reaction == "continue":
            _log.error("%s raised, and the run goes on", where, exc_info=error)
            return
        add_note(error, f"raised by the {where}")
        message = f"the {where} raised {safe_repr(error)}"
        if not self._fail(message, error, raises=reaction == "raise", abandon=abandon):
            _log.error("%s raised while the run was ending", where, exc_info=error)

    def _executor_broke(self, error: BrokenExecutor) -> None:
        """End the run under any policy: a broken executor would fail everything that is submitted."""
        known = isinstance(self.lifecycle.exception, ExecutorBrokenError)
        if self._backend.is_broken() and not self._abandoning and not known:
            executor = safe_repr(self._backend.executor)
            broken = ExecutorBrokenError(f"{executor} is broken and computes nothing any more: {error}")
            broken.__cause__ = error
            self._fail(str(broken), broken, raises=True, abandon=True)

    def _crashed(self, error: BaseException) -> None:
        """End instead of hanging: a step of the run itself was torn by a user's signal handler or by a defect."""
        self._fail(f"the run was torn down by {safe_repr(error)}", error, raises=True, abandon=True)

    # ------------------------------------------------------------------ quiet

    def _quiet(self) -> bool:
        """Whether nothing is in progress: no submission, no coroutine of a callback, nothing to deliver."""
        return not self.pending_calls and not self._delivery.awaiting and not self._inbox

    async def _until_quiet(self) -> None:
        """Wait until nothing is in progress. Another interrupt gives up coroutines of callbacks that refuse to end."""
        interruptions = self.n_interruptions
        await self._until(
            lambda: (
                self._quiet() or (self.n_interruptions > interruptions and not self.pending_calls and not self._inbox)
            )
        )
        self._delivery.give_up()

    def _check_empty(self, *, due: bool) -> None:
        """Emit `@empty` if the last thing in progress has just ended. `due`: it ended before the end was requested."""
        if due and self._empty_due and not self.pending_calls and not self._delivery.awaiting:
            self._empty_due = False
            self._tell(self._channel(Events.EMPTY), ())

    def _coroutine_ended(self, task: asyncio.Task[Any]) -> None:
        was_running = self.lifecycle.running
        self._delivery.finish(task)
        self._check_empty(due=was_running)

    def _idle(self) -> None:
        """Called when everything that has happened so far was delivered."""
        if self.lifecycle.running and self._options.end_on_empty and self._quiet():
            self._end(Code.EXHAUSTED)
        self._wake_waiter()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            waiter = self.loop.create_future()
            self._waiter = condition, waiter
            await self._uncancelled(waiter)

    async def _uncancelled(self, awaitable: Awaitable[None]) -> None:
        """Await `awaitable`. Cancelling the task of the run, such as by cancelling all tasks, ends the run cleanly.

        This does not count as an interrupt: cancelling all tasks also cancels the task that awaits the run.
        """
        try:
            await awaitable
        except asyncio.CancelledError as error:
            self._fail(f"interrupted by {safe_repr(error)}", error, raises=True, abandon=True)

    def _wake_waiter(self) -> None:
        if self._waiter is not None:
            condition, waiter = self._waiter
            if not waiter.done() and condition():  # checked here: waking `live` takes longer
                waiter.set_result(None)

    # ------------------------------------------------------------------ steps elsewhere

    def _run_step(self, step: Callable[[], None]) -> None:
        """Run a step of an executor that computes on the loop's thread, after the loop has had a turn."""
        self.loop.call_soon(self._make_step, step)

    def _make_step(self, step: Callable[[], None]) -> None:
        if self._inbox:
            self._run_step(step)  # first deliver what has happened
        elif self.lifecycle.running or (self._options.wait and not self.lifecycle.abandon):
            self._delivery.call(step, (), {}, COMPUTE)
        # else the waiting calls are about to be cancelled and must not begin

    async def _in_thread(self, fn: Callable[[], None], *, unless: Callable[[], bool]) -> None:
        """Call a function that may block without blocking the loop; stop waiting for it once `unless` is true."""
        ended = False

        def note_end() -> None:
            nonlocal ended
            ended = True
            self._wake_waiter()

        def work() -> None:
            try:
                fn()
            except BaseException as error:  # noqa: BLE001 - reported to the policy
                self._inbox.put(self._callback_failed, error, f"termination of {safe_repr(self._backend.executor)}")
            finally:
                # Through the inbox: what ended before this is delivered with its real outcome before the rest is
                # written off.
                self._inbox.put(note_end)

        thread = start_daemon(work, "amltk-shutdown")
        if thread is None:
            work()  # rather block the loop than leave processes behind
        await self._until(lambda: ended or unless())
        if ended and thread is not None:
            thread.join()
