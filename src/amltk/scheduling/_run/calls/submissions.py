"""Takes the calls of one run to its executor, and cancels them."""

from __future__ import annotations

import sys
from concurrent.futures import BrokenExecutor
from concurrent.futures import Future as Work
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from amltk._notes import safe_repr
from amltk._shield import shielded
from amltk.scheduling._run.calls.admission import Admission, StandIn
from amltk.scheduling._run.dependencies import Uncomputed, error_of, has_failed, with_results
from amltk.scheduling._run.dispatch import NOTHING
from amltk.scheduling.call import Outcome
from amltk.scheduling.events import callback_name
from amltk.scheduling.future import DependentFuture, Future, RunLink
from amltk.scheduling.scheduler_events import SchedulerEvents as Events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from amltk.scheduling._admission.pools import Pools
    from amltk.scheduling._run.calls.settlement import Settlement
    from amltk.scheduling._run.context import RunContext
    from amltk.scheduling._run.dispatch import Delivery
    from amltk.scheduling._run.end_requests import EndRequests
    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Channel
    from amltk.scheduling.future import Observer


class Hold(Protocol):
    """Something that may hold a call back before the executor gets it."""

    def reason(self, future: Future[Any]) -> str | None:
        """Why it holds a call back; None if it does not. May be called from any thread."""
        ...


class Submissions:
    """Makes the future of each submission and has the executor compute it. Carries out cancellations.

    Owns the way of a call until the executor has it; from then on `PendingCalls` has the future and `Settlement` ends
    it. A call that needs the results of others is accepted and announced like any other, and goes on to the executor
    when they have ended. `submit`, `cancel` and `running_calls` may be called from any thread; everything else on the
    loop's thread.

    Args:
        context: The run.
        delivery: Tells callbacks of a submission.
        end_requests: Is notified when the executor is broken.
        settlement: Ends futures.
        observers: Called with every call that is submitted to the executor.

    Attributes:
        link: Leads from futures here.
        observers: What observes every call that is submitted to the executor.
        holds: What may hold a call back before the executor gets it, in the order in which it gets through.
    """

    def __init__(
        self,
        context: RunContext,
        delivery: Delivery,
        end_requests: EndRequests,
        settlement: Settlement,
        observers: Sequence[Observer],
    ) -> None:
        self._loop = context.loop
        self._thread = get_ident()
        self._inbox = context.inbox
        self._put_work = context.inbox.put_work
        self._backend = context.backend
        self._lifecycle = context.lifecycle
        self._pending_calls = context.pending_calls
        self._submitted = context.channel(Events.FUTURE_SUBMITTED)
        self._tell = delivery.tell
        self._end_requests = end_requests
        self._settle = settlement.settle
        self._hooks = settlement.hooks
        self._followed = settlement.followed
        self.observers: Sequence[Observer] = observers
        self.link: RunLink = RunLink(self)
        self.pools: Pools = context.pools
        self._admission = Admission(context, end_requests)
        self._dependencies = context.dependencies
        self.holds: list[Hold] = [context.dependencies, self._admission]
        self._without_futures = context.dependencies.looked_at.isdisjoint
        context.dependencies.connect(
            lambda future: self._inbox.put(self.go_on, future), on_shared=context.backend.expect_shared
        )

    def close(self) -> None:
        """Cut the references from futures that are kept to this run, which is over."""
        self.link.run = None

    def move_here(self) -> None:
        """Make this the loop's thread. Not while the loop is running."""
        self._thread = get_ident()

    @shielded
    def submit(
        self,
        task: Any,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call: Call | None = None,
    ) -> Future[Any]:
        """Accept a submission. `task` is None or its `Task`; `call` is the call as its plugins have prepared it."""
        if not self._without_futures(map(type, args)) or (
            kwargs and not self._without_futures(map(type, kwargs.values()))
        ):
            needed = self._dependencies.find(args, kwargs, self.link)
            if needed:
                dependent: DependentFuture[Any] = DependentFuture(self.link, task, fn, args, kwargs, self._loop, call)
                dependent.depend_on(needed)
                return self._submit_dependent(dependent)
        future = Future(self.link, task, fn, args, kwargs, self._loop, call)
        if get_ident() == self._thread:
            if not self._lifecycle.running:
                self._lifecycle.check_running(f"submit {callback_name(fn)}")
            self._hand_over(future, args, kwargs)
        else:
            self._lifecycle.accept(lambda: f"submit {callback_name(fn)}", lambda: self._pending_calls.wait(future))
            self._inbox.put(self.hand_over_accepted, future, args, kwargs)
        return future

    @shielded
    def cancel(self, future: Future[Any]) -> bool:
        """Carry out `Future.cancel`."""
        if not self._inbox.here():
            self._inbox.put(future.cancel)
            return True
        if future.done():
            return False  # it ended meanwhile
        work = future.work
        future.mark_cancelled()
        if self._dependencies.take(future):
            self._end_uncomputed(future)
            return True
        if self._hooks.drop(future):
            return True
        # The ending is caused by this call, it is not an input. Work that cannot be cancelled runs on; its future ends
        # anyway, and its later outcome is dropped. A submission that the executor does not have yet is dropped at its
        # turn.
        if work is not None:
            self._backend.cancel(work)
            self._inbox.put(self._settle, work)
        return True

    @shielded
    def note_waiter(self, future: Future[Any]) -> None:
        """Note that a future is awaited: what awaits it continues before the next input is handled."""
        self._followed[future] = True

    def running_calls(self) -> list[Future[Any]] | None:
        """Carry out `Scheduler.running_calls`."""
        oldest = self._pending_calls.oldest
        if self._admission.n_waiting:  # without what stands for calls that wait
            works = self._backend.running_calls(
                lambda n: [w for w in oldest(sys.maxsize) if type(w) is not StandIn][:n]
            )
        else:
            works = self._backend.running_calls(oldest)
        return None if works is None else self._pending_calls.behind(works)

    # ------------------------------------------------------------------ what a call waits for

    def explain(self, future: Future[Any]) -> str | None:
        """Why a call that has not ended is not with the executor yet; None if it is. From any thread."""
        return next((reason for hold in self.holds if (reason := hold.reason(future)) is not None), None)

    def is_running(self, work: Work[Any]) -> bool:
        """Whether a call has begun, as far as the executor knows. From any thread."""
        return self._backend.is_running(work)

    def why_waiting(self, work: Work[Any]) -> str | None:
        """Why a call in the executor does not run yet, if the executor says so. May be called from any thread."""
        return self._backend.why_waiting(work)

    @shielded
    def prioritize(self, future: Future[Any], priority: float) -> bool:
        """Carry out `Future.set_priority`."""
        if not self._inbox.here():
            self._inbox.put(self.prioritize, future, priority)
            return True
        return self._admission.prioritize(future, priority)

    def waits_for(self) -> tuple[int, dict[str, int]]:
        """How many calls wait for resources or for their turn, and how many for each pool. From any thread."""
        return self._admission.n_waiting, self._admission.waits_for()

    def expect_end(self) -> None:
        """Give up what needs more time than is left, since the run is about to end."""
        if self._admission.n_waiting:
            self._admission.go_on()

    # ------------------------------------------------------------------ to the executor

    def _obtain(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The executor's future for a call, or what stands for it while the call waits."""
        call = future.call
        if call is None:
            if not self.pools.orders_all:
                return self._backend.submit(future.function, *args, **kwargs)
        elif call.answer is not None or (call.demand is None and not self.pools.orders_all):
            return self._backend.submit_call(call)
        work = self._admission.obtain(future, args, kwargs)
        if type(work) is StandIn:
            self._inbox.put(self._tell_waiting, future)
        return work

    def _submit_dependent(self, future: DependentFuture[Any]) -> Future[Any]:
        if get_ident() == self._thread:
            self._lifecycle.check_running(f"submit {callback_name(future.function)}")
            self._accept_dependent(future)
            self._wait_for_dependencies(future)
        else:
            self._lifecycle.accept(
                lambda: f"submit {callback_name(future.function)}", lambda: self._accept_dependent(future)
            )
            self._inbox.put(self._wait_for_dependencies, future)
        return future

    def _accept_dependent(self, future: DependentFuture[Any]) -> None:
        """Accept a call that needs the results of others. Raises if it cannot be."""
        self._pending_calls.wait(future)

    def _wait_for_dependencies(self, future: DependentFuture[Any]) -> None:
        """Announce a call that was accepted, and let it go on when nothing that it needs is still to come."""
        if future.call is not None:
            future.call.future = future
        self._announce(self._submitted, future, (), NOTHING)
        if future.task is not None:
            self._announce(future.task.channels.submitted, future, future.args, future.kwargs)
        # Those whose end is being told right now, by a callback of which this may be, have their results.
        unended: list[Future[Any]] = []
        ended: list[Future[Any]] = []
        for needed in future.dependencies:
            (unended if self._pending_calls.has(needed) else ended).append(needed)
        hopeless = any(map(has_failed, ended))
        self._dependencies.hold(future, () if hopeless else unended)
        for followed in (future, *unended):
            self._followed.setdefault(followed, False)
        if hopeless or not unended or future.cancelled():
            self.go_on(future)

    def go_on(self, future: Future[Any]) -> None:
        """Have a call computed whose dependencies have ended, or end it if it cannot be."""
        if not self._dependencies.take(future):
            return  # it was cancelled meanwhile
        if future.cancelled() or self._lifecycle.abandoning:
            self._end_uncomputed(future)
        elif (error := error_of(future)) is not None:
            self._end_uncomputed(future, error)
        else:
            self.hand_over_accepted(future, future.args, future.kwargs)

    def _end_uncomputed(self, future: Future[Any], error: BaseException | None = None) -> None:
        """End a call that the executor was not given, because of an error; as cancelled if there is none.

        This is caused by the end of another call, or by a callback: it is not an input.
        """
        work = Uncomputed()
        if error is None:
            work.cancel()
        else:
            work.set_exception(error)
        self._pending_calls.enter(work, future)
        self._inbox.put(self._settle, work)
        for observer in self.observers:
            observer(future, future.args, future.kwargs)

    def _hand_over(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Submit to the executor. What that raises goes to the submitter: the submission was not accepted."""
        try:
            if future.call is None and not self.pools.orders_all:
                work = self._backend.submit(future.function, *args, **kwargs)
            else:
                work = self._obtain(future, args, kwargs)
        except BrokenExecutor as error:
            self._end_requests.executor_broke(error)
            raise
        if not hasattr(work, "add_done_callback"):
            executor = safe_repr(self._backend.executor)
            raise TypeError(f"{executor} returned {safe_repr(work)} from submit(): it must return a future")
        self._enter(work, future, args, kwargs)

    def _tell_waiting(self, future: Future[Any]) -> None:
        """Say why a call could not be handed over at once."""
        if future.task is None or not self._admission.has(future):
            return
        channel = future.task.channels.waiting
        if channel.calls:
            self._inbox.put(self._tell, channel, (future, self._admission.reason(future)), NOTHING)
        else:
            channel.count += 1  # without looking for the reason

    def hand_over_accepted(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Submit to the executor what was accepted before, so that any error becomes its outcome.

        For what another thread submitted, for what has waited for other calls, and for another attempt.
        """
        stand_in: Work[Any] = Work()
        if future.cancelled() or self._lifecycle.abandoning:
            stand_in.cancel()
        else:
            try:
                self._hand_over(future, *self._with_results(future, args, kwargs))
                return
            except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the future
                stand_in.set_exception(error)
        self._enter(stand_in, future, args, kwargs)

    @staticmethod
    def _with_results(
        future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, those that its plugins have prepared as well, with results in place of futures."""
        if not isinstance(future, DependentFuture):
            return args, kwargs
        args, kwargs = with_results(args, kwargs)
        call = future.call
        if call is not None and not future.are_results_passed:
            call.args, call.kwargs = with_results(call.args, call.kwargs)
            future.are_results_passed = True
            call.pass_results(args, kwargs)
        return args, kwargs

    def _enter(self, work: Work[Any], future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._pending_calls.enter(work, future)
        try:
            call = future.call
            if call is not None:
                call.future = future
            for observer in self.observers:
                observer(future, args, kwargs)
            if (call is None or call.attempt == 1) and not future.is_dependent:
                submitted = self._submitted
                if submitted.calls:
                    self._inbox.put(self._tell, submitted, (future,), NOTHING)
                else:
                    submitted.count += 1  # without a call of `_announce`: this is done for each task
                if future.task is not None:
                    self._announce(future.task.channels.submitted, future, args, kwargs)
            work.add_done_callback(self._put_work)
        except BaseException as error:
            # It was accepted, so it needs an ending, which nothing else will deliver.
            self._inbox.put(self._settle, work, Outcome(None, error, False))
            if not isinstance(error, Exception):
                raise

    def _announce(
        self, channel: Channel, future: Future[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if channel.calls:
            self._inbox.put(self._tell, channel, (future, *args), kwargs)
        else:
            channel.count += 1
