"""What plugins may rely on and what they promise, in every interleaving.

A task with Retry, a Limiter that keeps calls beyond the limit, another one that waits for a second task, and plugins
whose hooks reject and raise, in any order. Hypothesis generates programs from the actions of users and executors, one
loop iteration at a time; an hour's wait before a retry takes no real time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amltk.exceptions import ExecutorBrokenError, FutureCancelledError, SchedulerNotRunningError, WorkerLostError
from amltk.scheduling import Limiter, Plugin, Retry
from amltk.scheduling._loop import inbox
from amltk.testing import HangError, VirtualTimeLoop
from tests.unit.program import CallbackError, ComputeError, Program
from tests.unit.scheduling.test_state_machine import JoinedThread, call, elsewhere, places, seldom

if TYPE_CHECKING:
    from amltk.scheduling.call import Call, Outcome

HOUR = 3600.0
ATTEMPTS = 3
LOST_WORKERS = 2

indices = st.integers(0, 7)
mishaps = st.dictionaries(
    st.integers(0, 9), st.sampled_from(["refuse", "prepare", "review", "hold", "nonsense", "end"]), max_size=3
)


class Mischief(Plugin):
    """Rejects some submissions, raises in its hooks for others, and records what it sees.

    Args:
        mishaps: What goes wrong with each submission, by its first argument.
        name: The plugin's name.
    """

    def __init__(self, mishaps: dict[int, str], name: str) -> None:
        self.name = name
        self.mishaps = mishaps
        self.prepared: list[int] = []
        self.let_pass: list[int] = []
        self.ended: list[str] = []
        self.open: dict[Call, list[str]] = {}  # the teardowns still to run, in order

    def prepare(self, call: Call) -> bool:
        n = call.given[0][0]
        self.prepared.append(n)
        assert call not in self.open, "prepared again before its end"
        assert call.kwargs == {}
        self.open[call] = ["second", "first"]
        call.on_end(self.end, call, "first")
        call.on_end(self.end, call, "second")
        call.on_outcome(lambda outcome: self.review(call, outcome))
        if self.mishaps.get(n) == "prepare":
            raise CallbackError("of prepare")
        if self.mishaps.get(n) == "refuse":
            return False
        self.let_pass.append(n)
        return True

    def end(self, call: Call, which: str) -> None:
        assert self.open[call].pop(0) == which
        if not self.open[call]:
            del self.open[call]
        if call.future is not None:
            assert call.future.done()
        if self.mishaps.get(call.given[0][0]) == "end":
            raise CallbackError("of a teardown")

    def review(self, call: Call, _outcome: Outcome) -> Any:
        assert call in self.open
        match self.mishaps.get(call.given[0][0]):
            case "review":
                raise CallbackError("of a review")
            case "hold":
                hold = asyncio.get_running_loop().create_future()
                hold.set_exception(CallbackError("of a hold"))
                return hold
            case "nonsense":
                return True
            case _:
                return None


class LifeOfPlugins(RuleBasedStateMachine):
    """One run, whose loop advances only in steps."""

    @initialize(
        order=st.permutations(range(4)),
        max_concurrent=st.sampled_from([1, 2, 3]),
        max_calls=st.sampled_from([None, None, 4]),
        wait=st.booleans(),
        timeout=st.sampled_from([None, None, 7.0]),
        on_exception=st.sampled_from(["continue", "continue", "continue", "end", "raise"]),
        on_cancelled=st.sampled_from(["continue", "continue", "end"]),
        early=mishaps,
        late=mishaps,
        slices=st.sampled_from([0.0, float("inf")]),
    )
    def begin(
        self,
        *,
        order: list[int],
        max_concurrent: int,
        max_calls: int | None,
        early: dict[int, str],
        late: dict[int, str],
        slices: float,
        **options: Any,
    ) -> None:
        self.wait = options["wait"]
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.object(threading, "Thread", JoinedThread))
        self.patches.enter_context(mock.patch.object(inbox, "MAX_SLICE_SECONDS", slices))
        self.program = program = Program()
        self.executor = program.executor
        self.scheduler = program.scheduler
        self.task = program.task
        self.other = self.scheduler.task(abs)
        self.retry = Retry(attempts=ATTEMPTS, lost_workers=LOST_WORKERS, wait=HOUR, max_wait=HOUR, jitter=0)
        self.limiter = Limiter(max_concurrent=max_concurrent, max_calls=max_calls, on_limit="queue")
        self.limiter.name = "limiter of calls"
        self.second = Limiter(not_while_running=self.other, on_limit="queue")
        self.early, self.last = Mischief(early, "early"), Mischief(late, "late")
        plugins = [self.retry, self.limiter, self.second, self.early]
        for plugin in [*(plugins[n] for n in order), self.last]:
            self.task.attach_plugin(plugin)
        self.dropped: list[int] = []
        self.task.on("call-limit-reached")(lambda _task, n: self.dropped.append(n))
        self.told: list[int] = []
        self.task.on_submitted(lambda _future, n: self.told.append(n))
        self.offered: list[int] = []
        self.refused: list[int] = []  # with an error
        self.futures: dict[int, asyncio.Future[Any]] = {}
        self.task.on_submitted(lambda future, n: self.futures.setdefault(n, future))
        self.left_at_empty: list[int] = []
        self.scheduler.on_empty(self.look_at_empty)
        self.begun: Counter[int] = Counter()
        self.submit_to_executor = self.executor.submit
        self.executor.submit = self.note_attempt
        self.broken = False
        self.complaints: list[dict[str, Any]] = []
        self.loop = VirtualTimeLoop()
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.main = self.loop.create_task(self.scheduler.async_run(**options, end_on_empty=False))
        while self.scheduler._run is None:
            self.turn(1)
        self.run = self.scheduler._run
        self.turn(3)

    def look_at_empty(self) -> None:
        kept = self.limiter.n_kept + self.second.n_kept if self.scheduler.running() else 0
        self.left_at_empty.append(self.scheduler.n_running + kept)

    def note_attempt(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """No retry starts after the end was requested."""
        if fn is not abs:
            assert self.scheduler.running() or self.begun[args[0]] == 0
            assert self.task.n_running <= (self.limiter.max_concurrent or 0)
            self.begun[args[0]] += 1
            assert self.begun[args[0]] <= ATTEMPTS + LOST_WORKERS
        return self.submit_to_executor(fn, *args, **kwargs)

    # -------------------------------------------------------------------------------------------- what users do

    @rule(on_thread=places)
    def submit(self, on_thread: bool) -> None:
        n = len(self.offered)
        self.offered.append(n)
        running = self.scheduler.running()
        try:
            (elsewhere if on_thread else call)(self.task.submit, n)
        except SchedulerNotRunningError:
            assert not running
            self.refused.append(n)
        except CallbackError:
            self.refused.append(n)
        except BrokenExecutor:
            assert self.broken
            self.refused.append(n)

    @precondition(lambda self: self.scheduler.running() and not self.broken)
    @rule()
    def submit_other(self) -> None:
        self.scheduler.submit_for(self.other, abs, (-1,), {})

    @precondition(lambda self: self.task.queue)
    @rule(n=indices, on_thread=places)
    def cancel(self, n: int, on_thread: bool) -> None:
        queue = self.task.queue
        (elsewhere if on_thread else call)(queue[n % len(queue)].cancel)

    @rule(really=seldom, how=st.sampled_from(["stop", "interrupt", "interrupt twice"]), on_thread=places)
    def end(self, really: bool, how: str, on_thread: bool) -> None:
        if not really or self.main.done():
            return
        if how == "stop":
            (elsewhere if on_thread else call)(self.scheduler.stop)
            return
        for _ in range(1 + (how == "interrupt twice")):
            self.main.cancel()
            self.turn(1)

    # ---------------------------------------------------------------------------------------- what executors do

    @precondition(lambda self: self.executor.pending)
    @rule(n=indices, how=st.sampled_from(["finish", "fail", "lose", "start"]), on_thread=places)
    def end_work(self, n: int, how: str, on_thread: bool) -> None:
        i = self.executor.pending[n % len(self.executor.pending)]
        if how == "start":
            if not self.executor.submissions[i].future.running():
                self.executor.start(i)
        elif how == "finish":
            (elsewhere if on_thread else call)(self.executor.finish, i, i)
        else:
            error = ComputeError(i) if how == "fail" else WorkerLostError(f"at {i}")
            (elsewhere if on_thread else call)(self.executor.fail, i, error)

    @precondition(lambda self: self.executor.pending and self.scheduler.running())
    @rule(really=seldom)
    def break_down(self, really: bool) -> None:
        if really:
            self.broken = True
            self.executor.break_down()

    # ----------------------------------------------------------------------------------------- time and the loop

    @rule(n=st.integers(1, 4))
    def turn(self, n: int) -> None:
        for _ in range(n):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @rule(seconds=st.sampled_from([1.0, HOUR, 2 * HOUR]))
    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    # ------------------------------------------------------------------------------------------------ what holds

    @invariant()
    def books_agree(self) -> None:
        """The limit and the order hold, and every submission is in exactly one place."""
        pending_calls = self.run.pending_calls
        assert (
            pending_calls.accepted
            == pending_calls.results + pending_calls.exceptions + pending_calls.cancelled + len(pending_calls)
        )
        assert self.task.n_running <= (self.limiter.max_concurrent or 0)
        assert self.last.prepared == sorted(set(self.last.prepared))
        assert not any(self.left_at_empty)
        assert self.complaints == []
        kept = [call.given[0][0] for limiter in (self.limiter, self.second) for _, call in limiter._kept]
        assert len(kept) == len(set(kept))
        refused = {n for n in self.early.prepared if self.early.mishaps.get(n) in {"refuse", "prepare"}}
        refused |= {n for n in self.last.prepared if self.last.mishaps.get(n) in {"refuse", "prepare"}}
        gone = {*self.refused, *self.dropped, *refused}
        assert not gone & set(kept)
        passed = set(self.last.let_pass)
        assert not passed & set(kept)
        if not self.broken:  # a broken executor rejects kept calls for good
            assert {*kept, *gone, *passed} >= set(self.offered) - self.undelivered()

    def undelivered(self) -> set[int]:
        """Calls that may have been dropped while the event for it is on its way."""
        return set(self.offered) if len(self.run._inbox) else set()

    def teardown(self) -> None:
        if not hasattr(self, "main"):
            return
        try:
            self.loop.run_until_complete(self.see_it_end())
            assert [timer for timer in self.loop._scheduled if not timer.cancelled()] == []
        finally:
            self.loop.close()
            self.patches.close()
        self.books_agree()
        self.check_end()
        self.program.check_books()
        assert Counter(self.told) == Counter(set(self.told))
        for n, future in self.futures.items():
            assert future.done()
            assert self.begun[n] or future.cancelled() or self.broken
        assert self.early.open == self.last.open == {}
        assert self.retry._waiting == {}

    async def see_it_end(self) -> None:
        """Stop; calls that the run waits for must be completed, and nothing else may take any time."""
        self.scheduler.stop()
        for _ in range(100):
            before = self.loop.time()
            await asyncio.wait([self.main], timeout=1)
            if self.main.done():
                assert self.loop.time() == before
                return
            assert self.executor.pending
            while self.executor.pending:
                self.end_work(0, how="fail", on_thread=False)
        raise HangError("the run does not end")

    def check_end(self) -> None:
        if self.main.cancelled():
            return
        error = self.main.exception() or self.main.result().exception
        allowed = (ComputeError, WorkerLostError, CallbackError, FutureCancelledError, ExecutorBrokenError)
        assert error is None or isinstance(error, allowed) or "review" in str(error), error


LifeOfPlugins.TestCase.settings = settings(max_examples=70, stateful_step_count=25)
TestLifeOfPlugins = LifeOfPlugins.TestCase
