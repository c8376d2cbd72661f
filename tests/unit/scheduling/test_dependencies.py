"""Futures as arguments: they are computed first, and their results are passed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import operator
import threading
import weakref
from concurrent.futures import BrokenExecutor
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import DependencyError, ExecutorBrokenError, FutureCancelledError
from amltk.scheduling import ExitState, Limiter, Scheduler
from amltk.scheduling.plugins import Retry
from amltk.testing import EventRecorder, ManualExecutor, SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

Code = ExitState.Code


def same(value: Any = None, *values: Any, **named: Any) -> Any:
    return (value, *values, named) if values or named else value


def inc(number: int) -> int:
    return number + 1


def fail(*_: Any) -> Any:
    raise ValueError("no")


def simulate(start: Callable[[Scheduler], Any], **options: Any) -> ExitState:
    """Run what the `@start` callback submits, a second per call."""
    scheduler = Scheduler(SimulatedExecutor(4, duration=1, outcome=operator.call))
    scheduler.on_start(lambda: start(scheduler))
    return run_in_virtual_time(scheduler.async_run(**{"display": False, "on_exception": "continue"} | options))


class Manual:
    """A run whose calls the test completes."""

    def __init__(self) -> None:
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor)
        self.first = self.scheduler.task(inc)
        self.second = self.scheduler.task(same)
        self.recorder = EventRecorder(self.scheduler, self.first, self.second)

    def run(self, *steps: Callable[[], Any], **options: Any) -> ExitState:
        """Run these steps, the first in `@start`, each when nothing is left to happen."""
        self.scheduler.on_start(steps[0])
        for number, step in enumerate(steps[1:], 1):
            self.scheduler.on_start(lambda number=number, step=step: self.scheduler.call_later(number, step))
        default = {"display": False, "on_exception": "continue", "on_cancelled": "continue", "timeout": 1000}
        return run_in_virtual_time(self.scheduler.async_run(**default | options))

    @property
    def given(self) -> list[Any]:
        """The arguments that the executor got."""
        return [submission.args for submission in self.executor.submissions]


# ------------------------------------------------------------------ what is passed


def test_the_result_takes_the_place_of_the_future() -> None:
    """Results replace futures by position, by name, and in nested containers; other arguments stay the same object."""
    got: list[Any] = []
    plain = [1, 2]

    def start(scheduler: Scheduler) -> None:
        a, b = scheduler.submit(same, "a"), scheduler.submit(same, "b")
        call = scheduler.submit(same, a, [b, {"x": (a, 1)}], plain, name={"b": [b]})
        got.append(call)

    assert simulate(start).code is Code.EXHAUSTED
    assert got[0].result() == ("a", ["b", {"x": ("a", 1)}], [1, 2], {"name": {"b": ["b"]}})
    assert got[0].result()[2] is plain
    assert [type(arg).__name__ for arg in got[0].args] == ["Future", "list", "list"]


def test_a_container_with_a_future_is_copied_and_the_one_given_stays_as_it_is() -> None:
    """A container with a future is copied; the original stays unchanged, and the program may continue to use it."""
    given: list[Any] = []
    simulate(lambda scheduler: (given.append(scheduler.submit(inc, 1)), scheduler.submit(len, given)))
    assert not isinstance(given[0], int)


def test_the_same_future_twice_in_one_call() -> None:
    """A future used twice in one call is waited for once, and passed twice."""
    got: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        one = scheduler.submit(inc, 1)
        got.append(scheduler.submit(same, one, one, [one]))
        assert got[0].dependencies == (one,)

    simulate(start)
    assert got[0].result() == (2, 2, [2], {})


def test_none_of_the_executors_calls_begins_before_its_arguments_are_there() -> None:
    """A diamond: the executor gets each call when the calls it depends on have ended."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        top = run.first.submit(1)
        left, right = run.first.submit(top.as_argument()), run.first.submit(top.as_argument())
        futures.extend((top, left, right, run.second.submit(left, right)))

    run.run(
        submit,
        lambda: (len(run.given) == 1 or pytest.fail("early"), run.executor.finish(0, 10)),
        lambda: run.executor.finish(2, 30),
        lambda: (len(run.given) == 3 or pytest.fail("early"), run.executor.finish(1, 20)),
        lambda: run.executor.compute(3),
    )
    assert run.given == [(1,), (10,), (10,), (20, 30)]
    assert futures[3].result() == (20, 30, {})
    assert [future.number for future in futures] == [0, 1, 2, 3]


def test_the_submission_is_announced_at_once_with_what_was_given() -> None:
    """`@submitted` comes at the submission, although the executor gets the call later; nothing comes twice."""
    run = Manual()
    dependent: list[Any] = []
    seen: list[Any] = []
    run.second.on_submitted(lambda future, *args: seen.append((future, args, len(run.given))))

    def submit() -> None:
        one = run.first.submit(1)
        dependent.append(run.second.submit(one))
        assert run.scheduler.queue == [one, dependent[0]]
        assert run.second.n_pending == 1

    run.run(submit, lambda: run.executor.finish(0, 2), lambda: run.executor.finish(1, 3))
    assert [(future, len(args), given) for future, args, given in seen] == [(dependent[0], 1, 1)]
    assert run.recorder.names == [
        "start",
        *("future-submitted", "inc:submitted", "future-submitted", "same:submitted"),
        *("future-done", "future-result", "inc:done", "inc:result"),
        *("future-done", "future-result", "same:done", "same:result"),
        *("empty", "finishing", "finished"),
    ]


def test_a_future_that_has_a_result_is_passed_at_once() -> None:
    """A future that has a result is passed at once, in submission order, also within the callback for its result."""
    run = Manual()

    @run.first.on_result
    def go_on(future: Any, result: int) -> None:
        run.second.submit(future)
        run.second.submit("other")

    run.run(
        lambda: run.first.submit(1), lambda: run.executor.finish(0, 2), lambda: [run.executor.finish(n) for n in (1, 2)]
    )
    assert run.given == [(1,), (2,), ("other",)]


@pytest.mark.parametrize("how", ["chain", "fan", "ladder of diamonds", "many arguments"])
def test_ten_thousand(how: str) -> None:
    """There is no recursion, and one step per argument, even if the last future is dropped or shown."""
    n = 10_000
    last: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        one = scheduler.submit(inc, 0)
        if how == "chain":
            for _ in range(n - 1):
                one = scheduler.submit(inc, one.as_argument())
        elif how == "fan":
            one = scheduler.submit(sum, [scheduler.submit(inc, 0) for _ in range(n)])  # type: ignore[misc]
        elif how == "many arguments":
            one = scheduler.submit(lambda *ones: sum(ones), *[scheduler.submit(inc, 0) for _ in range(n)])
        else:
            for _ in range(n // 3):
                left, right = scheduler.submit(inc, one.as_argument()), scheduler.submit(inc, one.as_argument())
                one = scheduler.submit(max, left.as_argument(), right.as_argument())
        last.append(one)

    assert simulate(start).code is Code.EXHAUSTED
    assert last[0].result() == (n // 3 + 1 if how == "ladder of diamonds" else n)
    assert len(repr(last[0])) < 200
    last.clear()
    gc.collect()


def test_a_fan_out_of_ten_thousand_and_its_failure() -> None:
    """One call that ten thousand depend on: they start, and fail, in the order of submission."""
    for fn, ending in ((inc, "result"), (fail, "exception")):
        scheduler = Scheduler(SimulatedExecutor(1, outcome=operator.call))
        first, second = scheduler.task(fn), scheduler.task(same)
        scheduler.on_start(partial(_fan_out, first, second))
        ended: list[int] = []
        second.on(ending)(lambda future, _, ended=ended: ended.append(future.number))
        run_in_virtual_time(scheduler.async_run(display=False, on_exception="continue"))
        assert ended == list(range(1, 10_001))


def _fan_out(first: Any, second: Any) -> None:
    one = first.submit(0)
    for _ in range(10_000):
        second.submit(one)


# ------------------------------------------------------------------ without a result


def test_what_waits_for_a_failed_call_is_not_computed() -> None:
    """A call that depends on a failed one gets a `DependencyError`, and so on; `__cause__` is the original error."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        futures.append(run.first.submit(1))
        for _ in range(2):
            futures.append(run.second.submit(futures[-1], depth=len(futures)))

    error = ValueError("no")
    state = run.run(submit, lambda: run.executor.fail(0, error))
    assert len(run.given) == 1
    assert state.code is Code.EXHAUSTED
    assert futures[0].exception() is error
    for future in futures[1:]:
        assert isinstance(future.exception(), DependencyError)
        assert future.exception().__cause__ is error
        assert future.exception().number == 0
        assert "needs the result of the call 0, inc(1), which raised ValueError('no')" in str(future.exception())
    assert run.recorder.names[-15:] == [
        *("future-done", "future-exception", "inc:done", "inc:exception"),
        *["future-done", "future-exception", "same:done", "same:exception"] * 2,
        *("empty", "finishing", "finished"),
    ]


def test_what_waits_for_a_cancelled_call_is_not_computed() -> None:
    """A call that depends on a cancelled one fails with that cause, after the cancelled call is delivered."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        futures.append(run.first.submit(1))
        futures.append(run.second.submit(futures[0]))

    run.run(submit, lambda: futures[0].cancel())
    assert isinstance(futures[1].exception(), DependencyError)
    assert isinstance(futures[1].exception().__cause__, FutureCancelledError)
    assert run.recorder.names.index("inc:cancelled") < run.recorder.names.index("same:exception")


def test_a_call_fails_at_the_first_of_its_arguments_that_does() -> None:
    """A call fails with the first of its arguments that fails, without waiting for the others."""
    run = Manual()
    ended: list[Any] = []

    def submit() -> None:
        one, two, three = (run.first.submit(n) for n in range(3))
        future = run.second.submit(one, [two], three)
        run.second.on_exception(lambda *_: ended.append(future.exception().__cause__))  # type: ignore[union-attr]

    second = ValueError("second")
    run.run(
        submit,
        lambda: run.executor.fail(1, second),
        lambda: ended == [second] or pytest.fail("it waits"),
        lambda: [run.executor.fail(n, KeyError()) for n in (0, 2)],
    )
    assert ended == [second]


def test_a_future_that_has_failed_already_fails_the_call_by_an_event() -> None:
    """A future that has already failed fails the call by an event: `submit` does not raise."""
    run = Manual()
    got: list[Any] = []
    run.first.on_exception(lambda future, error: got.append(run.second.submit(future)))
    run.first.on_cancelled(lambda future: got.append(run.second.submit(future)))
    run.run(
        lambda: [run.first.submit(n) for n in (1, 2)],
        lambda: run.executor.fail(0, ValueError()),
        lambda: run.executor.submissions[1].future.cancel(),
    )
    assert [type(future.exception().__cause__) for future in got] == [ValueError, FutureCancelledError]
    assert run.recorder.names.count("same:exception") == 2


@pytest.mark.parametrize(
    ("on_exception", "expected"),
    [
        ("continue", Code.EXHAUSTED),
        ("end", Code.EXCEPTION),
        ({ValueError: "continue"}, Code.EXHAUSTED),
        ({ValueError: "continue", RuntimeError: "end"}, Code.EXHAUSTED),
        ({ValueError: "continue", DependencyError: "end"}, Code.EXCEPTION),
    ],
)
def test_the_policy_has_been_applied_to_the_error_where_it_began(on_exception: Any, expected: ExitState.Code) -> None:
    """Failures that follow from it are delivered, and do not end the run unless a mapping names them."""
    state = simulate(
        lambda scheduler: scheduler.submit(inc, scheduler.submit(fail).as_argument()), on_exception=on_exception
    )
    assert state.code is expected
    assert state.exceptions == 2


def test_the_run_raises_the_error_where_it_began() -> None:
    """The run raises the original error, and the waiting call has its outcome."""
    futures: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        futures.extend([one := scheduler.submit(fail), scheduler.submit(inc, one)])

    with pytest.raises(ValueError, match="no"):
        simulate(start, on_exception="raise")
    assert isinstance(futures[1].exception(), DependencyError)


def test_an_error_that_the_function_raises_is_its_own() -> None:
    """A `DependencyError` raised by the function itself is an outcome like any other: the policy applies."""

    def nested(_: int) -> None:
        raise DependencyError("of another scheduler")

    def start(scheduler: Scheduler) -> None:
        scheduler.submit(nested, scheduler.submit(inc, 1))

    with pytest.raises(DependencyError, match="another scheduler"):
        simulate(start, on_exception="raise")


# ------------------------------------------------------------------ cancelling


def test_a_waiting_call_that_is_cancelled_never_reaches_the_executor() -> None:
    """A cancelled waiting call never reaches the executor; the call it depends on continues, its dependents fail."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        futures.append(run.first.submit(1))
        futures.append(run.second.submit(futures[0]))
        futures.append(run.second.submit(futures[1]))

    run.run(submit, lambda: futures[1].cancel(), lambda: run.executor.finish(0, 2))
    assert len(run.given) == 1
    assert futures[0].result() == 2
    assert futures[1].cancelled()
    assert isinstance(futures[2].exception().__cause__, FutureCancelledError)
    assert run.recorder.names.count("same:cancelled") == 1


def test_a_callback_of_the_result_cancels_what_waits_for_it() -> None:
    """A call that a callback cancels when its dependency is done does not reach the executor."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        futures.append(run.first.submit(1))
        futures.append(run.second.submit(futures[0]))

    run.first.on_result(lambda future, _: (future.cancel(), futures[1].cancel()))
    run.run(submit, lambda: run.executor.finish(0, 2))
    assert futures[0].result() == 2
    assert futures[1].cancelled()
    assert len(run.given) == 1


def test_cancelled_by_the_submission_event() -> None:
    """A call may be cancelled in its submission event, even if everything it depends on is done."""
    run = Manual()
    run.first.on_result(lambda future, _: run.second.submit(future))
    run.second.on_submitted(lambda future, *_: future.cancel())
    run.run(lambda: run.first.submit(1), lambda: run.executor.finish(0, 2))
    assert run.recorder.names.count("same:cancelled") == 1


@pytest.mark.parametrize("wait", [True, False])
def test_stop_while_thousands_wait(wait: bool) -> None:
    """After a stop, waiting calls are computed with `wait`; without, each ends once, as cancelled."""
    run = Manual()
    chain: list[Any] = []

    def submit() -> None:
        chain.append(run.first.submit(0))
        for _ in range(3000):
            chain.append(run.first.submit(chain[-1]))

    if wait:
        run.scheduler.on_future_submitted(lambda _: None)
        run.executor.submit = lambda fn, *args: _done(fn(*args))  # type: ignore[method-assign, assignment]
    state = run.run(submit, run.scheduler.stop, wait=wait)
    assert state.code is (Code.EXHAUSTED if wait else Code.STOPPED)
    counts = {event.name: n for event, n in run.scheduler.event_counts.items()}
    assert counts["future-submitted"] == 3001
    assert counts.get("future-result", 0) == (3001 if wait else 0)
    assert counts.get("future-cancelled", 0) == (0 if wait else 3001)
    assert "future-exception" not in counts


def _done(result: Any) -> Any:
    future: Any = concurrent.futures.Future()
    future.set_result(result)
    return future


def test_stop_with_wait_computes_what_waits() -> None:
    """A stop with `wait` computes waiting calls: they were accepted, so the run ends after them."""
    results: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        one = scheduler.submit(inc, 0)
        for _ in range(5):
            one = scheduler.submit(inc, one.as_argument())
        results.append(one)
        scheduler.stop()

    assert simulate(start).code is Code.STOPPED
    assert results[0].result() == 6


def test_timeout_without_waiting() -> None:
    """At a timeout without waiting, waiting calls end as cancelled, not as failed."""
    futures: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        futures.extend([one := scheduler.submit(inc, 0), scheduler.submit(inc, one)])

    assert simulate(start, timeout=0.5, wait=False).code is Code.TIMEOUT
    assert [future.cancelled() for future in futures] == [True, True]


# ------------------------------------------------------------------ executors


def test_an_executor_that_refuses_the_dependent_call() -> None:
    """If the executor rejects a dependent call, its error is the outcome, since the submission was accepted before."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        futures.append(run.first.submit(1))
        futures.append(run.second.submit(futures[0]))

    run.run(
        submit,
        lambda: (setattr(run.executor, "was_shut_down", {}), run.executor.finish(0, 2)),
    )
    assert isinstance(futures[1].exception(), RuntimeError)
    assert "shut down" in str(futures[1].exception())


def test_an_executor_that_is_broken() -> None:
    """If the executor breaks, the run ends as for any other call, and all waiting calls have an outcome."""
    run = Manual()
    futures: list[Any] = []

    def submit() -> None:
        futures.append(run.first.submit(1))
        for _ in range(3):
            futures.append(run.second.submit(futures[-1]))

    with pytest.raises(ExecutorBrokenError):
        run.run(submit, run.executor.break_down)
    assert all(future.done() for future in futures)
    assert isinstance(futures[0].exception(), BrokenExecutor)


# ------------------------------------------------------------------ what cannot be passed


def test_a_future_of_another_scheduler() -> None:
    """A future of another scheduler is an error, both while that is running and after it has ended."""
    other: list[Any] = []
    simulate(lambda scheduler: other.append(scheduler.submit(inc, 1)))
    errors: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        with pytest.raises(ValueError, match=r"inc\(1\).* belongs to another scheduler, or to a run that") as raised:
            scheduler.submit(inc, [other[0]])  # type: ignore[arg-type]
        errors.append(raised.value)

    simulate(start)
    assert "pass its result" in str(errors[0])

    async def two() -> None:
        first, second = (Scheduler(SimulatedExecutor(1, duration=1)) for _ in range(2))
        first.on_start(lambda: other.append(first.submit(inc, 1)))
        second.on_start(lambda: second.submit(inc, other[1]))
        await asyncio.gather(first.async_run(display=False, timeout=5), second.async_run(display=False, timeout=9))

    with pytest.raises(ValueError, match="belongs to another scheduler"):
        run_in_virtual_time(two())


def test_a_future_of_an_earlier_run() -> None:
    """A future of an earlier run is an error, even if the scheduler is the same."""
    scheduler = Scheduler.with_sequential()
    futures: list[Any] = []
    scheduler.on_start(lambda: futures.append(scheduler.submit(inc, *(futures or [1]))))
    scheduler.run(display=False)
    with pytest.raises(ValueError, match="a run that is over"):
        scheduler.run(display=False)


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    "make",
    [
        concurrent.futures.Future,
        lambda: asyncio.get_running_loop().create_future(),
        lambda: asyncio.gather(asyncio.get_running_loop().create_future()),
        lambda: asyncio.get_running_loop().create_task(_forever()),
    ],
)
def test_a_future_of_another_library(make: Callable[[], Any]) -> None:
    """A future of another library is an error that names its type and the remedy."""
    made: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        made.append(make())
        for args in ([made[0]], [[made[0]]]):
            with pytest.raises(TypeError, match=r"no future of this scheduler.* wait for it and pass its result"):
                scheduler.submit(same, *args)
        if hasattr(made[0], "get_loop"):
            made[0].cancel()

    simulate(start)


def test_a_future_in_a_set() -> None:
    """A future in a set is an error, since results need not be hashable."""

    def start(scheduler: Scheduler) -> None:
        one = scheduler.submit(inc, 1)
        with pytest.raises(TypeError, match="is a set with a future in it"):
            scheduler.submit(same, {one})
        scheduler.submit(same, {1, 2})

    assert simulate(start).exceptions == 0


def test_a_list_that_contains_itself() -> None:
    """A list that contains itself is passed unchanged unless it contains a future."""
    got: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        loop: list[Any] = []
        loop.append(loop)
        one = scheduler.submit(inc, 1)
        got.append(scheduler.submit(same, loop, one))
        got.append(scheduler.submit(same, [loop, loop.append(one)]))  # type: ignore[func-returns-value]

    simulate(start)
    assert isinstance(got[1].exception(), ValueError)
    assert "contains both itself and a future" in str(got[1].exception())


def test_the_iterable_of_a_map_is_not_a_future() -> None:
    """A map's iterable cannot be a future, since its length would be unknown until the future is done."""

    def start(scheduler: Scheduler) -> None:
        task = scheduler.task(same)
        with pytest.raises(TypeError, match="an iterable of arguments, not a future"):
            task.map(scheduler.submit(inc, 1))

    simulate(start)


# ------------------------------------------------------------------ with everything else


def test_a_map_over_futures() -> None:
    """Items may be futures, or contain them."""
    scheduler = Scheduler(SimulatedExecutor(4, duration=1, outcome=operator.call))
    first, second = scheduler.task(inc), scheduler.task(same)
    second.map((first.submit(n) for n in range(5)), [[n] for n in range(5)], in_flight=2)
    results: list[Any] = []
    second.on_result(lambda _, result: results.append(result))
    run_in_virtual_time(scheduler.async_run(display=False))
    assert results == [(n + 1, [n], {}) for n in range(5)]


def test_another_attempt_is_given_the_same_results() -> None:
    """A retry repeats the call with the same values, and does not repeat what it depends on."""
    attempts: list[Any] = []

    def flaky(value: Any, *, more: Any) -> Any:
        attempts.append((value, more))
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "done"

    results: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        task = scheduler.task(flaky, plugins=Retry(attempts=3))
        results.append(task.submit(one := scheduler.submit(inc, 1), more=[one]))

    assert simulate(start).exceptions == 0
    assert results[0].result() == "done"
    assert attempts == [(2, [2])] * 3


def test_a_retried_dependency_is_waited_for() -> None:
    """A retried dependency is waited for until its last attempt."""
    attempts: list[int] = []

    def flaky() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return 7

    results: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        task = scheduler.task(flaky, plugins=Retry(attempts=3))
        results.append(scheduler.submit(inc, task.submit().as_argument()))

    simulate(start)
    assert results[0].result() == 8


def test_a_dependency_error_is_not_retried() -> None:
    """A dependency error is not retried, since the result would be the same."""
    scheduler = Scheduler(SimulatedExecutor(1, outcome=operator.call))
    first, second = scheduler.task(fail), scheduler.task(same, plugins=Retry(attempts=3))
    recorder = EventRecorder(scheduler, second)
    scheduler.on_start(lambda: second.submit(first.submit()))
    run_in_virtual_time(scheduler.async_run(display=False, on_exception="continue"))
    assert "same:retry" not in recorder.names
    assert recorder.names.count("same:exception") == 1


def test_a_waiting_call_counts_with_a_limiter() -> None:
    """With a limiter, a waiting call counts from its submission; a kept one is submitted later, with its futures."""
    scheduler = Scheduler(SimulatedExecutor(4, duration=1, outcome=operator.call))
    first, second = scheduler.task(inc), scheduler.task(same, plugins=Limiter(max_concurrent=1, on_limit="queue"))
    results: list[Any] = []
    second.on_result(lambda _, result: results.append(result))
    kept: list[Any] = []
    scheduler.on_start(lambda: kept.extend(second.submit(first.submit(n)) for n in range(3)))
    run_in_virtual_time(scheduler.async_run(display=False))
    assert [future is None for future in kept] == [False, True, True]
    assert results == [1, 2, 3]


def test_a_plugin_sees_the_call_at_its_submission_and_its_teardown_runs_once() -> None:
    """A plugin sees a call at its submission, and its teardown runs once, even if the call is never computed."""
    from amltk.scheduling import Plugin

    ends: list[Any] = []

    class Noting(Plugin):
        def prepare(self, call: Any) -> bool:
            call.on_end(ends.append, call.args)
            return True

    def start(scheduler: Scheduler) -> None:
        task = scheduler.task(same, plugins=Noting())
        failed = scheduler.submit(fail)
        task.submit(failed)
        task.submit(scheduler.submit(inc, 1)).cancel()  # type: ignore[union-attr]

    simulate(start, on_cancelled="continue")
    assert len(ends) == 2


def test_async_callbacks() -> None:
    """Async callbacks await dependent calls like other calls."""
    got: list[Any] = []

    async def start(scheduler: Scheduler) -> None:
        got.append(await scheduler.submit(inc, scheduler.submit(inc, 1).as_argument()))
        with pytest.raises(DependencyError):
            await scheduler.submit(inc, scheduler.submit(fail))

    assert simulate(start).callback_exceptions == 0
    assert got == [3]


def test_other_threads() -> None:
    """Other threads can submit chains, and errors are raised in them."""
    scheduler = Scheduler.with_threads(2)
    got: list[Any] = []

    def submit() -> None:
        one = scheduler.submit(inc, 0)
        for _ in range(500):
            one = scheduler.submit(inc, one.as_argument())
        got.append(one)
        scheduler.submit(inc, one.as_argument()).cancel()  # ends before the call it depends on
        with pytest.raises(TypeError, match="no future of this scheduler"):
            scheduler.submit(same, concurrent.futures.Future())

    def begin() -> None:
        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        scheduler.call_later(0, lambda: [thread.join() for thread in threads])

    scheduler.on_start(begin)
    scheduler.run(display=False, on_cancelled="continue")
    assert [future.result() for future in got] == [501] * 3


def test_the_sequential_executor() -> None:
    """The sequential executor computes each call from the loop."""
    scheduler = Scheduler.with_sequential()
    last: list[Any] = []

    def start() -> None:
        one = scheduler.submit(inc, 0)
        for _ in range(2000):
            one = scheduler.submit(inc, one.as_argument())
        last.append(one)

    scheduler.on_start(start)
    scheduler.run(display=False)
    assert last[0].result() == 2001


def test_results_of_a_map_over_futures() -> None:
    """A plain loop yields the calls, with the futures they were given."""
    scheduler = Scheduler(SimulatedExecutor(4, duration=1, outcome=operator.call))
    first, second = scheduler.task(inc), scheduler.task(same)

    async def program() -> list[Any]:
        calls = second.map(first.submit(n) for n in range(4)).results(display=False)
        return [(call.args[0].result(), call.result()) async for call in calls]

    assert run_in_virtual_time(program()) == [(n, n) for n in range(1, 5)]


# ------------------------------------------------------------------ what is kept


class Large:
    """A result that takes a lot of memory."""


def test_a_chain_keeps_no_results_but_the_last_ones() -> None:
    """After `state = step.submit(state)` the remaining future keeps its own result and that of its argument."""
    alive: weakref.WeakSet[Large] = weakref.WeakSet()
    most = 0

    def step(_: Any) -> Large:
        nonlocal most
        large = Large()
        alive.add(large)
        most = max(most, len(alive))
        return large

    last: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        state: Any = None
        for _ in range(200):
            state = scheduler.submit(step, state)
        last.append(state)

    simulate(start)
    assert most <= 4
    assert len(alive) == 2
    assert last[0].result() in alive
    assert last[0].args[0].result() in alive
    last.clear()
    gc.collect()
    assert not alive


def test_futures_that_the_program_keeps_stay_in_the_arguments() -> None:
    """Futures kept by the program stay in the arguments of the calls they were given to."""
    chain: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        chain.append(scheduler.submit(same, 0))
        for n in range(20):
            chain.append(scheduler.submit(same, [chain[-1]], n, x=chain[-1]))

    simulate(start)
    for before, after in pairwise(chain):
        assert after.args[0] == [before]
        assert after.kwargs == {"x": before}
        assert after.dependencies == (before,)


def test_a_dependency_that_nothing_keeps_is_shown_by_its_name() -> None:
    """The future of a chain does not keep those before its argument."""
    last: list[Any] = []

    def start(scheduler: Scheduler) -> None:
        task = scheduler.task(inc)
        last.append(task.submit(task.submit(task.submit(1).as_argument()).as_argument()))

    simulate(start)
    middle = last[0].args[0]
    assert middle.result() == 3
    assert "<inc 0>" in repr(middle.args[0])
    assert middle.args[0].number == 0
    assert middle.dependencies == ()
    assert last[0].label == "inc(<inc 1>)"


def test_why_a_call_waits() -> None:
    """The reason for waiting is given in words until the call is passed to the executor."""
    run = Manual()
    told: list[str | None] = []

    def submit() -> None:
        needed = [run.first.submit(n) for n in range(5)]
        future = run.second.submit(needed)
        dependencies = run.scheduler.current_run.dependencies
        told.extend([dependencies.reason(needed[0]), dependencies.reason(future)])
        run.first.on_result(lambda *_: run.scheduler.call_later(0, lambda: told.append(dependencies.reason(future))))

    run.run(submit, *(lambda n=n: run.executor.finish(n) for n in range(5)), lambda: run.executor.finish(5))
    assert told == [
        None,
        "waits for 5 calls: inc(0), inc(1), inc(2), …",
        "waits for 4 calls: inc(1), inc(2), inc(3), …",
        "waits for 3 calls: inc(2), inc(3), inc(4)",
        "waits for 2 calls: inc(3), inc(4)",
        "waits for 1 call: inc(4)",
        None,
    ]
