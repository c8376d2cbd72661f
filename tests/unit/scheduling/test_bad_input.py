"""Invalid input raises at the call, with what is wrong and what is allowed."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import EventNotKnownError, SchedulerNotRunningError, SchedulerRunningError
from amltk.scheduling import Scheduler
from amltk.testing import ManualExecutor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


async def coroutine_function(number: int) -> int:
    return number


def double(number: int) -> int:
    return 2 * number


def make() -> Scheduler:
    return Scheduler(ManualExecutor())


class CoroutineObject:
    async def __call__(self, number: int) -> int:
        return number


@pytest.mark.parametrize("fn", [coroutine_function, partial(coroutine_function, 1), CoroutineObject()])
def test_an_async_function_is_nothing_to_compute(fn: Any) -> None:
    """An async function is rejected: no executor can await, and its coroutine would never be awaited."""
    for use in (make().submit, make().task):
        with pytest.raises(TypeError, match="must be a plain function, not an `async def`"):
            use(fn)


@pytest.mark.parametrize("use", [Scheduler.submit, Scheduler.task])
def test_what_is_computed_can_be_called(use: Any) -> None:
    """A number or another non-callable cannot be computed."""
    with pytest.raises(TypeError, match="=3: must be callable"):
        use(make(), 3)


def generator(*_: Any) -> Iterator[int]:
    yield 1


async def async_generator(*_: Any) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("callback", [generator, partial(generator, 1), async_generator])
def test_a_callback_with_a_yield_is_refused(callback: Any) -> None:
    """To call it makes a generator, and runs nothing of it: it would be a callback that silently does nothing."""
    scheduler = make()
    with pytest.raises(TypeError, match="generator for @start: must not have a `yield`"):
        scheduler.on_start(callback)
    with pytest.raises(TypeError, match="must not have a `yield`"):
        scheduler.task(double).on_result(max_calls=1)(callback)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"every": 0}, ValueError, "every=0: must be at least 1"),
        ({"every": 1.5}, TypeError, "every=1.5: must be a whole number"),
        ({"repeat": -1}, ValueError, "repeat=-1: must be at least 1"),
        ({"repeat": True}, TypeError, "repeat=True: must be a whole number"),
        ({"max_calls": 0}, ValueError, "max_calls=0: must be at least 1"),
        ({"when": 1}, TypeError, "when=1: must be callable"),
        (
            {"max": 3},
            TypeError,
            "max=3: not an option of a subscription; the options are when, every, repeat, max_calls",
        ),
    ],
)
def test_options_of_a_subscription(options: Any, error: type[Exception], text: str) -> None:
    """Options of a subscription are validated immediately, before there is a function to decorate."""
    scheduler = make()
    for subscribe in (scheduler.on_start, partial(scheduler.emitter.on, "start")):
        with pytest.raises(error, match=text):
            subscribe(**options)
    with pytest.raises(error, match=text):
        scheduler.on_start.register(print, **options)
    assert scheduler.emitter.subscriptions("start") == ()


def test_a_misspelt_event_lists_those_that_there_are() -> None:
    """A misspelt event lists the known ones, on the scheduler and on a task, as an attribute and as a name."""
    scheduler = make()
    task = scheduler.task(double)
    with pytest.raises(AttributeError, match=r"'Scheduler' object has no attribute 'on_strat'; its events are"):
        scheduler.on_strat  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"'Task' object has no attribute 'on_results'; .*on_result, on_exception"):
        task.on_results  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(EventNotKnownError, match="Scheduler has no event 'strat'; it has 'start'"):
        scheduler.emitter.on("strat")
    with pytest.raises(AttributeError, match=r"has no attribute 'sumbit'$"):
        scheduler.sumbit  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"timeout": -1}, ValueError, "timeout=-1: must be finite and 0 or more: a number of seconds, a text"),
        ({"timeout": float("nan")}, ValueError, "timeout=nan"),
        (
            {"timeout": "1 parsec"},
            ValueError,
            "timeout='1 parsec': must be .* a text with a unit \\(ms, s, min, h, d\\)",
        ),
        ({"timeout": [1]}, TypeError, "timeout=\\[1\\]: must be .*; not list"),
        ({"wait": 1}, TypeError, "wait=1: must be True or False"),
        ({"end_on_empty": None}, TypeError, "end_on_empty=None"),
        ({"on_exception": "ignore"}, ValueError, "on_exception='ignore': must be one of 'raise', 'end', 'continue'"),
        ({"on_exception": {KeyboardInterrupt: "continue"}}, ValueError, "KeyboardInterrupt cannot be a key"),
        ({"on_exception": {1: "continue"}}, TypeError, "the key 1 must be a type of exception"),
        ({"on_cancelled": "?"}, ValueError, "on_cancelled='\\?'"),
        ({"display": "always"}, ValueError, "display='always': must be True, False, 'auto'"),
    ],
)
def test_options_of_a_run(options: Any, error: type[Exception], text: str) -> None:
    """Options of a run are validated before anything starts; the scheduler can run afterwards."""
    scheduler = make()
    with pytest.raises(error, match=text):
        scheduler.run(**options)
    assert not scheduler.running()


def test_an_executor_and_its_termination() -> None:
    """An object that is not an executor is rejected, and the message says what makes one."""
    with pytest.raises(TypeError, match=r"executor=2: must be a concurrent.futures.Executor, not int; Scheduler.with_"):
        Scheduler(2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="terminate='no': must be True, False or a function"):
        Scheduler(ManualExecutor(), terminate="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "use",
    [
        lambda scheduler: scheduler.submit(double, 1),
        lambda scheduler: scheduler.task(double).submit(1),
        lambda scheduler: scheduler.call_later(1, print),
    ],
)
def test_before_the_run(use: Callable[[Scheduler], Any]) -> None:
    """Before @start nothing is accepted, and the message names @start."""
    with pytest.raises(SchedulerNotRunningError, match="the scheduler is not running; do it in a callback of @start"):
        use(make())


def test_a_second_run_at_once() -> None:
    """The same scheduler cannot run twice at the same time."""
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(scheduler.run)
    with pytest.raises(SchedulerRunningError, match=r"already running; call stop\(\) first, or use another Scheduler"):
        scheduler.run()


def test_a_result_that_is_not_there_yet() -> None:
    """The error for a missing result says where the result will be."""
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: scheduler.submit(double, 1).result())
    with pytest.raises(
        asyncio.InvalidStateError, match=r"the call double\(1\) has not ended: take its result in a call"
    ):
        scheduler.run()


def test_html_of_schedulers_and_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook shows the tree, or without rich the repr, as for any other object."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(double)
    assert "@future-result" in (scheduler._repr_html_() or "")
    assert "double" in (task._repr_html_() or "")
    monkeypatch.delitem(sys.modules, "amltk.display.export")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert scheduler._repr_html_() is None
