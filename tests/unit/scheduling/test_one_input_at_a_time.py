"""The next input is handled when everything the last one caused was delivered: only the inputs' order matters.

Each program runs twice: with its inputs one after the other, with plenty of time between them, and with all of them
at once, as from a fast executor. It must make no difference.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amltk.scheduling import Event, Scheduler
from amltk.scheduling._loop.turns import MAX_TURNS, TURNS_AFTER_FUTURE, Turns
from tests.helpers.gate import GUARD
from tests.unit.program import ComputeError, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    Behaviour = Callable[["Play"], None]

NEWS: Event[[str], Any] = Event("news")

AT_FIRST = 4
"""The number of submissions in `@start`; callbacks make more."""


class Play:
    """A program whose callbacks record their events, and behave as configured."""

    def __init__(self, behaviours: list[Behaviour]) -> None:
        self.program = Program()
        self.task = self.program.task
        self.scheduler = self.program.scheduler
        self.scheduler.emitter.add_event(NEWS)
        self.notes: list[str] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.left = 6
        self.scheduler.on_start(lambda: [self.submit() for _ in range(AT_FIRST)])
        self.task.on_submitted(lambda future, *_: self.note("submitted", future))
        self.scheduler.emitter.on("news")(lambda text: self.notes.append(f"news {text}"))
        for behaviour in behaviours:
            behaviour(self)
        self.task.on_done(lambda future: self.note("done", future))
        self.scheduler.on_future_cancelled(lambda future: self.note("cancelled", future))
        self.scheduler.on_empty(lambda: self.notes.append("empty"))

    def submit(self) -> None:
        self.futures.append(self.task.submit())

    def submit_one_more(self) -> None:
        if self.left and self.scheduler.running():
            self.left -= 1
            self.submit()

    def note(self, what: str, future: Any) -> None:
        self.notes.append(f"{what} {self.futures.index(future) if future in self.futures else 'new'}")

    def end(self, n: int, outcome: str) -> None:
        """Give an input: complete the n-th pending call."""
        executor = self.program.executor
        pending = executor.pending
        if pending:
            number = pending[n % len(pending)]
            executor.finish(number) if outcome == "result" else executor.fail(number, ComputeError())

    def run(self, inputs: list[tuple[int, str]], *, at_once: bool) -> list[str]:
        def all_of_them() -> None:
            for n, outcome in inputs:
                self.end(n, outcome)

        if at_once:
            self.program.at(1, all_of_them)
        else:
            for at, (n, outcome) in enumerate(inputs):
                self.program.at(1 + at, self.end, n, outcome)
        self.program.at(1000, self.scheduler.stop)
        self.program.run(on_exception="continue", on_cancelled="continue", wait=False, end_on_empty=False)
        return self.notes[: self.notes.index("end")] if "end" in self.notes else self.notes


def submits(play: Play) -> None:
    """A plain callback that submits, so that the order of submissions depends on that of outcomes."""
    play.task.on_result(lambda *_: play.submit_one_more())


def emits(play: Play) -> None:
    """Events emitted by callbacks of events."""
    play.task.on_result(lambda future, _: play.scheduler.emitter.emit(NEWS, f"of {play.futures.index(future)}"))
    play.scheduler.emitter.on("news", max_calls=3)(lambda text: play.scheduler.emitter.emit(NEWS, f"again {text}"))


def waits_for_turns(play: Play) -> None:
    """A coroutine with several steps."""

    @play.task.on_done
    async def step(future: Any) -> None:
        for n in range(4):
            play.note(f"step {n} of", future)
            await asyncio.sleep(0)
        play.submit_one_more()


def awaits(play: Play) -> None:
    """A coroutine that awaits what it submitted, directly and through its own tasks."""

    @play.scheduler.on_start
    async def follow() -> None:
        first, second, *others = play.futures
        done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        play.notes.append(f"one of two: {sorted(play.futures.index(future) for future in done)}")
        play.submit_one_more()
        outcomes = await asyncio.gather(*others, asyncio.ensure_future(first), return_exceptions=True)
        play.notes.append(f"gathered: {outcomes}")


def wakes(play: Play) -> None:
    """A plain callback that resumes a coroutine, which has its own task."""
    news: asyncio.Queue[str] = asyncio.Queue()
    play.task.on_done(lambda future: news.put_nowait(f"{play.futures.index(future)}"))

    @play.scheduler.on_start
    async def read() -> None:
        for _ in range(3):
            play.notes.append(f"read {await asyncio.create_task(news.get())}")
            play.submit_one_more()


def cancels(play: Play) -> None:
    """A callback that cancels pending calls."""

    @play.task.on_exception(max_calls=2)
    def cancel(future: Any, _: Any) -> None:
        others = [other for other in play.scheduler.queue if other is not future]
        if others:
            others[-1].cancel()  # none that already has an outcome, which a burst would not know
            play.notes.append("has cancelled")


def waits_for_room(play: Play) -> None:
    """A coroutine that submits whenever there is capacity."""

    @play.scheduler.on_start
    async def produce() -> None:
        while play.left and await play.scheduler.wait_for_capacity(2):
            play.notes.append("room")
            play.submit_one_more()


BEHAVIOURS = [submits, emits, waits_for_turns, awaits, wakes, cancels, waits_for_room]


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_a_burst_is_told_as_single_inputs_are(behaviour: Behaviour) -> None:
    """One kind of callback sees and does the same in the same order, however fast the inputs arrive."""
    inputs = [(0, "result"), (1, "exception"), (0, "result"), (0, "result"), (1, "result"), (0, "exception")]
    first = inputs[:AT_FIRST]  # later ones do not exist yet when all come at once
    apart = Play([behaviour]).run(first, at_once=False)
    assert Play([behaviour]).run(first, at_once=True) == apart


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(BEHAVIOURS), unique=True, min_size=1),
    st.lists(st.tuples(st.just(0), st.sampled_from(["result", "exception"])), min_size=2, max_size=AT_FIRST),
)
def test_any_program_is_told_bursts_as_single_inputs(
    behaviours: list[Behaviour], inputs: list[tuple[int, str]]
) -> None:
    """Several kinds of callbacks together also see bursts as single inputs."""
    if cancels in behaviours:
        inputs = inputs[:2]  # calls cancelled meanwhile can no longer end, which a burst cannot know
    apart = Play(behaviours).run(inputs, at_once=False)
    assert Play(behaviours).run(inputs, at_once=True) == apart


def test_timers_are_inputs() -> None:
    """Timers due together are called one at a time, each after everything caused by the previous one was delivered."""
    program = Program()
    notes: list[str] = []
    program.scheduler.emitter.add_event(NEWS)

    @program.scheduler.emitter.on("news")
    async def take(text: str) -> None:
        notes.append(f"begin {text}")
        await asyncio.sleep(0)
        notes.append(f"end {text}")

    for n, text in enumerate("abc"):
        program.at(
            1 + n * 1e-10, lambda text=text: (notes.append(f"timer {text}"), program.scheduler.emitter.emit(NEWS, text))
        )
    program.at(2, program.scheduler.stop)
    program.run(end_on_empty=False)
    assert notes == [f"{what} {text}" for text in "abc" for what in ("timer", "begin", "end")]


def test_a_timer_that_is_cancelled_by_the_one_before_it_is_not_called() -> None:
    """A timer cancelled by the one before it is not called, even if both are due at the same time."""
    program = Program()
    called: list[str] = []

    @program.scheduler.on_start
    def arm() -> None:
        program.scheduler.call_later(1, lambda: (called.append("first"), second.cancel()))
        second = program.scheduler.call_later(1, called.append, "second")

    program.at(2, program.scheduler.stop)
    program.run(end_on_empty=False)
    assert called == ["first"]


def test_a_cancellation_by_a_callback_is_told_before_the_next_outcome() -> None:
    """A cancellation by a callback is caused by it, not an input, and is delivered before the next outcome."""
    program = Program()
    program.submit(3)
    program.task.on_result(lambda *_: program.task.queue[-1].cancel(), max_calls=1)
    program.at(1, lambda: (program.executor.finish(0), program.executor.finish(1)))
    program.run(on_cancelled="continue")
    endings = [name for name in program.own if name in {"result", "cancelled"}]
    assert endings == ["result", "cancelled", "result"]


def test_a_coroutine_that_is_always_ready_keeps_nothing_waiting() -> None:
    """A coroutine that never stops yielding gets some iterations before each input, but not all."""
    scheduler = Scheduler.with_threads(1)
    scheduler.on_start(lambda: [scheduler.submit(abs, n) for n in range(50)])

    @scheduler.on_start
    async def spin() -> None:
        while scheduler.n_running:  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0)

    scheduler.run(timeout=GUARD)
    assert scheduler.event_counts[scheduler.FUTURE_RESULT] == 50


def test_what_other_threads_ask_for_is_an_input() -> None:
    """Another thread's submission is delivered after everything caused earlier, and in that thread's order."""
    scheduler = Scheduler.with_sequential()
    scheduler.emitter.add_event(NEWS)
    notes: list[str] = []

    def ask() -> None:
        scheduler.submit(abs, 1)
        scheduler.stop()

    @scheduler.on_start
    def begin() -> None:
        scheduler.emitter.emit(NEWS, "before")
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(GUARD)
        scheduler.emitter.emit(NEWS, "after, but caused")

    scheduler.emitter.on("news")(notes.append)
    scheduler.on_future_submitted(lambda _: notes.append("submitted"))
    scheduler.on_stop(lambda *_: notes.append("stop"))
    scheduler.run(end_on_empty=False)
    # The end was requested while the callback emitted: what it emits then comes in its turn.
    assert notes == ["before", "submitted", "stop", "after, but caused"]


def test_turns() -> None:
    """No iteration without coroutines, one while there are any, and enough for a chain after an awaited future ends."""

    async def main() -> None:
        turns = Turns()
        assert not turns.needed
        task = asyncio.ensure_future(asyncio.sleep(0))
        turns.at(task, asyncio.get_running_loop().create_future())
        assert turns.needed
        assert [turns.take() for _ in range(2)] == [True, False]
        assert turns.alive
        assert not turns.needed
        turns.expect_steps()
        assert turns.needed
        assert [turns.take() for _ in range(TURNS_AFTER_FUTURE + 1)] == [*[True] * TURNS_AFTER_FUTURE, False]
        turns.at(task, None)
        assert [turns.take() for _ in range(MAX_TURNS + 1)] == [*[True] * MAX_TURNS, False]
        turns.over(task)
        assert not turns.take()
        assert [turns.alive, turns.needed] == [False, False]
        await task

    asyncio.run(main())
