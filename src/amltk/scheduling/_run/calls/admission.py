"""Where calls wait for resources and for their turn, in front of the executor."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from concurrent.futures import Future as Work
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from amltk._notes import safe_repr
from amltk.scheduling._admission.amounts import UNIT, amount_of
from amltk.scheduling._admission.choice import Choice
from amltk.scheduling._admission.cluster import Cluster, ClusterPool
from amltk.scheduling._admission.demand import has_ids
from amltk.scheduling._admission.pools import GPU
from amltk.scheduling._admission.shapes import Waiting
from amltk.scheduling.call import next_number
from amltk.scheduling.executors.allowance import Allowance
from amltk.scheduling.executors.light_future import Answer
from amltk.scheduling.executors.process_pool.binding import Binding
from amltk.scheduling.executors.process_pool.limits import CallLimits
from amltk.scheduling.executors.registry import workers_of
from amltk.scheduling.exit_state import ExitState

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._admission.demand import Demand, Needs
    from amltk.scheduling._admission.pools import Grant, Pools
    from amltk.scheduling._run.context import RunContext
    from amltk.scheduling._run.end_requests import EndRequests
    from amltk.scheduling.future import Future

CPU = "cpu"
"""The pool whose amounts are numbers of threads."""

MEMORY = "memory"
"""The pool whose amounts are bytes."""


class Submission(NamedTuple):
    """What is submitted to the executor when it is a call's turn."""

    future: Future[Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    needs: Needs


class StandIn(Answer):
    """Stands for the executor's future of a call that waits.

    Args:
        waiting: The call.
        withdraw: Called when it is cancelled.
    """

    def __init__(self, waiting: Waiting, withdraw: Callable[[Waiting], None]) -> None:
        super().__init__()
        self.waiting: Waiting = waiting
        self._withdraw = withdraw

    def cancel(self) -> bool:
        """Cancel the call: it never begins."""
        self._withdraw(self.waiting)
        return super().cancel()


class Admission:
    """Has the executor compute a call when what it asks for is granted and it is its turn.

    Owns the calls that wait, and what those that do not wait any more were granted, until their work has ended. On the
    loop's thread, except where a method says otherwise.

    What a call was granted is given back when its work has really ended: if a running call is cancelled, when its
    worker is gone; if it cannot be ended, when it ends by itself.

    Args:
        context: The run.
        end_requests: Is notified when the executor is broken, and when the time is up for all that waits.
    """

    def __init__(self, context: RunContext, end_requests: EndRequests) -> None:
        self._inbox = context.inbox
        self._put_work = context.inbox.put_work
        self._backend = context.backend
        self._options = context.options
        self._lifecycle = context.lifecycle
        self._pending_calls = context.pending_calls
        self._end_requests = end_requests
        self._pools: Pools = context.pools
        self._cluster: Cluster | None = None
        if self._backend.capabilities.places_calls:
            executor: Any = self._backend.executor
            self._cluster = Cluster(executor, counts=not self._backend.capabilities.holds_calls)
            executor.on_change = self._note_return
        self._pools.begin_run(self._note_return, self._cluster)
        self._choice = Choice(self._pools, context.time_left)
        self._is_due = False

    @property
    def n_waiting(self) -> int:
        """How many calls wait. May be read from any thread."""
        return self._choice.n_waiting

    def waits_for(self) -> dict[str, int]:
        """How many calls wait for each pool. May be called from any thread."""
        return self._choice.waits_for()

    def has(self, future: Future[Any]) -> bool:
        """Whether a call waits here. May be called from any thread."""
        work: Any = future.work
        return isinstance(work, StandIn) and work.waiting.item is not None

    def reason(self, future: Future[Any]) -> str | None:
        """Why a call waits here; None if it does not. May be called from any thread."""
        work: Any = future.work
        return self._choice.reason(work.waiting) if isinstance(work, StandIn) else None

    # ------------------------------------------------------------------ submissions

    def check(self, future: Future[Any]) -> Needs:
        """What a call asks for. Raises as `Demand.needs` does."""
        demand = _demand(future)
        return () if demand is None else demand.needs(self._pools, future.call)  # type: ignore[arg-type]

    def obtain(self, future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The executor's future for a call if it is its turn, else a `StandIn`.

        Raises:
            ResourceUnavailableError: What it asks for can never be granted.
            Exception: What the executor raised.
        """
        needs = self.check(future)
        demand, call = _demand(future), future.call
        waiting = Waiting(Submission(future, args, kwargs, needs))
        key = (-_priority(future), next_number() if call is None else call.number)
        needs_time = 0.0 if demand is None else demand.needs_time
        self._pools.collect()
        if self._choice.add(waiting, self._waited_for(needs), needs_time, key) and self._may_begin():
            for other in self._choice.next_ones():
                if other is not waiting:
                    self._launch(other)
        if waiting.grant is not None:
            return self._compute(waiting)
        if needs_time or self._pools.returned:  # another thread may have given something back meanwhile
            self._go_on_soon()
        return StandIn(waiting, self._withdraw)

    def _waited_for(self, needs: Needs) -> Needs:
        """What a call waits for here: not for what workers have, if the executor itself has calls wait for that."""
        if self._cluster is not None and not self._cluster.counts:
            return tuple(need for need in needs if not isinstance(need[0], ClusterPool))
        return (*needs, *self._worker())

    def _worker(self) -> Needs:
        """A worker, where their number is known and does not change."""
        total = None if self._backend.capabilities.remote else workers_of(self._backend.executor)
        workers = self._pools.workers
        if total is None:
            return ()
        if workers.total != total * UNIT:
            workers.resize(total * UNIT)
        return ((workers, UNIT),)

    def prioritize(self, future: Future[Any], priority: float) -> bool:
        """Change the priority of a call; whether it waits here."""
        if future.call is not None:
            future.call.priority = priority
        work: Any = future.work
        if not isinstance(work, StandIn) or not self._choice.move(work.waiting, priority):
            return False
        self._go_on_soon()
        return True

    # ------------------------------------------------------------------ whose turn it is

    def _may_begin(self) -> bool:
        lifecycle = self._lifecycle
        return lifecycle.running or (self._options.wait and not lifecycle.abandon)

    def _go_on_soon(self) -> None:
        """Look whose turn it is, soon. From any thread."""
        if not self._is_due:
            self._is_due = True
            self._inbox.put_own(self.go_on)

    def go_on(self) -> None:
        """Have computed what can be computed now."""
        self._is_due = False
        if self._cluster is not None:
            self._cluster.refresh()
        if self._may_begin():
            for waiting in self._choice.next_ones():
                self._launch(waiting)
        if self._choice.n_waiting:
            self._end_untimely()

    def _end_untimely(self) -> None:
        """See to the calls that need more time than the run has left."""
        late = self._choice.out_of_time()
        if not late:
            return
        if self._lifecycle.is_ending:
            for waiting in late:
                work = waiting.payload.future.work
                if isinstance(work, StandIn):
                    work.cancel()
        elif self._options.end_on_empty and len(late) == len(self._pending_calls):
            n = "1 call needs" if len(late) == 1 else f"{len(late)} calls need"
            self._end_requests.request(ExitState.Code.TIMEOUT, f"{n} more time than is left")

    def _withdraw(self, waiting: Waiting) -> None:
        if self._choice.discard(waiting):
            waiting.payload = None  # the queue may keep its place for some time
            self._go_on_soon()  # something may have been kept free for it

    def _launch(self, waiting: Waiting) -> None:
        """Have a call computed that has waited."""
        future, grant = waiting.payload.future, waiting.grant
        assert grant is not None, "it was granted"
        stand_in: Any = future.work
        if future.done():
            grant.give_back()
            waiting.payload = None
            return
        if not isinstance(stand_in, StandIn) or stand_in.waiting is not waiting:
            return  # it is just being submitted, by an executor's `submit` that has come back here: `obtain` goes on
        try:
            work = self._compute(waiting)
        except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the future
            if isinstance(error, BrokenExecutor):
                self._end_requests.executor_broke(error)
            work = Work()
            work.set_exception(error)
        self._pending_calls.exchange(future, work)
        work.add_done_callback(self._put_work)

    def _compute(self, waiting: Waiting) -> Any:
        """Submit to the executor. If it raises, what was granted is given back."""
        future, args, kwargs, needs = waiting.payload
        waiting.payload = None  # nothing keeps what has ended
        grant = waiting.grant
        assert grant is not None, "it was granted"
        try:
            call = future.call
            if call is None:
                work = self._backend.submit(future.function, *args, **kwargs)
            elif call.demand is None:
                work = self._backend.submit_call(call)
            else:
                allowance = _allowance(grant, needs, call.demand, call.limits)
                call.devices = self._devices(grant)
                if self._cluster is None:
                    work = self._backend.submit_allowed(allowance, call.function, call.args, call.kwargs)
                else:
                    wanted = {pool.name: units for pool, units in needs if pool.name in self._cluster.pools}
                    seconds = call.demand.needs_time
                    work = self._backend.submit_placed(
                        allowance, wanted, call.function, call.args, call.kwargs, needs_time=seconds
                    )
            if not hasattr(work, "add_done_callback"):
                executor = safe_repr(self._backend.executor)
                raise TypeError(f"{executor} returned {safe_repr(work)} from submit(): it must return a future")
            work.add_done_callback(partial(self._ended, grant))
        except BaseException:
            grant.give_back()
            raise
        return work

    def _devices(self, grant: Grant) -> tuple[str, ...]:
        """The devices of a grant; those of workers that declare them are known only there."""
        declared: Any = () if self._cluster is None else self._cluster.pools
        return tuple(f"{pool.name} {one}" for pool, _, ids in grant.taken if pool.name not in declared for one in ids)

    # ------------------------------------------------------------------ from any thread

    def _ended(self, grant: Grant, work: Work[Any]) -> None:
        if work.cancelled():
            self._backend.when_left(work, grant.give_back)
        else:
            grant.give_back()

    def _note_return(self) -> None:
        """Note that something was given back, perhaps by a call of an earlier run."""
        if self._choice.n_waiting:
            self._go_on_soon()


def _demand(future: Future[Any]) -> Demand | None:
    return None if future.call is None else future.call.demand


def _priority(future: Future[Any]) -> float:
    call, task = future.call, future.task
    if call is not None and call.priority is not None:
        return call.priority
    priority: float | None = None if task is None else task.priority
    return priority or 0.0


def _allowance(grant: Grant, needs: Needs, demand: Demand, limits: CallLimits | None) -> Allowance:
    """What a call may use."""
    taken = {id(pool): ids for pool, _, ids in grant.taken}
    told: dict[str, Any] = {
        pool.name: taken.get(id(pool), ()) if has_ids(pool) else amount_of(units) for pool, units in needs
    }
    threads, binding = None, None
    for pool, units in needs:
        if pool.name == CPU and units:
            threads = max(1, units // UNIT)
        elif pool.name == GPU:
            binding = Binding.to(told[GPU], units) if has_ids(pool) else None
        elif pool.name == MEMORY and demand.enforces_memory:
            limits = _within(limits, units)
    return Allowance(told, threads, binding, limits)


def _within(limits: CallLimits | None, units: int) -> CallLimits:
    memory = -(-units // UNIT)
    if limits is None:
        return CallLimits(memory=memory)
    least = memory if limits.memory is None else min(memory, limits.memory)
    return CallLimits(wall_time=limits.wall_time, cpu_time=limits.cpu_time, memory=least)
