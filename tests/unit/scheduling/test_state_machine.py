"""Rule 4.2 of the design in every interleaving: submitted = results + exceptions + cancelled, each exactly once.

Hypothesis generates programs from steps: actions of users, executors and callbacks, and single iterations of the event
loop in between. So a stop may come between two outcomes on their way, a cancellation before an event is delivered, or
a submission from another thread while the run ends.
"""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import BrokenExecutor
from concurrent.futures import Future as Work
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amltk.exceptions import ExecutorBrokenError, FutureCancelledError, SchedulerNotRunningError
from amltk.scheduling import ExitState
from amltk.scheduling._loop import inbox
from amltk.testing import HangError, VirtualTimeLoop
from tests.unit.program import CANCELLED, EXCEPTION, RESULT, CallbackError, ComputeError, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling._run.run import Run

MANY = 30
"""Callbacks stop submitting from here on, so that every program ends."""

EVENTS = [
    *("start", "finishing", "finished", "stop", "timeout", "empty"),
    *("future-submitted", "future-done", "future-result", "future-exception", "future-cancelled"),
    *("work:submitted", "work:done", "work:result", "work:exception", "work:cancelled"),
]

# Hypothesis best explores what is likely: most programs must live for a while and submit something.
reactions = st.sampled_from(["continue", "continue", "end", "raise"])
policies = reactions | st.dictionaries(st.sampled_from([ComputeError, CallbackError, Exception]), reactions, min_size=1)
seldom = st.sampled_from([*[False] * 6, True])
places = st.sampled_from([False, False, True])  # whether on another thread
indices = st.integers(0, 7)
moments = st.sampled_from([0, 0, 1, 2, 5])
answers = st.dictionaries(
    st.sampled_from(EVENTS),
    st.tuples(
        st.sampled_from(
            ["submit", "submit later", "stop", "raise", "cancel", "finish", "fail", "submit and await", "raise later"]
        ),
        indices,
    ),
    max_size=5,
)


class JoinedThread(threading.Thread):
    """A thread that has finished when `start` returns: the same steps always give the same interleaving."""

    def start(self) -> None:
        super().start()
        self.join()


def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call it on this thread."""
    return fn(*args, **kwargs)


def elsewhere(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call it on another thread, which has finished when this returns."""
    outcome: Work[Any] = Work()

    def work() -> None:
        try:
            outcome.set_result(fn(*args, **kwargs))
        except BaseException as error:
            outcome.set_exception(error)

    JoinedThread(target=work).start()
    return outcome.result()


TURNS = 8
"""Loop iterations after which everything from one moment was delivered."""


class LifeOfARun(RuleBasedStateMachine):
    """One run, whose loop advances only in steps."""

    run: Run

    @initialize(
        n=st.sampled_from([3, 2, 1, 5, 0]),
        wait=st.booleans(),
        end_on_empty=st.booleans(),
        timeout=st.sampled_from([None, None, None, 10, 3, 0]),
        on_exception=policies,
        on_cancelled=reactions,
        terminate=st.sampled_from([True, False, "fails what runs", "raises"]),
        answers=answers,
        at_once=st.sampled_from([1, math.inf]),
    )
    def begin(
        self, *, n: int, terminate: Any, answers: dict[str, tuple[str, int]], at_once: float, **options: Any
    ) -> None:
        self.wait = options["wait"]
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.object(threading, "Thread", JoinedThread))
        # A loop iteration delivers one event or all, whatever the speed of this machine.
        self.patches.enter_context(mock.patch.object(inbox, "MAX_SLICE_SECONDS", 0 if at_once == 1 else at_once))
        terminators = {"fails what runs": self.fail_what_runs, "raises": self.raise_in_callback}
        self.program = program = Program(terminate=terminators.get(terminate, terminate))
        self.executor = program.executor
        self.scheduler = program.scheduler
        self.task = program.task
        self.accepted: list[asyncio.Future[Any]] = []
        self.broken = False
        self.pending_at_empty: list[int] = []
        self.scheduler.on_empty(lambda: self.pending_at_empty.append(self.scheduler.n_running))
        self.outcomes: dict[int, Any] = {}  # the executor's outcomes, by submission number
        for name, (answer, times) in answers.items():
            emitter: Any = self.task if name.startswith("work:") else self.scheduler.emitter
            emitter.register(name.removeprefix("work:"), self.answer(answer, times))
        if n:
            self.scheduler.on_start(self.submit_if_running, repeat=n)
        self.loop = VirtualTimeLoop()
        self.main = self.loop.create_task(self.scheduler.async_run(**options))
        while self.scheduler._run is None:
            self.turn(1)
        self.run = self.scheduler._run

    # -------------------------------------------------------------------------------------------- what users do

    @rule(on_thread=places)
    def submit(self, on_thread: bool) -> None:
        """Submissions are rejected exactly when the scheduler is not running."""
        if on_thread:
            elsewhere(self.submit, on_thread=False)
            return
        running = self.scheduler.running()
        try:
            future = self.task.submit(len(self.accepted))
        except SchedulerNotRunningError:
            assert not running
        except BrokenExecutor:
            assert self.broken
            assert not self.scheduler.running()
        else:
            assert future is not None
            assert running
            self.accepted.append(future)

    @precondition(lambda self: self.task.queue)
    @rule(n=indices, on_thread=places)
    def cancel(self, n: int, on_thread: bool) -> None:
        if queue := self.task.queue:
            (elsewhere if on_thread else call)(queue[n % len(queue)].cancel)

    @precondition(lambda self: self.scheduler.running())
    @rule(delay=moments)
    def submit_later(self, delay: float) -> None:
        self.scheduler.call_later(delay, self.submit_if_running)

    @precondition(lambda self: not self.main.done())
    @rule(
        really=seldom,
        how=st.sampled_from(["stop", "stop with an exception", "cancel the caller"]),
        on_thread=places,
    )
    def end(self, really: bool, how: str, on_thread: bool) -> None:
        if not really:
            return
        if how == "cancel the caller":
            self.main.cancel()
        else:
            exception = CallbackError("given to stop") if how == "stop with an exception" else None
            (elsewhere if on_thread else call)(self.scheduler.stop, exception=exception)
            assert not self.scheduler.running()

    # ---------------------------------------------------------------------------------------- what executors do

    @precondition(lambda self: self.executor.pending)
    @rule(n=indices)
    def start(self, n: int) -> None:
        waiting = [i for i in self.executor.pending if not self.executor.submissions[i].future.running()]
        if waiting:
            self.executor.start(waiting[n % len(waiting)])

    @precondition(lambda self: self.executor.pending)
    @rule(n=indices, fails=st.booleans(), on_thread=places)
    def end_work(self, n: int, fails: bool, on_thread: bool) -> None:
        if pending := self.executor.pending:
            i = pending[n % len(pending)]
            self.outcomes[i] = ComputeError(i) if fails else f"result of {i}"
            tell = self.executor.fail if fails else self.executor.finish
            (elsewhere if on_thread else call)(tell, i, self.outcomes[i])

    @precondition(lambda self: self.executor.pending and self.scheduler.running())
    @rule(really=seldom)
    def break_down(self, really: bool) -> None:
        if really:
            self.broken = True
            self.executor.break_down()

    def fail_what_runs(self, _executor: Any) -> None:
        for i in self.executor.pending:
            self.outcomes[i] = ComputeError(f"{i} was killed")
            self.executor.fail(i, self.outcomes[i])

    # ---------------------------------------------------------------------------------------- what callbacks do

    def answer(self, what: str, n: int) -> Callable[..., Any]:
        answers: dict[str, Callable[[], Any]] = {
            "submit": self.submit_if_running,
            "submit later": lambda: self.scheduler.running() and self.submit_later(n),
            "stop": self.scheduler.stop,
            "raise": self.raise_in_callback,
            "cancel": lambda: self.cancel(n, on_thread=False),
            "finish": lambda: self.end_work(n, fails=False, on_thread=False),
            "fail": lambda: self.end_work(n, fails=True, on_thread=False),
            "submit and await": self.submit_and_await,
            "raise later": self.raise_in_coroutine,
        }
        return lambda *_args, **_kwargs: answers[what]()

    def submit_if_running(self) -> None:
        if self.scheduler.running() and len(self.accepted) < MANY:
            self.submit(on_thread=False)

    def raise_in_callback(self, *_: Any) -> None:
        raise CallbackError("of a callback")

    async def raise_in_coroutine(self) -> None:
        await asyncio.sleep(1)
        raise CallbackError("of a coroutine")

    async def submit_and_await(self) -> None:
        for _ in range(2):
            before = len(self.accepted)
            self.submit_if_running()
            for future in self.accepted[before:]:
                try:
                    await future
                except ComputeError:
                    pass

    # ----------------------------------------------------------------------------------------- time and the loop

    @rule(n=st.integers(1, 3))
    def turn(self, n: int) -> None:
        """Let the loop run `n` iterations."""
        for _ in range(n):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @rule(seconds=moments)
    def pass_time(self, seconds: float) -> None:
        """A second, and a few iterations at its end, are enough for everything to be delivered."""
        self.loop.run_until_complete(asyncio.sleep(seconds))
        if seconds:
            for _ in range(TURNS):
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
            assert not any(future.done() for future in self.task.queue)

    # ------------------------------------------------------------------------------------------------ what holds

    @invariant()
    def books_agree(self) -> None:
        """After every step the counts of the pending calls add up, and match the delivered events."""
        pending_calls = self.run.pending_calls
        assert pending_calls.accepted == len(self.accepted)
        assert (
            pending_calls.accepted
            == pending_calls.results + pending_calls.exceptions + pending_calls.cancelled + len(pending_calls)
        )
        names = self.program.trace
        assert pending_calls.results == names.count("future-result")
        assert pending_calls.exceptions == names.count("future-exception")
        assert pending_calls.cancelled == names.count("future-cancelled")
        assert self.task.n_pending == self.task.n_running == len(self.task.queue) == len(pending_calls)
        assert set(self.task.queue) <= set(self.accepted)
        assert not any(self.pending_at_empty)

    @invariant()
    def order_is_kept(self) -> None:
        """So far all events came in the promised order."""
        names = self.program.trace
        assert names[:1] in (["start"], [])
        assert "finished" not in names[:-1]
        for n, name in enumerate(names):
            if name == "future-done":
                assert names[n : n + 4] in (RESULT, EXCEPTION)
            elif name == "future-cancelled":
                assert names[n : n + 2] == CANCELLED
            elif name == "empty":
                assert "finishing" not in names[:n]
                ended = sum(names[:n].count(f"future-{how}") for how in ("result", "exception", "cancelled"))
                assert names[:n].count("future-submitted") == ended
            elif name in {"stop", "timeout"}:
                assert names[n + 1] == "finishing"

    def teardown(self) -> None:
        if not hasattr(self, "main"):
            return
        try:
            self.loop.run_until_complete(self.see_it_end())
        finally:
            self.loop.close()
            self.patches.close()
        self.books_agree()
        self.order_is_kept()
        self.program.check_books()
        assert set(self.program.histories()) == set(self.accepted)
        for future in self.accepted:
            self.check_outcome(future)
        self.check_end()

    async def see_it_end(self) -> None:
        """Stop; pending calls end on their own, or the run waits for them and they must be completed."""
        self.scheduler.stop()
        await asyncio.wait([self.main], timeout=2)
        for _ in range(100):
            if self.main.done():
                return
            assert self.wait
            assert not self.run.lifecycle.abandon
            while self.executor.pending:
                self.end_work(0, fails=False, on_thread=False)
            await asyncio.wait([self.main], timeout=1)
        raise HangError("the run does not end")

    def check_outcome(self, future: asyncio.Future[Any]) -> None:
        """A future holds the outcome of its events, which is the executor's outcome."""
        assert future.done()
        history = self.program.histories()[future]
        (told,) = [r for r in self.program.recorder.records if r.args[:1] == (future,) and r.name == history[3]] or [
            None
        ]
        if future.cancelled():
            assert "future-cancelled" in history
        elif (error := future.exception()) is not None:
            assert told is not None
            assert told.args[1] is error
        else:
            assert told is not None
            assert told.args[1] == future.result()
            assert future.result() in self.outcomes.values()

    def check_end(self) -> None:
        """The run ended for a reason that really occurred; a broken executor is always an error."""
        if self.main.cancelled():
            return
        error = self.main.exception()
        names = self.program.trace
        until_the_end = self.program.recorder.records[: names.index("finishing")]
        if any(isinstance(record.args[-1], BrokenExecutor) for record in until_the_end if record.args):
            assert error is not None
        if error is None:
            state = self.main.result()
            assert state.code is not ExitState.Code.UNKNOWN
            error = state.exception
        assert isinstance(error, None | ComputeError | CallbackError | FutureCancelledError | ExecutorBrokenError), (
            error
        )


LifeOfARun.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestLifeOfARun = LifeOfARun.TestCase
