"""Numbers and durations as arguments: every valid form is accepted everywhere, and others get the same message."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from amltk._checks import check_optional_bytes, check_optional_seconds, check_seconds
from amltk.scheduling import Limiter, Limits, Retry, Scheduler
from amltk.scheduling.executors import CallLimits, ProcessPool
from amltk.scheduling.executors.registry import workers_of
from amltk.scheduling.plugins.comm import Comm
from amltk.scheduling.queue_monitor import QueueMonitor
from amltk.scheduling.timeline import Timeline
from amltk.testing import ManualExecutor, SimulatedExecutor, run_in_virtual_time
from amltk.types import Requeue


class Two:
    """An integer type of another library."""

    def __index__(self) -> int:
        return 2


def scheduler() -> Scheduler:
    return Scheduler(ManualExecutor())


def wait_for_capacity(in_flight: Any) -> None:
    one = scheduler()

    @one.on_start
    async def wait() -> None:
        await one.wait_for_capacity(in_flight)

    run_in_virtual_time(one.async_run())


COUNTS: dict[str, Callable[[Any], object]] = {
    "every": lambda n: scheduler().on_start.register(print, every=n),
    "repeat": lambda n: scheduler().on_start.register(print, repeat=n),
    "max_calls": lambda n: scheduler().on_start.register(print, max_calls=n),
    "Limiter max_calls": lambda n: Limiter(max_calls=n),
    "max_concurrent": lambda n: Limiter(max_concurrent=n),
    "attempts": lambda n: Retry(attempts=n),
    "lost_workers": lambda n: Retry(lost_workers=n),
    "in_flight": lambda n: scheduler().task(abs).map([], in_flight=n),
    "wait_for_capacity in_flight": wait_for_capacity,
    "max_records": lambda n: Timeline(scheduler(), max_records=n),
    "max_workers": lambda n: ProcessPool(n).shutdown(),
    "max_tasks_per_child": lambda n: ProcessPool(1, max_tasks_per_child=n).shutdown(),
    "with_processes max_workers": Scheduler.with_processes,
    "with_threads max_workers": Scheduler.with_threads,
    "n_workers": lambda n: SimulatedExecutor(n),
    "n": lambda n: Requeue.from_func(int, n),
}

NUMBERS: dict[str, Callable[[Any], object]] = {
    "factor": lambda n: Retry(factor=n),
    "jitter": lambda n: Retry(jitter=n / 2 if isinstance(n, float) else 0),
    "memory": lambda n: Limits(memory=n),
}


def run(timeout: Any) -> None:
    run_in_virtual_time(scheduler().async_run(timeout=timeout))


def call_later(delay: Any) -> None:
    one = scheduler()
    one.on_start(lambda: one.call_later(delay, print))
    run_in_virtual_time(one.async_run())


def request(comm: Comm, timeout: Any) -> Any:
    return comm.request(1, timeout=timeout)


def in_a_call(timeout: Any, use: Callable[[Comm, Any], Any]) -> Any:
    """Use a comm in a call; its requests are answered."""
    one = Scheduler.with_threads(1)
    task = one.task(partial(_compute, use, timeout), plugins=Comm.Plugin())
    results: list[Any] = []
    task.on(Comm.REQUEST)(lambda msg: msg.respond("answer"))
    task.on(Comm.OPEN)(lambda msg: msg.comm.send("answer"))
    one.on_start(task.submit)
    task.on_result(lambda _, result: results.append(result))
    one.run(display=False)
    return results


def _compute(use: Callable[[Comm, Any], Any], timeout: Any, comm: Comm) -> Any:
    with comm.open():
        return use(comm, timeout)


DURATIONS: dict[str, Callable[[Any], object]] = {
    "timeout": run,
    "results timeout": lambda t: list(scheduler().task(abs).map([]).results(timeout=t)),
    "delay": call_later,
    "wait": lambda t: Retry(wait=t),
    "max_wait": lambda t: Retry(max_wait=t),
    "wall_time": lambda t: Limits(wall_time=t),
    "cpu_time": lambda t: Limits(cpu_time=t),
    "CallLimits wall_time": lambda t: CallLimits(wall_time=t),
    "CallLimits cpu_time": lambda t: CallLimits(cpu_time=t),
    "exit_timeout": lambda t: ProcessPool(1, exit_timeout=t).shutdown(),
    "with_processes exit_timeout": lambda t: Scheduler.with_processes(1, exit_timeout=t),
    "duration": lambda t: SimulatedExecutor(1, t),
    "request timeout": lambda t: in_a_call(t, request),
    "receive timeout": lambda t: in_a_call(t, lambda comm, timeout: comm.receive(timeout=timeout)),
}

WAYS = ["1 h", "3600", " 60min ", "3_600.0 S", "3.6e6 ms", "1.h", timedelta(hours=1), 3600, 3600.0, Fraction(3600)]


@pytest.mark.parametrize("argument", COUNTS)
def test_a_count_may_be_of_any_library(argument: str) -> None:
    """Any object with `__index__` is an integer."""
    COUNTS[argument](Two())


@pytest.mark.parametrize("value", [True, 2.0, "2", [2]])
@pytest.mark.parametrize("argument", COUNTS)
def test_what_is_no_count_is_refused_in_the_same_words(argument: str, value: Any) -> None:
    """A value that is not a count, such as a bool, gets a message with the argument, the value and its type."""
    with pytest.raises(TypeError) as caught:
        COUNTS[argument](value)
    message = str(caught.value)
    assert message.startswith(f"{argument.rsplit(maxsplit=1)[-1]}={value!r}: must be a whole number, at least ")
    assert message.endswith(f", not {type(value).__name__}")


@pytest.mark.parametrize("argument", NUMBERS)
def test_a_number_may_be_of_any_library(argument: str) -> None:
    """A `numbers.Real` is a number, and so is any object with `__index__`."""
    NUMBERS[argument](Fraction(3, 2))
    NUMBERS[argument](Two())


def test_numbers_are_kept_as_pythons_own() -> None:
    """Numbers are kept as Python's own: they display as such, and can be sent to workers without that library."""
    limiter, retry = Limiter(max_calls=Two()), Retry(factor=Fraction(3, 2), lost_workers=Two(), seed=Two())  # type: ignore[arg-type]
    kept = (limiter.max_calls, retry.factor, retry.lost_workers, Limits(memory=Fraction(10**9)).limits.memory)  # type: ignore[arg-type]
    assert kept == (2, 1.5, 2, 10**9)
    assert [type(number) for number in kept] == [int, float, int, int]


def test_seeds_of_other_libraries_are_as_good() -> None:
    """A seed of another library's number type gives the same waits."""
    assert Retry(seed=Two())._random.random() == Retry(seed=2)._random.random()  # type: ignore[arg-type]


def test_a_size_of_an_executor_may_be_of_any_library() -> None:
    """The number of workers is known, whatever number type the owner used."""
    with ThreadPoolExecutor(2) as executor:
        executor._max_workers = Two()  # type: ignore[attr-defined]
        assert workers_of(executor) == 2


@pytest.mark.parametrize("argument", DURATIONS)
@pytest.mark.parametrize("value", ["1 h", timedelta(hours=1), Fraction(3600), Two()])
def test_each_duration_takes_each_form(argument: str, value: Any) -> None:
    """Seconds, a string with a unit or a timedelta: wherever there is a duration."""
    DURATIONS[argument](value)


@pytest.mark.parametrize("value", WAYS)
def test_an_hour_is_an_hour(value: Any) -> None:
    """All these forms give the same number of seconds."""
    assert check_seconds("timeout", value) == 3600.0
    assert type(check_seconds("timeout", value)) is float


def test_a_run_ends_after_the_text() -> None:
    """`timeout="1 h"` is an hour of the run's clock."""
    one = Scheduler(SimulatedExecutor(1, timedelta(minutes=50)))
    one.on_start(lambda: [one.submit(print) for _ in range(2)])
    state = run_in_virtual_time(one.async_run(timeout="1 h", wait=False))
    assert state.code.name == "TIMEOUT"
    assert one.event_counts[one.FUTURE_RESULT] == 1


@pytest.mark.parametrize("argument", DURATIONS)
@pytest.mark.parametrize("value", [-1, "-1 s", math.nan, math.inf, "1 parsec", "", "s", "1__0 s", timedelta(-1)])
def test_what_is_no_duration_is_refused_in_the_same_words(argument: str, value: Any) -> None:
    """An invalid duration gets a message with the argument, the value, the units and the other forms."""
    with pytest.raises(ValueError, match="must be") as caught:
        DURATIONS[argument](value)
    message = str(caught.value)
    assert message.startswith(f"{argument.rsplit(maxsplit=1)[-1]}={value!r}: must be finite and ")
    assert "a number of seconds, a text with a unit (ms, s, min, h, d) or a timedelta" in message


@pytest.mark.parametrize("value", [True, [1], object, b"1 s"])
def test_what_cannot_be_one_is_a_type_error(value: Any) -> None:
    """A value that is neither a number, nor a string, nor a timedelta is a TypeError."""
    with pytest.raises(TypeError, match=f"must be finite and 0 or more.*; not {type(value).__name__}"):
        check_seconds("timeout", value)
    with pytest.raises(TypeError, match=f"number of bytes.*; not {type(value).__name__}"):
        check_optional_bytes("memory", value)


def test_none_is_no_limit() -> None:
    """None means no limit, and the message says so where it is allowed."""
    assert check_optional_seconds("timeout", None) is None
    with pytest.raises(ValueError, match="or None for no limit"):
        check_optional_seconds("timeout", -1)
    with pytest.raises(TypeError) as caught:
        check_seconds("delay", None)
    assert "None for" not in str(caught.value)


def test_a_number_that_is_too_large_is_refused() -> None:
    """An int too large for a float is not finite, and neither is such a memory size."""
    for check in (partial(check_seconds, "timeout"), partial(check_optional_bytes, "memory")):
        with pytest.raises(ValueError, match="must be finite"):
            check(10**400)
        with pytest.raises(ValueError, match="must be finite"):
            check("1e999 s")


def test_the_queue_monitor_checks_its_number() -> None:
    """`n_workers` of its table is a count like others."""
    monitor = QueueMonitor(scheduler())
    with pytest.raises(TypeError, match=r"n_workers=2.5: must be a whole number, at least 1, or None, not float"):
        monitor.df(n_workers=2.5)  # type: ignore[arg-type]
