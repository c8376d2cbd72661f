"""What a no-op task costs: the scheduler's own calls and instructions, on any machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.events import Event
from amltk.scheduling.future import Future
from amltk.testing import SimulatedExecutor, run_in_virtual_time
from tests.costs.counting import calls, instructions, most_bytes, per_task
from tests.costs.executors import AtOnce, Conveyor, Work

pytestmark = pytest.mark.usefixtures("one_slice")

IN_FLIGHT = 8
HOUR_SECONDS = 3600.0
WINDOW = 20
"""Tasks over which the cost of one is counted while many are pending."""

BOTH = pytest.mark.parametrize(("meter", "rounding"), [(calls, 0.5), (instructions, 5.0)])
"""The end of a run takes one loop iteration more or less: this is more than a task's share and less than an event."""


def no_op(number: int = 0) -> int:
    return number


def ways_to_submit(scheduler: Scheduler, how: str) -> tuple[Callable[[int], object], Any]:
    """A function that submits, and one that subscribes to results."""
    if how == "scheduler":
        return partial(scheduler.submit, no_op), scheduler.on_future_result
    task = scheduler.task(no_op)
    return task.submit, task.on_result


def in_flight(how: str, tasks: int, *, display: bool = False) -> None:
    """Two callbacks, one of which submits the next task: the program of the benchmark."""
    scheduler = Scheduler(AtOnce())
    submit, on_result = ways_to_submit(scheduler, how)
    numbers = iter(range(tasks))

    @scheduler.on_start
    def launch() -> None:
        for number in islice(numbers, IN_FLIGHT):
            submit(number)

    @scheduler.on_future_done
    def on_done(future: Any) -> None:
        pass

    @on_result
    def go_on(future: Any, result: int) -> None:
        for number in islice(numbers, 1):
            submit(number)

    scheduler.run(display=display)


def unheard(tasks: int, *, strangers: int = 0) -> None:
    """No subscribers; there may be events that never happen."""
    scheduler = Scheduler(AtOnce())
    task = scheduler.task(no_op)
    for emitter in (scheduler.emitter, task):
        emitter.add_event(*(Event(f"stranger-{number}") for number in range(strangers)))

    @scheduler.on_start
    def launch() -> None:
        for number in range(tasks):
            task.submit(number)

    scheduler.run(display=False)


@pytest.mark.parametrize("how", ["scheduler", "task"])
def test_calls_of_a_task(how: str, at_most: Callable[..., None]) -> None:
    """A task and its two callbacks take 40 calls, including those of the executor and the callbacks."""
    cost = per_task(calls, partial(in_flight, how))
    at_most(f"calls per task, {how}", cost.total, 42, cost)


@pytest.mark.parametrize("how", ["scheduler", "task"])
def test_instructions_of_a_task(how: str, at_most: Callable[..., None]) -> None:
    """A task and its two callbacks take 630 bytecode instructions on the version that needs the most."""
    cost = per_task(instructions, partial(in_flight, how))
    at_most(f"instructions per task, {how}", cost.total, 680, cost)


@pytest.mark.parametrize(("meter", "bound"), [(calls, 39), (instructions, 605)])
def test_events_that_nobody_hears_are_only_counted(meter: Any, bound: float, at_most: Callable[..., None]) -> None:
    """Without subscribers the six events of a task are not queued: 38 calls and 580 instructions are all it takes."""
    cost = per_task(meter, unheard)
    at_most(f"{meter.__name__} per unheard task", cost.total, bound, cost)


@BOTH
def test_events_that_do_not_happen_cost_nothing(meter: Any, rounding: float) -> None:
    """A thousand further events of the scheduler and the task, without subscribers, make no difference."""
    without, with_them = per_task(meter, unheard), per_task(meter, partial(unheard, strangers=1000))
    assert with_them.total == pytest.approx(without.total, abs=rounding), str(with_them)


@BOTH
def test_a_display_costs_no_task_anything(
    meter: Any, rounding: float, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A display samples a run now and then: the cost of each task is the same with it."""
    monkeypatch.setattr("amltk.display.live.LiveDisplay.stop", lambda display: display._observer.close())
    monkeypatch.setattr("amltk.scheduling._loop.refresh.MIN_REFRESH_SECONDS", HOUR_SECONDS)  # more on a busy machine
    without, with_it = (per_task(meter, partial(in_flight, "task", display=shown)) for shown in (False, True))
    assert with_it.total == pytest.approx(without.total, abs=rounding), str(with_it)


def test_redraws_do_not_depend_on_the_number_of_events(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A minute of a run is drawn four times a second, whether with ten tasks or ten thousand."""

    def redraws(tasks: int) -> int:
        drawn: list[object] = []
        monkeypatch.setattr("amltk.display.live.LiveDisplay.refresh", lambda display: drawn.append(display))
        scheduler = Scheduler(SimulatedExecutor(10, lambda *_: 600 / tasks))
        scheduler.on_start(lambda: [scheduler.submit(no_op, number) for number in range(tasks)])
        run_in_virtual_time(scheduler.async_run(display=True))
        return len(drawn)

    few, many = redraws(10), redraws(10_000)
    assert few in range(239, 243)
    assert many == pytest.approx(few, abs=1)


def test_ends_told_by_another_thread_wake_the_loop_once() -> None:
    """A thousand futures that end while the loop is busy write to its socket once, not a thousand times."""
    executor = Conveyor()
    scheduler = Scheduler(executor)
    sent: list[float] = []

    def end_all() -> None:
        with calls() as cost:
            executor.shutdown()
        sent.append(cost["socket.send"])

    @scheduler.on_start
    def launch() -> None:
        for number in range(1000):
            scheduler.submit(no_op, number)
        scheduler.call_later(0, end_in_thread)

    def end_in_thread() -> None:
        thread = threading.Thread(target=end_all)
        thread.start()
        thread.join()

    scheduler.run(display=False)
    assert sent[0] <= 1


@pytest.mark.parametrize(("meter", "slack"), [(calls, 0), (instructions, 0), (most_bytes, 4096)])
def test_a_task_costs_the_same_however_many_are_pending(
    meter: Any, slack: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in and one out: with 10,000 pending as with 1,000, nothing is searched, compared or copied."""

    def equal(one: object, other: object) -> bool:
        return one is other  # a call that can be counted; otherwise a list search is a single invisible step

    for kind in (Future, Work):
        monkeypatch.setattr(kind, "__eq__", equal, raising=False)
    few, many = (
        one_in_one_out(1_000, meter),
        one_in_one_out(10_000, meter),
    )  # with more, a regression would take far too long
    assert many == pytest.approx(few, abs=slack)


def one_in_one_out(pending: int, meter: Any) -> int:
    """The cost of some tasks while this many others are pending."""
    executor = Conveyor()
    scheduler = Scheduler(executor)
    task = scheduler.task(no_op)
    go_on = task.register(task.RESULT, lambda *_: task.submit())
    counters: list[Any] = []

    async def count() -> None:
        for _ in range(2):
            with meter() as counter:
                for _ in range(WINDOW):
                    executor.end_oldest()
                    await asyncio.sleep(0)
            counters.append(counter)
        go_on.end()
        scheduler.stop()

    @scheduler.on_start
    def launch() -> None:
        for _ in range(pending):
            task.submit()
        scheduler.call_later(0, count)

    scheduler.run(display=False, wait=False)
    return sum(counters[-1].values())
