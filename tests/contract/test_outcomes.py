"""On every executor, arguments arrive unchanged, and outcomes are delivered unchanged."""

from __future__ import annotations

import asyncio
import builtins
import functools
import traceback
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling import ExitState, Limiter
from tests.contract import work
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Scheduler
    from amltk.scheduling.executors import Capabilities
    from tests.contract.backends import ExecutorAdapter

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)

AWKWARD_NAMES = (
    # Names that executors, schedulers, decorators and libraries tend to use for their own arguments.
    *("self", "cls", "fn", "func", "function", "f", "args", "kwargs", "callback", "event", "future", "task", "name"),
    *("key", "keys", "retries", "workers", "resources", "priority", "actor", "pure", "allow_other_workers"),
    *("timeout", "wait", "delay", "when", "every", "repeat", "max_calls", "hidden", "scheduler", "executor", "plugins"),
    *("exception", "stop_msg", "on_exception", "chunksize", "initializer", "context", "loop", "channel", "run"),
)


def compute(scheduler: Scheduler, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run one call and return its result."""
    results: list[Any] = []
    scheduler.on_start(lambda: scheduler.submit(fn, *args, **kwargs))
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    (result,) = results
    return result


def failure(scheduler: Scheduler, fn: Callable[..., Any], /, *args: Any) -> BaseException:
    """Run a failing call and then a working one; return the exception of the first."""
    results: list[Any] = []
    errors: list[BaseException] = []
    scheduler.on_start(lambda: scheduler.submit(fn, *args))
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.on_future_exception(lambda _, error: errors.append(error))
    scheduler.on_future_exception(lambda *_: scheduler.submit(work.double, 4))
    assert scheduler.run(on_exception="continue") == EXHAUSTED
    assert results == [8]
    (error,) = errors
    return error


# ---------------------------------------------------------------------------------------------------------- results


def test_a_result_arrives(scheduler: Scheduler) -> None:
    """The result comes with the event and is in the future that `submit` returned."""
    seen: list[Any] = []

    @scheduler.on_start
    def launch() -> None:
        seen.append(scheduler.submit(work.double, 21))

    @scheduler.on_future_result
    def note(future: asyncio.Future[int], result: int) -> None:
        seen.extend([future, result, future.result()])

    assert scheduler.run() == EXHAUSTED
    assert seen == [seen[0], seen[0], 42, 42]
    assert seen[0].done()


@pytest.mark.parametrize(
    "value",
    [None, False, 0, "", (), b"\x00" * 3_000_000, ValueError("returned, not raised"), NotImplemented, ..., "☃\udc80"],
    ids=["None", "False", "0", "empty", "tuple", "3MB", "exception", "NotImplemented", "Ellipsis", "surrogate"],
)
def test_every_value_makes_the_round_trip(scheduler: Scheduler, value: Any) -> None:
    """Values that are falsy, large or easily mistaken for something else survive the round trip."""
    (arrived,), _ = compute(scheduler, work.echo, value)
    assert repr(arrived) == repr(value)


def test_a_value_is_never_asked_anything(scheduler: Scheduler) -> None:
    """A result that, like an array, cannot be compared, tested, measured or shown is passed on untouched."""
    seen: list[type] = []
    task = scheduler.task(work.Unhelpful)
    scheduler.on_start(task.submit)
    task.on_result(lambda _, result: seen.append(type(result)))
    assert scheduler.run() == EXHAUSTED
    assert seen == [work.Unhelpful]


def test_equal_calls_are_separate_calls(scheduler: Scheduler) -> None:
    """The same function with the same arguments is computed each time it is submitted, each with its own future."""
    futures: list[asyncio.Future[str]] = []
    tokens: list[str] = []

    @scheduler.on_start(repeat=10)
    def launch() -> None:
        futures.append(scheduler.submit(work.token))

    scheduler.on_future_result(lambda _, result: tokens.append(result))
    assert scheduler.run() == EXHAUSTED
    assert len({id(future) for future in futures}) == 10
    assert len(set(tokens)) == 10
    assert sorted(future.result() for future in futures) == sorted(tokens)


# -------------------------------------------------------------------------------------------------------- arguments


def test_keyword_arguments_of_any_name_arrive(scheduler: Scheduler) -> None:
    """No layer takes a keyword argument of the function as its own."""
    given = {name: n for n, name in enumerate(AWKWARD_NAMES)}
    assert compute(scheduler, work.echo, 1, **given) == ((1,), given)


def test_keyword_arguments_of_any_name_arrive_through_a_task(scheduler: Scheduler) -> None:
    """Keyword arguments also pass through a task with a plugin; its callbacks get them, with and without options."""
    given = {name: n for n, name in enumerate(AWKWARD_NAMES)}
    task = scheduler.task(work.echo, plugins=Limiter(max_calls=1))
    told: list[Any] = []
    results: list[Any] = []

    @task.on_submitted
    @task.on_submitted(every=1, max_calls=5)
    @task.on(Limiter.CALL_LIMIT_REACHED)
    def note(_first: Any, /, *args: Any, **kwargs: Any) -> None:
        told.append((args, kwargs))

    @scheduler.on_start(repeat=2)
    def launch() -> None:
        task.submit(1, **given)

    task.on_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    assert results == [((1,), given)]
    assert told == [((1,), given)] * 3
    assert task(1, **given) == ((1,), given)


def test_what_cannot_be_pickled_travels_or_fails_alone(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """An argument that cannot leave the process fails that call, or arrives if nothing leaves the process."""
    lock = work.make_lock()
    if capabilities.shares_objects:
        (arrived,), _ = compute(scheduler, work.echo, lock)
        assert arrived is lock
    else:
        assert "pickle" in str(failure(scheduler, work.echo, lock))


def test_a_result_that_cannot_be_pickled_is_an_exception(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """A result that cannot leave its process fails that call; the run and its workers go on."""
    if capabilities.shares_objects:
        assert compute(scheduler, work.make_lock).acquire(blocking=False)
    else:
        assert "pickle" in str(failure(scheduler, work.make_lock))


# -------------------------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize(
    ("fn", "args", "result"),
    [
        (pow, (2, 10), 1024),
        (int, ("12",), 12),
        (functools.partial(work.double, 4), (), 8),
        (work.Adder(2), (3,), 5),
        (work.Adder(2).add, (3,), 5),
        ("a-b".split, ("-",), ["a", "b"]),
        (functools.partial(functools.partial(pow, 2), 3), (), 8),
    ],
    ids=["builtin", "class", "partial", "object", "bound method", "method of a builtin", "partial of partial"],
)
def test_everything_callable_is_computed(scheduler: Scheduler, fn: Any, args: tuple[Any, ...], result: Any) -> None:
    """Any callable can be computed, not only a plain function of a module."""
    assert compute(scheduler, fn, *args) == result


def test_closures_are_computed_as_claimed(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """A closure is computed exactly where the capabilities say so; elsewhere it fails that call."""
    add_two = work.make_closure(2)
    if capabilities.closures:
        assert compute(scheduler, add_two, 3) == 5
    else:
        assert "make_closure" in str(failure(scheduler, add_two, 3))


def test_functions_of_the_main_program_are_computed(backend: ExecutorAdapter) -> None:
    """A function, a class and an exception defined in the main program can be used in calls."""
    ended = run_script(f"""
        {backend.preparation.replace(chr(10), "; ")}

        class Point:
            def __init__(self, x):
                self.x = x

        class OwnError(Exception):
            pass

        def move(point):
            if point.x < 0:
                raise OwnError("below zero")
            return Point(point.x + 1)

        if __name__ == "__main__":
            workers = 2
            scheduler = {backend.expression}
            scheduler.on_start(lambda: [scheduler.submit(move, Point(x)) for x in (1, -1)])
            scheduler.on_future_result(lambda _, result: print(type(result) is Point, result.x))
            scheduler.on_future_exception(lambda _, error: print(type(error) is OwnError, error))
            print(scheduler.run(on_exception="continue").code.name)
        """)
    assert (ended.code, ended.errors) == (0, "")
    assert sorted(ended.lines) == ["EXHAUSTED", "True 2", "True below zero"]


# ------------------------------------------------------------------------------------------------------- exceptions


def test_an_exception_says_where_it_was_raised(scheduler: Scheduler) -> None:
    """The exception of a call is delivered with the original traceback, whatever process raised it."""
    error = failure(scheduler, work.raise_it, work.FancyError("diverged", code=7))
    assert type(error) is work.FancyError
    assert str(error) == "diverged"
    assert error.code == 7
    text = "".join(traceback.format_exception(error))
    assert "in raise_it\n" in text
    assert "work.py" in text


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("x"), KeyError("x"), OSError(2, "no such thing")),
        *(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), RecursionError("mine")),
        *(StopIteration(7), StopAsyncIteration(7), CancelledError("mine"), TimeoutError("mine")),
        *(asyncio.InvalidStateError("mine"), ExceptionGroup("several", [ValueError(1), KeyError(2)])),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_is_an_ordinary_event(scheduler: Scheduler, error: Exception) -> None:
    """No exception type has a special meaning on its way through executors, futures and coroutines."""
    arrived = failure(scheduler, work.raise_it, error)
    assert type(arrived) is type(error)
    assert repr(arrived) == repr(error)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), GeneratorExit(), asyncio.CancelledError("mine"), work.StubbornError(1), KeyboardInterrupt("mine")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_exception_is_an_ordinary_event(
    make: Callable[..., Scheduler], error: BaseException, capabilities: Capabilities
) -> None:
    """What a call raises is its outcome, even outside `Exception`, except a KeyboardInterrupt on the loop's thread."""
    scheduler = make()
    if capabilities.in_loop and isinstance(error, KeyboardInterrupt):
        scheduler.on_start(lambda: scheduler.submit(work.raise_it, error))
        with pytest.raises(KeyboardInterrupt):
            scheduler.run(on_exception="continue")
        assert scheduler.event_counts[scheduler.FUTURE_CANCELLED] == 1
        return
    arrived = failure(scheduler, work.raise_it, error)
    assert type(arrived) is type(error)
    assert repr(arrived) == repr(error)
    for policy in ("raise", {ValueError: "continue"}):
        scheduler = make()
        scheduler.on_start(lambda scheduler=scheduler: [scheduler.submit(work.raise_it, error) for _ in range(2)])
        with pytest.raises(type(error)):
            scheduler.run(on_exception=policy)
        assert scheduler.event_counts[scheduler.FUTURE_EXCEPTION] == 2  # it is waited for, as after any exception


def test_an_exception_that_cannot_be_pickled_is_an_event(scheduler: Scheduler, capabilities: Capabilities) -> None:
    """An exception that holds a lock is delivered as it is, or as the failure to transfer it; the run goes on."""
    error = failure(scheduler, work.raise_with_lock)
    if capabilities.shares_objects:
        assert type(error) is work.LockedError
    else:
        assert "LockedError" in "".join(traceback.format_exception(error))


def test_an_exception_that_cannot_be_unpickled_costs_what_a_crash_costs(
    make: Callable[..., Scheduler], capabilities: Capabilities
) -> None:
    """An exception class with a broken `__reduce__` fails its call, or breaks a pool that cannot pickle by value."""
    scheduler = make()
    if capabilities.closures:
        assert "1 and 2" in "".join(traceback.format_exception(failure(scheduler, work.raise_two_part)))
    else:
        scheduler.on_start(lambda: scheduler.submit(work.raise_two_part))
        with pytest.raises(ExecutorBrokenError):
            scheduler.run(on_exception="continue")


def test_a_future_of_stop_iteration_can_be_awaited(scheduler: Scheduler) -> None:
    """An `async def` callback that awaits a future whose call raised `StopIteration` sees an error, and continues."""
    seen: list[BaseException] = []

    @scheduler.on_start
    async def launch() -> None:
        try:
            await scheduler.submit(work.raise_it, StopIteration(7))
        except RuntimeError as error:
            seen.append(error)

    assert scheduler.run(on_exception="continue") == EXHAUSTED
    (error,) = seen
    assert type(error.__cause__) is StopIteration


def test_stop_iteration_can_be_raised_by_the_run(make: Callable[..., Scheduler]) -> None:
    """With `on_exception="raise"` `run` raises the StopIteration itself, and `async_run` as far as Python allows."""
    scheduler = make()
    scheduler.on_start(lambda: scheduler.submit(work.raise_it, StopIteration(7)))
    with pytest.raises(StopIteration):
        scheduler.run()

    scheduler = make()
    scheduler.on_start(lambda: scheduler.submit(work.raise_it, StopIteration(7)))
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        asyncio.run(scheduler.async_run())
    assert type(caught.value.__cause__) is StopIteration


def test_every_builtin_exception_is_covered_or_alike() -> None:
    """The exceptions above that asyncio and generators treat specially are all that Python has."""
    special = {"StopIteration", "StopAsyncIteration", "GeneratorExit", "KeyboardInterrupt", "SystemExit"}
    outside = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException) and not issubclass(value, Exception)
    }
    assert outside - special == {"BaseException", "BaseExceptionGroup"}
