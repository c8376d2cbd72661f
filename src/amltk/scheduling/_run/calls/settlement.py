"""Ends the futures of one run: each exactly once, with its events and the reaction of the policies."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING, Any

from amltk._notes import field, set_field
from amltk.exceptions import FutureCancelledError
from amltk.scheduling._run.calls.outcome_hooks import OutcomeHooks
from amltk.scheduling._run.dependencies import Uncomputed
from amltk.scheduling._run.policy import note_outcome
from amltk.scheduling.call import Outcome
from amltk.scheduling.exit_state import ExitState
from amltk.scheduling.scheduler_events import SchedulerEvents as Events

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future as Work

    from amltk.scheduling._run.context import RunContext
    from amltk.scheduling._run.dispatch import Delivery
    from amltk.scheduling._run.end_requests import EndRequests
    from amltk.scheduling._run.waiting import Waiting
    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Channel
    from amltk.scheduling.future import Future


class Settlement:
    """Turns the end of a piece of compute into the ending of its future. On the loop's thread.

    Owns the way of an outcome from the executor to the callbacks. An ending is atomic: its events (of the scheduler,
    then of the task), the reaction of the policy, and `@empty` if it was the last one, are never interleaved with
    others.

    Args:
        context: The run.
        delivery: Tells callbacks of an ending.
        end_requests: Ends the run if a policy says so.
        waiting: Emits `@empty`.
        repeat: Makes another attempt at a call if a plugin wants one; returns whether it did.

    Attributes:
        hooks: The reviews by plugins, and the futures that they hold back.
        followed: The futures of which something waits for the end: for each, whether a coroutine does. Others are
            those that calls depend on, and the calls that do.
    """

    def __init__(
        self,
        context: RunContext,
        delivery: Delivery,
        end_requests: EndRequests,
        waiting: Waiting,
        repeat: Callable[[Future[Any], Call], bool],
    ) -> None:
        self._turns = context.turns
        self._inbox = context.inbox
        self._backend = context.backend
        self._is_in_loop = context.backend.is_in_loop
        self._options = context.options
        self._lifecycle = context.lifecycle
        self._pending_calls = context.pending_calls
        self._dependencies = context.dependencies
        self._channel = context.channel
        self._done = context.channel(Events.FUTURE_DONE)
        self._result = context.channel(Events.FUTURE_RESULT)
        self._tell = delivery.tell
        self._end_requests = end_requests
        self._waiting = waiting
        self.followed: dict[Future[Any], bool] = {}
        self.hooks: OutcomeHooks = OutcomeHooks(
            context.loop,
            context.inbox,
            conclude=self.conclude_reviewed,
            repeat=repeat,
            on_error=end_requests.callback_failed,
        )

    def settle(self, work: Work[Any], outcome: Outcome | None = None) -> None:
        """Turn the end of a piece of compute into the single ending of its future. Drop it if the future has ended.

        Args:
            work: The executor's future.
            outcome: Its outcome; None to take that of `work`.
        """
        future = self._pending_calls.settle(work)
        if future is None:
            return
        result: Any = None
        error: BaseException | None = None
        if outcome is not None:
            result, error, cancelled = outcome
            if cancelled and not future.cancelled():
                future.mark_cancelled()
        elif not future.cancelled():
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
        elif self.hooks.ask(future, future.call, Outcome(result, error, future.cancelled())) and (
            self._lifecycle.abandoning or future.cancelled()
        ):
            self.hooks.drop(future)

    def _is_of_the_end(self, error: BaseException) -> bool:
        """Whether a call ended with this because the run ends: it is then delivered as cancelled, not as failed."""
        requests = self._end_requests
        if self._is_in_loop and (error is requests.signalled or isinstance(error, KeyboardInterrupt)):
            requests.callback_failed(error, "signal that came in a call")  # only the compute could be interrupted
            return True
        return requests.explains_losses and self._backend.may_have_ended_with(error)

    def conclude_reviewed(self, future: Future[Any], outcome: Outcome) -> None:
        """Deliver the ending of a future that plugins have reviewed."""
        self._pending_calls.conclude(future)
        self._conclude(future, outcome.result, outcome.error)

    def _conclude(self, future: Future[Any], result: Any, error: BaseException | None) -> None:
        """Deliver the ending of a future."""
        was_running = self._lifecycle.running
        if self.followed:
            self.note_end(future)
        if future.cancelled():
            self._end_cancelled(future)
        elif error is None:
            self._end_with_result(future, result)
        else:
            self._end_with_exception(future, error)
        if future.call is not None:
            self._end_requests.attempt(future.call.end, f"teardown of a plugin of {future.task.name}")
            future.call = None  # a reference cycle: must not wait for the garbage collector
        future.work = None
        if not self._pending_calls:
            self._waiting.check_empty(due=was_running)

    def note_end(self, future: Future[Any]) -> None:
        """Have what waits for this end go on, if anything does, once callbacks know it."""
        if future not in self.followed:
            return
        if self.followed.pop(future):
            self._turns.expect_steps()
        if future.is_dependent or self._dependencies.are_on(future):
            self._inbox.put(self._dependencies.note_end, future)

    def _end_with_result(self, future: Future[Any], result: Any) -> None:
        self._pending_calls.results += 1
        future.succeed(result)
        self._tell_outcome(self._done, self._result, future, result)
        if future.task is not None:
            channels = future.task.channels
            self._tell_outcome(channels.done, channels.result, future, result)

    def _end_with_exception(self, future: Future[Any], error: BaseException) -> None:
        self._pending_calls.exceptions += 1
        if not isinstance(error, Exception):
            note_outcome(error)
        future.fail(error)
        traceback = field(error, "__traceback__")
        self._tell_outcome(self._done, self._channel(Events.FUTURE_EXCEPTION), future, error)
        if future.task is not None:
            channels = future.task.channels
            self._tell_outcome(channels.done, channels.exception, future, error)
        if error is not self._lifecycle.cause.exception:
            # Callbacks that called `result` have added frames to the traceback, and enclosing frames refer to the
            # future: it would have to wait for the garbage collector.
            set_field(error, "__traceback__", traceback)
        if self._lifecycle.abandoning:
            return  # it was killed, or is not waited for
        if isinstance(error, BrokenExecutor):
            self._end_requests.executor_broke(error)
        policy = self._options.on_exception
        reaction = policy.decide_again(error) if type(future.work) is Uncomputed else policy.decide(error)
        if reaction != "continue":
            # Not logged if an earlier exception is kept: the events have delivered it.
            self._end_requests.call_failed(error, future.label, raises=reaction == "raise")

    def _end_cancelled(self, future: Future[Any]) -> None:
        self._pending_calls.cancelled += 1
        self._tell(self._channel(Events.FUTURE_CANCELLED), (future,))
        if future.task is not None:
            self._tell(future.task.channels.cancelled, (future,))
        reaction = self._options.on_cancelled
        if reaction != "continue" and not self._lifecycle.abandoning and not self._is_untimely(future):
            message = f"the call {future.label} was cancelled, and on_cancelled is {reaction!r}"
            error = FutureCancelledError(message)
            self._lifecycle.keep(error, raises=reaction == "raise")
            self._end_requests.request(ExitState.Code.CANCELLED, message, error)

    def _is_untimely(self, future: Future[Any]) -> bool:
        """Whether the end of the run has cancelled it, since it needs more time than was left."""
        call = future.call
        return self._lifecycle.is_ending and call is not None and call.demand is not None and call.demand.needs_time > 0

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
