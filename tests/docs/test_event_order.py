"""The table of docs/guide/events.md: every way a run can end is run and compared."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.testing import EventRecorder, ManualExecutor, run_in_virtual_time
from tests.helpers.gate import Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs/guide/events.md"
FIRST_LINE = "| what happens | events | `run` |"

Row = tuple[str, str]
"""The events, and what `run` returns or raises."""

WAYS: dict[str, Callable[[], Row]] = {}
"""The programs, by the page's names for them."""


def way(title: str) -> Callable[[Callable[[], Row]], Callable[[], Row]]:
    def add(program: Callable[[], Row]) -> Callable[[], Row]:
        WAYS[title] = program
        return program

    return add


def compute() -> None:
    raise AssertionError("a manual executor computes nothing")


class Play:
    """A run whose `@start` submits some calls, and in which things happen at given times.

    Time is virtual, so nothing waits.
    """

    def __init__(self, calls: int = 2, scheduler: Scheduler | None = None) -> None:
        self.executor = ManualExecutor()
        self.scheduler = scheduler or Scheduler(self.executor)
        self.recorder = EventRecorder(self.scheduler)
        if calls:
            self.scheduler.on_start(repeat=calls)(lambda: self.scheduler.submit(compute))

    def at(self, second: float, call: Callable[..., Any], *args: Any) -> Play:
        """Call `call(*args)` at that second of the run."""
        # A timer of the loop, since the scheduler's timers are dropped at the end of the run.
        self.scheduler.on_start(lambda: asyncio.get_running_loop().call_later(second, call, *args))
        return self

    def run(self, **options: Any) -> Row:
        """The events, and how the run ended."""
        return self.row(lambda: run_in_virtual_time(self.scheduler.async_run(**options)).code.name)

    def row(self, run: Callable[[], str]) -> Row:
        """The events of `run`, and what it returns or raises."""
        try:
            outcome = f"`{run()}`"
        except BaseException as error:
            outcome = f"raises `{type(error).__name__}`"
        return " · ".join(name.removeprefix("future-") for name in self.recorder.names), outcome


@way("`@start` submits nothing")
def nothing() -> Row:
    return Play(0).run()


@way("two calls, both return")
def both_return() -> Row:
    play = Play()
    return play.at(1, play.executor.finish, 0).at(2, play.executor.finish, 1).run()


@way("a callback of `@empty` submits again")
def refilled() -> Row:
    play = Play(1)
    play.scheduler.on_empty(max_calls=1)(lambda: play.scheduler.submit(compute))
    return play.at(1, play.executor.finish, 0).at(2, lambda: play.executor.finish(1)).run()


def failing(on_exception: str) -> Row:
    play = Play()
    play.at(1, play.executor.fail, 0, ValueError("no")).at(2, play.executor.finish, 1)
    return play.run(on_exception=on_exception)


way('the first of two calls raises, `on_exception="continue"`')(lambda: failing("continue"))
way('the first of two calls raises, `on_exception="end"`')(lambda: failing("end"))
way('the first of two calls raises, `on_exception="raise"`')(lambda: failing("raise"))


@way('the first of two calls raises, the second needs its result, `on_exception="continue"`')
def what_follows() -> Row:
    play = Play(0)
    play.scheduler.on_start(lambda: play.scheduler.submit(lambda _: None, play.scheduler.submit(compute)))
    return play.at(1, play.executor.fail, 0, ValueError("no")).run(on_exception="continue")


@way("the only call raises")
def only_one_raises() -> Row:
    play = Play(1)
    return play.at(1, play.executor.fail, 0, ValueError("no")).run()


@way("a callback of `@start` raises")
def start_raises() -> Row:
    play = Play(0)

    @play.scheduler.on_start
    def wrong() -> None:
        raise ValueError("no")

    return play.run()


@way("a callback of `@future-result` raises")
def callback_raises() -> Row:
    play = Play()
    play.at(1, play.executor.finish, 0).at(2, play.executor.finish, 1)

    @play.scheduler.on_future_result(max_calls=1)
    def wrong(future: asyncio.Future[Any], result: Any) -> None:
        raise ValueError("no")

    return play.run()


@way("`stop()`")
def stopped() -> Row:
    play = Play()
    return play.at(1, play.scheduler.stop).at(2, play.executor.finish, 0).at(3, play.executor.finish, 1).run()


@way("`stop()`, `wait=False`")
def stopped_at_once() -> Row:
    play = Play()
    return play.at(1, play.scheduler.stop).run(wait=False)


@way("`stop()`, `wait=False`, and a process is running its call")
def stopped_processes() -> Row:
    scheduler = Scheduler.with_processes(1)
    play = Play(0, scheduler)
    with Gate() as gate:
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
        gate.when_begun(1, scheduler.stop)
        return play.row(lambda: scheduler.run(wait=False).code.name)


@way("`timeout=`")
def timed_out() -> Row:
    play = Play()
    return play.at(11, play.executor.finish, 0).at(12, play.executor.finish, 1).run(timeout=10)


@way("`timeout=`, `wait=False`")
def timed_out_at_once() -> Row:
    return Play().run(timeout=10, wait=False)


def cancelling(on_cancelled: str) -> Row:
    play = Play()

    def cancel_first() -> None:
        play.scheduler.queue[0].cancel()

    play.at(1, cancel_first).at(2, lambda: play.executor.finish(1))
    return play.run(on_cancelled=on_cancelled)


way('`future.cancel()` of the first, `on_cancelled="continue"`')(lambda: cancelling("continue"))
way('`future.cancel()` of the first, `on_cancelled="end"`')(lambda: cancelling("end"))
way('`future.cancel()` of the first, `on_cancelled="raise"`')(lambda: cancelling("raise"))


@way("the executor breaks")
def broken() -> Row:
    play = Play()
    return play.at(1, play.executor.break_down).run(on_exception="continue")


@way("Ctrl-C")
def interrupted() -> Row:
    play = Play().at(0, signal.raise_signal, signal.SIGINT)
    return play.row(lambda: play.scheduler.run().code.name)


@way("the task that awaits `async_run()` is cancelled")
def task_cancelled() -> Row:
    play = Play()

    async def main() -> str:
        asyncio.get_running_loop().call_later(1, asyncio.current_task().cancel)
        return (await play.scheduler.async_run()).code.name

    return play.row(lambda: run_in_virtual_time(main()))


def table() -> dict[str, Row]:
    """The rows of the page's table."""
    lines = iter(PAGE.read_text().splitlines())
    next(line for line in lines if line.startswith(FIRST_LINE))
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        title, events, outcome = (cell.strip() for cell in line.strip("|").split("|"))
        rows[title] = (events, outcome)
    return rows


@pytest.mark.parametrize("title", WAYS)
def test_the_page_tells_the_events_of_each_way_in_which_a_run_ends(title: str) -> None:
    """The table's row is what a recorder sees in a real run, and how that run ends."""
    assert table()[title] == WAYS[title]()


def test_the_page_tells_of_no_other_way() -> None:
    """Every row of the table is run here."""
    assert list(table()) == list(WAYS)
