"""A finished call is freed by reference counting alone: results may be large and numerous."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Comm, Limiter, Plugin, Retry, Scheduler, SequentialExecutor
from amltk.scheduling.plugins import WarningFilter
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.timeline import Timeline
from tests.helpers.freed import Kept, Thing, counting_references_only

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 5


class ComputeError(Exception):
    """What calls raise in these tests."""


def compute(thing: Thing, how: str, *, comm: Any = None) -> Thing:
    if comm is not None:
        with comm.open():
            comm.send("begun")
    if how == "fails":
        raise ComputeError(thing)
    return Thing()


class DeliveryListener(Plugin):
    """Refers to the call in every way a plugin can."""

    def prepare(self, call: Any) -> bool:
        call.on_end(lambda: call)
        call.on_outcome(lambda outcome: self._review(call, outcome))
        call.kwargs["comm"] = None
        call.function = partial(call.function)
        return True

    def _review(self, call: Any, outcome: Any) -> Any:
        hold = call.future.get_loop().create_future()
        call.future.get_loop().call_soon(lambda: hold.done() or hold.set_result(False))
        hold.add_done_callback(lambda _: call)
        return hold


PLUGINS: dict[str, Callable[[], list[Plugin]]] = {
    "none": list,
    "limiter": lambda: [Limiter(max_calls=CALLS)],
    "queue": lambda: [Limiter(max_concurrent=2, on_limit="queue")],
    "drop": lambda: [Limiter(max_concurrent=2)],
    "retry": lambda: [Retry(attempts=2, wait=0)],
    "comm": lambda: [Comm.Plugin()],
    "filter": lambda: [WarningFilter("error")],
    "one's own": lambda: [DeliveryListener()],
    "all": lambda: [Limiter(max_concurrent=2, on_limit="queue"), Retry(attempts=2, wait=0), DeliveryListener()],
}
HOW = ("returns", "fails", "is cancelled")
WATCHED: tuple[Callable[[Scheduler], object], ...] = (Timeline, QueueMonitor)


def follow_calls(scheduler: Scheduler, plugins: list[Plugin], how: str, kept: Kept) -> dict[str, int]:
    """Run calls of a task, and report what is left of them while the run continues."""
    task = scheduler.task(compute, plugins=plugins)
    task.on_result(lambda _, result: kept.add("result", result))
    task.on_exception(lambda _, error: kept.add("exception", error))
    left: list[dict[str, int]] = []

    def submit() -> None:
        thing = Thing()
        future: Any = task.submit(thing, how)
        kept.add("argument", thing)
        if future is not None:
            kept.add("future", future)
            if how == "is cancelled":
                future.cancel()

    def look(looks: int = 100) -> None:
        if scheduler.empty():
            looks -= 1  # the executor may notice a cancelled call a little later
        if looks and (kept.alive or not scheduler.empty()):
            scheduler.call_later(0, look, looks)
        else:
            left.append(kept.alive)
            scheduler.stop()

    @scheduler.on_start
    def launch() -> None:
        scheduler.call_later(0, look)
        for _ in range(CALLS):
            submit()

    scheduler.run(display=False, end_on_empty=False, on_exception="continue", on_cancelled="continue")
    return left[0]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("plugins", PLUGINS)
def test_nothing_of_a_call_is_left_whatever_plugins_it_has(plugins: str, how: str) -> None:
    """Argument, result, exception and future are freed with the last event, while the run continues."""
    with counting_references_only() as kept:
        assert follow_calls(Scheduler.with_sequential(), PLUGINS[plugins](), how, kept) == {}
        assert kept["argument"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("plugins", ["none", "retry"])
def test_nothing_of_a_call_is_left_where_views_follow_it(plugins: str, how: str) -> None:
    """A timeline and a queue monitor keep what they recorded, and nothing of the calls."""
    with counting_references_only() as kept:
        scheduler = Scheduler.with_sequential()
        views = [view(scheduler) for view in WATCHED]
        assert follow_calls(scheduler, PLUGINS[plugins](), how, kept) == {}
        assert len(views) == 2


def test_a_call_that_is_kept_has_its_future() -> None:
    """Code that keeps the call itself, as plugins may, finds its future and its arguments."""
    calls: list[Any] = []

    class Keeper(Plugin):
        def prepare(self, call: Any) -> bool:
            call.kwargs["how"] = "returns"
            calls.append(call)
            return True

    scheduler = Scheduler.with_sequential()
    task = scheduler.task(compute, plugins=Keeper())
    scheduler.on_start(lambda: task.submit(1, how="fails"))
    scheduler.run(display=False)
    assert isinstance(calls[0].future.result(), Thing)
    assert calls[0].future.call is None
    assert (calls[0].args, calls[0].kwargs) == ((1,), {"how": "fails"})


@pytest.mark.parametrize("in_a_run", [True, False])
def test_what_the_sequential_executor_raises_does_not_keep_its_future(in_a_run: bool) -> None:
    """The frames of the traceback belong to the call, and the surrounding ones have dropped it."""
    executor = SequentialExecutor()
    steps: list[Any] = []
    with counting_references_only() as kept:
        if in_a_run:
            executor.attach(steps.append)
        thing = Thing()
        future = executor.submit(compute, thing, "fails")
        for step in steps:
            step()
        steps.clear()
        assert isinstance(future.exception(), ComputeError)
        kept.add("future", future)
        kept.add("argument", thing)
        del future, thing
        assert kept.alive == {}


def test_an_outcome_that_is_asked_for_and_raises_does_not_keep_its_future() -> None:
    """`future.result()` raises without a frame that contains the future."""
    with counting_references_only() as kept:
        scheduler = Scheduler.with_sequential()

        def ask(future: Any, _: BaseException) -> None:
            kept.add("future", future)
            try:
                future.result()
            except ComputeError:
                pass
            finally:
                del future, _

        scheduler.on_future_exception(ask)
        scheduler.on_start(lambda: scheduler.submit(compute, Thing(), "fails") and None)
        scheduler.run(display=False, on_exception="continue")
        assert kept.alive == {}


def run_plainly(scheduler: Scheduler) -> None:
    scheduler.run(display=False)


def run_in_a_loop(scheduler: Scheduler) -> None:
    async def main() -> None:
        try:
            await scheduler.async_run(display=False)
        except ComputeError:
            pass

    asyncio.run(main())


@pytest.mark.parametrize("run", [run_plainly, run_in_a_loop])
def test_an_exception_that_ends_the_run_is_freed_by_who_catches_it(run: Callable[[Scheduler], None]) -> None:
    """An exception raised by a run has no frame in its traceback that refers to it."""
    with counting_references_only() as kept:
        scheduler = Scheduler.with_sequential()
        scheduler.on_future_exception(lambda _, error: kept.add("exception", error))

        @scheduler.on_start
        def launch() -> None:
            thing = Thing()
            kept.add("argument", thing)
            scheduler.submit(compute, thing, "fails")

        try:
            run(scheduler)
        except ComputeError:
            pass
        assert kept["exception"]
        assert kept.alive == {}


def test_an_exception_that_ends_a_loop_over_results_is_freed_by_who_catches_it() -> None:
    """An exception that ends a loop over results is freed by the code that catches it."""
    with counting_references_only() as kept:
        scheduler = Scheduler.with_sequential()
        task = scheduler.task(compute)
        task.on_exception(lambda _, error: kept.add("exception", error))
        things = (Thing() for _ in range(1))
        try:
            for _ in task.map([(next(things), "fails")], unpack="args").results(display=False):
                pass
        except ComputeError:
            pass
        assert kept["exception"]
        assert kept.alive == {}


def test_a_cancellation_of_a_run_is_freed_by_who_catches_it() -> None:
    """When the task that awaits a run is cancelled, the exception's frames keep nothing alive."""
    tasks: list[asyncio.Task[None]] = []
    with counting_references_only() as kept:

        async def life() -> None:
            scheduler = Scheduler.with_sequential()
            scheduler.on_start(lambda: asyncio.get_running_loop().call_soon(tasks[0].cancel) and None)
            thing = Thing()
            kept.add("argument", thing)
            await scheduler.async_run(end_on_empty=False, display=False)
            del thing

        async def main() -> None:
            tasks.append(asyncio.create_task(life()))
            while not tasks[0].done():  # noqa: ASYNC110 - asyncio.wait() keeps its tasks by itself
                await asyncio.sleep(0)
            assert tasks.pop().cancelled()

        asyncio.run(main())
        assert kept.alive == {}


@pytest.mark.parametrize("raised_in", ["the call", "the callback"])
def test_a_coroutine_of_a_callback_that_raises_is_freed(raised_in: str) -> None:
    """An exception from a callback's coroutine keeps neither its task nor what it awaited."""
    with counting_references_only() as kept:
        scheduler = Scheduler.with_sequential()

        @scheduler.on_start
        async def launch() -> None:
            thing = Thing()
            future = scheduler.submit(compute, thing, "fails" if raised_in == "the call" else "returns")
            kept.add("argument", thing)
            kept.add("future", future)
            kept.add("task", asyncio.current_task())
            awaited, future, thing = [future], None, None  # type: ignore[assignment]
            await awaited.pop()
            raise ComputeError

        scheduler.run(display=False, on_exception="continue", on_callback_exception="end")
        assert kept["task"]
        assert kept.alive == {}
