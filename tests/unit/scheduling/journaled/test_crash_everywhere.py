"""Random programs are killed after each record they write, and restarted: in virtual time, without processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import amltk.journal
from amltk.scheduling import Retry, Scheduler
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

AT_FIRST = 3
LEFT = 5
"""The number of submissions in @start, and of those added by callbacks."""


class ComputeError(Exception):
    """What calls raise here."""


def compute(number: int, seconds: float, outcome: str) -> int:
    """Fail, or return twice the number."""
    if outcome == "error":
        raise ComputeError(number)
    return 2 * number


class Play:
    """A program whose callbacks record their events and act on the history of those events."""

    def __init__(self, calls: list[tuple[float, str]], acts: list[str], folder: Path, *, retry: bool) -> None:
        self.calls, self.acts, self.folder = calls, acts, folder
        self.executor = SimulatedExecutor(
            2, duration=lambda fn, number, seconds, outcome: seconds, outcome=self.compute
        )
        self.scheduler = Scheduler(self.executor)
        plugins = [Retry(ComputeError, attempts=2, wait=1.5, seed=1)] if retry else []
        self.task = self.scheduler.task(compute, plugins=plugins)
        self.computed: list[int] = []
        self.notes: list[str] = []
        self.futures: list[Any] = []
        self.left = LEFT
        self.submitted = 0
        self.scheduler.on_start(self.begin)
        self.scheduler.on_future_submitted(lambda future: self.note(f"submitted {future.number}"))
        self.task.on_result(self.on_result)
        self.task.on_exception(self.on_exception)
        self.task.on_cancelled(self.on_cancelled)
        for event in ("empty", "stop", "timeout", "finishing", "finished"):
            self.scheduler.emitter.register(event, lambda *_, event=event: self.note(event))

    def compute(self, fn: Callable[..., Any], number: int, *args: Any) -> Any:
        self.computed.append(number)
        return fn(number, *args)

    def note(self, what: str) -> None:
        self.notes.append(f"{what} at {self.scheduler.now() % 1e6:.6f}" if "now" in self.acts else what)

    def begin(self) -> None:
        self.note(f"start {self.scheduler.random.random()}" if "random" in self.acts else "start")
        for _ in range(AT_FIRST):
            self.submit()

    def next_number(self) -> int:
        """The number of the next future: the first argument of each call is its number."""
        self.submitted += 1
        return self.submitted - 1

    def submit(self) -> None:
        if self.scheduler.running():
            number = self.next_number()
            seconds, outcome = self.calls[number % len(self.calls)]
            self.futures.append(self.task.submit(number, seconds, outcome))

    def submit_more(self) -> None:
        if self.left and self.scheduler.running():
            self.left -= 1
            self.submit()

    def on_result(self, future: Any, result: int) -> None:
        self.note(f"result {future.number} {result}")
        self.act(future)

    def on_exception(self, future: Any, error: BaseException) -> None:
        self.note(f"exception {future.number} {error!r}")
        self.act(future)

    def on_cancelled(self, future: Any) -> None:
        self.note(f"cancelled {future.number}")
        self.act(future)

    def act(self, future: Any) -> Any:
        name = self.acts[len(self.notes) % len(self.acts)]
        act = getattr(self, f"act_{name}", None)
        return None if act is None else act(future)

    def act_submit(self, future: Any) -> None:
        self.submit_more()

    def act_two(self, future: Any) -> None:
        self.submit_more()
        self.submit_more()

    def act_cancel(self, future: Any) -> None:
        pending = self.scheduler.queue
        if pending:
            self.note(f"cancel {pending[-1].number}")
            pending[-1].cancel()

    def act_later(self, future: Any) -> None:
        if self.scheduler.running():
            self.scheduler.call_later(2.25, self.late, future.number)

    def late(self, number: int) -> None:
        self.note(f"late {number}")
        self.submit_more()

    def act_stop(self, future: Any) -> None:
        if len(self.notes) > 12:
            self.scheduler.stop("enough")

    def act_once(self, future: Any) -> None:
        self.note(f"once {self.scheduler.once(object().__hash__)}")

    def act_raise(self, future: Any) -> None:
        if len(self.notes) > 12:
            raise ComputeError("a callback")

    def act_emit(self, future: Any) -> None:
        self.task.emit("news", future.number)


class AsyncPlay(Play):
    """The same with a callback that awaits other calls."""

    def begin(self) -> None:
        super().begin()
        self.scheduler.on_empty(self.wait, max_calls=1)

    async def wait(self) -> None:
        if not self.scheduler.running():
            return
        mine = [self.task.submit(self.next_number(), 1.0 + n, "result") for n in range(3)]
        self.note(f"waited {await mine[0]}")
        self.note(f"gathered {await asyncio.gather(*mine)}")
        if await self.scheduler.wait_for_capacity(2):
            self.submit_more()


def returned(folder: Path) -> set[int]:
    """The numbers of the calls that have returned according to the journal."""
    if not (folder / "journal.log").exists() or not (folder / "journal.log").stat().st_size:
        return set()
    return {call.number for call in amltk.journal.open(folder).calls() if call.state == "result"}


def run(play: Play, timeout: float | None = None) -> Any:
    def to_text(value: Any) -> str:
        return f"{type(value).__name__} {value}"

    try:
        state = run_in_virtual_time(
            play.scheduler.async_run(
                timeout=timeout, on_exception="continue", on_cancelled="continue", journal=play.folder, display=False
            )
        )
    except ComputeError as error:
        return play.notes, to_text(error)
    return play.notes, to_text(state.code), state.exceptions, state.reason


SECONDS = st.sampled_from([0.5, 1.0, 1.0, 2.0, 7.0])
CALLS = st.lists(st.tuples(SECONDS, st.sampled_from(["result", "result", "error"])), min_size=1, max_size=6)
ACTS = st.lists(
    st.sampled_from(["submit", "submit", "two", "cancel", "later", "stop", "once", "now", "random", "raise"]),
    min_size=1,
    max_size=6,
)


@settings(max_examples=int(os.environ.get("FUZZ", "7")), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    calls=CALLS,
    acts=ACTS,
    retry=st.booleans(),
    waits=st.booleans(),
    timeout=st.sampled_from([None, None, 4.0, 6.5]),
)
def test_any_program(
    calls: list[tuple[float, str]], acts: list[str], retry: bool, waits: bool, timeout: float | None
) -> None:
    """Whatever callbacks do, they see the same events, and a call with a recorded outcome is not computed again."""
    kind = AsyncPlay if waits else Play

    def program(folder: Path) -> Any:
        known = returned(folder)
        play = kind(calls, acts, folder, retry=retry)
        state = run(play, timeout)
        assert not known & set(play.computed)
        return state

    crash_everywhere(program)
