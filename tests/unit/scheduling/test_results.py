"""A map's calls as they end, in a plain loop: which are yielded, when and in which order, and how the run ends."""

# ruff: noqa: PERF401 - loops are what this is about

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import FutureCancelledError, SchedulerNotRunningError, SchedulerRunningError
from amltk.scheduling import ExitState, Limiter, Scheduler
from amltk.scheduling.task_map import HEAD_START_SECONDS
from amltk.testing import EventRecorder, SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

Code = ExitState.Code


class Odd(Exception):
    """Raised by `even`."""


def double(x: int) -> int:
    return 2 * x


def even(x: int) -> int:
    if x % 2:
        raise Odd(x)
    return x


def args_of(calls: Any) -> list[Any]:
    return [call.args[0] for call in calls]


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler.with_sequential()


def test_a_plain_loop(scheduler: Scheduler) -> None:
    """The loop yields each call when it has ended, and the run is over after the loop."""
    task = scheduler.task(double)
    results = task.map(range(5)).results()
    assert results.state is None
    seen = [(call.args, call.result(), call.done(), scheduler.running()) for call in results]
    assert seen == [((n,), 2 * n, True, True) for n in range(5)]
    assert results.state == ExitState(Code.EXHAUSTED)
    assert not scheduler.has_run()


def test_in_the_order_of_items() -> None:
    """With `ordered` a call that ended early waits for its turn; otherwise calls come as they end."""

    def calls(*, ordered: bool) -> list[Any]:
        scheduler = Scheduler(SimulatedExecutor(3, lambda fn, x: float(x)))
        task = scheduler.task(double)

        async def program() -> list[Any]:
            return args_of(await task.map([3, 2, 1, 2.5]).results(ordered=ordered))

        return run_in_virtual_time(program())

    assert calls(ordered=True) == [3, 2, 1, 2.5]
    assert calls(ordered=False) == [1, 2, 3, 2.5]


@pytest.mark.parametrize("ordered", [False, True])
def test_items_are_taken_as_the_body_is_done(scheduler: Scheduler, ordered: bool) -> None:
    """At most `in_flight` items are taken ahead of the body: the source is consumed lazily."""
    taken: list[int] = []

    def source() -> Iterator[int]:
        for n in itertools.count():
            taken.append(n)
            yield n

    seen: list[tuple[int, int]] = []
    for call in scheduler.task(double).map(source(), in_flight=3).results(ordered=ordered):
        seen.append((call.args[0], len(taken)))
        if len(seen) == 5:
            break
    assert seen == [(n, n + 3) for n in range(5)]


def test_items_may_depend_on_what_the_body_makes_of_outcomes(scheduler: Scheduler) -> None:
    """With one in flight, the next item is drawn when the body has seen the outcome of the previous one."""
    known = [1]

    def doubling() -> Iterator[int]:
        while known[-1] < 100:
            yield known[-1]

    for call in scheduler.task(double).map(doubling(), in_flight=1).results():
        known.append(call.result())
    assert known == [1, 2, 4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize("ordered", [False, True])
def test_exceptions_are_raised_in_their_place(scheduler: Scheduler, ordered: bool) -> None:
    """By default the loop raises a call's exception, after the calls before it, and the run is over."""
    recorder = EventRecorder(scheduler)
    seen: list[int] = []
    with pytest.raises(Odd) as info:  # noqa: PT012 - a loop
        for call in scheduler.task(even).map([0, 2, 3, 4], in_flight=1).results(ordered=ordered):
            seen.append(call.result())
    assert seen == [0, 2]
    assert info.value.args == (3,)
    assert recorder.names[-1] == "finished"
    assert not scheduler.has_run()


def test_exceptions_as_outcomes(scheduler: Scheduler) -> None:
    """With "continue" a failed call is yielded like any other; a mapping decides by type."""
    task = scheduler.task(even)
    calls = list(task.map(range(4)).results(on_exception="continue"))
    assert [call.exception() is None for call in calls] == [True, False, True, False]
    assert len(list(task.map(range(4)).results(on_exception={Odd: "continue"}))) == 4
    with pytest.raises(Odd):
        list(task.map(range(4)).results(on_exception={ValueError: "continue"}))


def test_an_exception_that_ends_the_run(scheduler: Scheduler) -> None:
    """With "end" the call is yielded, the loop ends, and the state has the reason."""
    results = scheduler.task(even).map(range(9), in_flight=1).results(on_exception="end")
    assert args_of(results) == [0, 1]
    assert results.state is not None
    assert results.state.code is Code.EXCEPTION


@pytest.mark.parametrize("how", ["break", "raise", "close"])
def test_a_loop_that_is_left(scheduler: Scheduler, how: str) -> None:
    """The run ends at once, in order, with a message; the next one works."""
    recorder = EventRecorder(scheduler)
    task = scheduler.task(double)
    messages: list[str] = []
    scheduler.on_stop(lambda message, _: messages.append(message))
    if how == "break":
        for _ in task.map(itertools.count()).results():
            break
    elif how == "raise":
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - a loop
            for _ in task.map(itertools.count()).results():
                _ = 1 / 0
    else:
        calls: Any = iter(task.map(itertools.count()).results())
        next(calls)
        calls.close()
    assert messages == ["the loop over the results was left"]
    assert recorder.names[-3:].count("finished") == 1
    assert not scheduler.has_run()
    assert args_of(task.map(range(3)).results()) == [0, 1, 2]


def test_what_callbacks_raise_at_the_end_of_a_loop_that_is_left(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """Exceptions of callbacks at the end of an abandoned loop can no longer be raised, and are logged."""

    @scheduler.on_finished
    def fail() -> None:
        raise LookupError("at the end")

    for _ in scheduler.task(double).map(range(9)).results():
        break
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


def test_a_loop_that_the_garbage_collector_finds_on_another_thread(scheduler: Scheduler) -> None:
    """A loop found by the garbage collector ends its run on a separate thread, and the scheduler can run again."""
    task = scheduler.task(double)
    calls = [iter(task.map(itertools.count()).results())]
    next(calls[0])
    thread = threading.Thread(target=calls.clear)
    thread.start()
    thread.join()
    for left in threading.enumerate():
        if left.name == "amltk-left":
            left.join()
    assert args_of(task.map(range(3)).results()) == [0, 1, 2]


def test_loops_in_loops(scheduler: Scheduler) -> None:
    """A loop in the body of another one continues the same run; when it is left, the outer one continues."""
    recorder = EventRecorder(scheduler)
    outer, inner = scheduler.task(double), scheduler.task(even)
    seen: list[Any] = []
    for call in outer.map(range(3)).results():
        seen.append([call.result(), *args_of(inner.map([0, 2, call.args[0] * 2]).results())])
        for _ in inner.map(itertools.count(0, 2)).results():
            break
    assert seen == [[0, 0, 2, 0], [2, 0, 2, 2], [4, 0, 2, 4]]
    assert recorder.names.count("start") == 1


def test_the_body_may_submit(scheduler: Scheduler) -> None:
    """The run does not end while the body handles the last call, nor before the body's submissions have ended."""
    task, more = scheduler.task(double), scheduler.task(even)
    results: list[int] = []
    empties: list[int] = []
    more.on_result(lambda _, result: results.append(result))
    scheduler.on_empty(lambda: empties.append(len(results)))
    for call in task.map([1]).results():
        assert more.submit(call.result()) is not None
        assert empties == []
    assert results == [2]
    assert empties == [1]


def test_stop_in_the_body(scheduler: Scheduler) -> None:
    """Accepted calls are computed and yielded; then the loop ends."""
    results = scheduler.task(double).map(itertools.count(), in_flight=3).results()
    seen: list[int] = []
    for call in results:
        seen.append(call.args[0])
        scheduler.stop()
    assert seen == [0, 1, 2]
    assert results.state == ExitState(Code.STOPPED)


def test_a_loop_in_a_run_that_is_ending(scheduler: Scheduler) -> None:
    """Nothing is computed any more, which is an error rather than an empty loop."""
    task = scheduler.task(double)
    with pytest.raises(SchedulerNotRunningError, match="the run is ending"):  # noqa: PT012 - a loop
        for _ in task.map(range(9), in_flight=1).results():
            scheduler.stop()
            list(task.map(range(3)).results())


def test_a_timeout() -> None:
    """The loop ends at the timeout; calls cancelled by the end of the run are not yielded."""
    scheduler = Scheduler(SimulatedExecutor(1, lambda *_: 1.0))
    results = scheduler.task(double).map(range(100), in_flight=5).results(timeout=3.5, wait=False)

    async def program() -> list[Any]:
        return [call async for call in results]

    assert args_of(run_in_virtual_time(program())) == [0, 1, 2]
    assert results.state == ExitState(Code.TIMEOUT)


@pytest.mark.parametrize("reaction", ["raise", "continue"])
def test_cancelled_calls(reaction: Any) -> None:
    """A call cancelled by the user is yielded or raised, according to `on_cancelled`."""
    scheduler = Scheduler(SimulatedExecutor(1, lambda *_: 1.0))
    task = scheduler.task(double)
    task.on_submitted(lambda future, x: x == 2 and scheduler.call_later(0, future.cancel))

    async def program() -> list[Any]:
        return await task.map(range(3), in_flight=3).results(on_cancelled=reaction)

    if reaction == "raise":
        with pytest.raises(FutureCancelledError):
            run_in_virtual_time(program())
    else:
        calls = run_in_virtual_time(program())
        assert [(call.args[0], call.cancelled()) for call in calls] == [(2, True), (0, False), (1, False)]


@pytest.mark.parametrize("on_limit", ["drop", "queue"])
@pytest.mark.parametrize("ordered", [False, True])
def test_what_plugins_hold_back(scheduler: Scheduler, on_limit: Any, ordered: bool) -> None:
    """A call that is never computed is not yielded, and does not block the others."""
    task = scheduler.task(double, plugins=Limiter(max_calls=3, on_limit="drop"))
    assert args_of(task.map(range(9), in_flight=2).results(ordered=ordered)) == [0, 1, 2]
    other = scheduler.task(double, plugins=Limiter(max_concurrent=2, on_limit=on_limit))
    assert args_of(other.map(range(9), in_flight=4).results(ordered=ordered)) == list(range(9))


def test_an_iterable_that_raises(scheduler: Scheduler) -> None:
    """The loop raises the exception, or continues with the items so far, according to `on_callback_exception`."""

    def source() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    task = scheduler.task(double)
    seen: list[int] = []
    with pytest.raises(LookupError, match="no more"):  # noqa: PT012 - a loop
        for call in task.map(source(), in_flight=1).results():
            seen.append(call.args[0])
    assert seen == [0, 1, 2]
    assert args_of(task.map(source(), in_flight=1).results(on_callback_exception="continue")) == [0, 1, 2]


def test_once_and_in_time(scheduler: Scheduler) -> None:
    """A second loop over the same results, and one that starts after the calls have ended, are errors."""
    task = scheduler.task(double)
    results = task.map(range(3)).results()
    list(results)
    with pytest.raises(RuntimeError, match="already read"):
        list(results)
    task_map = task.map(range(3))
    scheduler.run()
    with pytest.raises(RuntimeError, match="3 calls have already ended"):
        list(task_map.results())
    assert not scheduler.has_run()


def test_nothing_to_go_through(scheduler: Scheduler) -> None:
    """Without items there are no calls, and the run ends."""
    assert list(scheduler.task(double).map([]).results()) == []


def test_results_are_let_go(scheduler: Scheduler) -> None:
    """Results that the body does not keep are freed at the next call, without help from the garbage collector."""

    class Result:
        pass

    def make(fail: bool) -> Result:
        if fail:
            raise Odd(Result())
        return Result()

    alive: list[Any] = []
    task = scheduler.task(make)
    gc.collect()
    gc.disable()
    try:
        for call in task.map([False] * 5, in_flight=1).results():
            assert sum(reference() is not None for reference in alive) == 0
            alive.append(weakref.ref(call.result()))
            del call
        with pytest.raises(Odd) as info:
            list(task.map([True]).results())
        alive.append(weakref.ref(info.value.args[0]))
    finally:
        gc.enable()
    assert len(alive) == 6


# ----------------------------------------------------------------------------------------------------- in running loops


def test_in_a_coroutine(scheduler: Scheduler) -> None:
    """`async for` and `await` work in a running loop, and other tasks run while the body waits."""

    async def program() -> None:
        task = scheduler.task(double)
        results = task.map(range(3)).results()
        seen = []
        async for call in results:
            seen.append(call.result())
            await asyncio.sleep(0)
        assert seen == [0, 2, 4]
        assert results.state == ExitState(Code.EXHAUSTED)
        assert args_of(await task.map(range(3)).results(ordered=True)) == [0, 1, 2]

    asyncio.run(program())


def test_a_plain_loop_in_a_coroutine(scheduler: Scheduler) -> None:
    """As in a notebook cell, the running loop waits during a step, and is the running one in between."""

    async def program() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        for call in scheduler.task(double).map(range(3)).results():
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
            assert call.done()
        await asyncio.sleep(0)

    asyncio.run(program())


@pytest.mark.parametrize("how", ["aclosing", "break", "cancel"])
def test_an_async_loop_that_is_left(scheduler: Scheduler, how: str) -> None:
    """The run ends in order: before `aclosing` returns, soon after a `break`, and before a cancellation propagates."""
    task = scheduler.task(double)

    async def leave() -> None:
        async with aclosing(aiter(task.map(itertools.count()).results())) as calls:  # type: ignore[type-var]
            async for _ in calls:
                return

    async def breaks() -> None:
        async for _ in task.map(itertools.count()).results():
            break
        while scheduler.has_run():  # noqa: ASYNC110 - it takes few turns
            await asyncio.sleep(0)

    async def is_cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await task.map(itertools.count()).results()

    recorder = EventRecorder(scheduler)
    asyncio.run({"aclosing": leave, "break": breaks, "cancel": is_cancelled}[how]())
    assert recorder.names[-1] == "finished"
    assert not scheduler.has_run()


def test_several_loops_at_once(scheduler: Scheduler) -> None:
    """The first of several loops starts the run, and the others join it."""
    one, other = scheduler.task(double), scheduler.task(even)

    async def program() -> None:
        calls = await asyncio.gather(one.map(range(5)).results(), other.map(range(0, 20, 2)).results())
        assert [len(each) for each in calls] == [5, 10]

    recorder = EventRecorder(scheduler)
    asyncio.run(program())
    assert recorder.names.count("start") == 1


def test_in_a_run_that_goes_on_already(scheduler: Scheduler) -> None:
    """An `async for` in a callback, or beside a background run, joins it; the run continues afterwards."""
    task = scheduler.task(double)
    seen: list[Any] = []

    @scheduler.on_start
    async def work() -> None:
        seen.append(args_of(await task.map(range(3)).results()))

    async def program() -> None:
        background = asyncio.create_task(scheduler.async_run(end_on_empty=False))
        while not seen:  # noqa: ASYNC110 - it takes few turns
            await asyncio.sleep(0)
        seen.append([call.result() async for call in task.map([5, 6]).results()])
        assert scheduler.running()
        scheduler.stop()
        assert await background == ExitState(Code.STOPPED)

    asyncio.run(program())
    assert seen == [[0, 1, 2], [10, 12]]


def test_a_plain_loop_that_would_hold_up_its_own_run(scheduler: Scheduler) -> None:
    """A plain loop in a callback, or in the loop of a background run, is an error that says what to write."""
    task = scheduler.task(double)
    scheduler.on_start(lambda: list(task.map(range(3)).results()))
    with pytest.raises(SchedulerRunningError, match="async for"):
        scheduler.run()


@pytest.fixture
def elsewhere() -> Iterator[Scheduler]:
    """A scheduler whose run is in another thread, and does not end by itself."""
    scheduler = Scheduler.with_threads(2)
    began = threading.Event()
    scheduler.on_start(began.set)
    thread = threading.Thread(target=scheduler.run, kwargs={"end_on_empty": False})
    thread.start()
    began.wait()
    yield scheduler
    scheduler.stop()
    thread.join()


def test_a_plain_loop_beside_a_run_in_another_thread(elsewhere: Scheduler) -> None:
    """A plain loop beside a run in another thread waits for results of that run, which continues afterwards."""
    task = elsewhere.task(double)
    assert sorted(args_of(task.map(range(20)).results())) == list(range(20))
    for _ in task.map(itertools.count()).results():
        break
    assert elsewhere.running()


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("ordered", [False, True])
def test_many_plain_loops_beside_a_run_in_another_thread(elsewhere: Scheduler, ordered: bool) -> None:
    """Each loop gets each call, however the threads take turns: the last one too, and after a run without work."""
    task = elsewhere.task(double)
    for _ in range(150):
        assert sorted(args_of(task.map(range(4)).results(ordered=ordered))) == [0, 1, 2, 3]


def test_results_of_a_map_from_another_thread_may_be_read_late(elsewhere: Scheduler) -> None:
    """What `results` returns computes nothing until a loop goes through it, also if that is some timers later."""
    task = elsewhere.task(double)
    results = task.map(range(3)).results()
    later = threading.Event()
    elsewhere.call_later(3 * HEAD_START_SECONDS, later.set)
    assert later.wait(60)
    assert sorted(args_of(results)) == [0, 1, 2]


def test_a_slow_body_holds_no_call_up() -> None:
    """While the body is busy, threads compute their calls."""
    scheduler = Scheduler.with_threads(1)
    ended: list[int] = []
    for _ in scheduler.task(ended.append).map(range(4), in_flight=4).results():
        deadline = time.monotonic() + 60
        while len(ended) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(ended) == 4


# ---------------------------------------------------------------------------------------------------------------- items


def test_items_that_hold_all_arguments(scheduler: Scheduler) -> None:
    """A dict gives keyword arguments, a tuple gives arguments; an invalid item is an error that shows it."""

    def label(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    task = scheduler.task(label)
    grid = ({"lr": lr, "depth": depth} for lr in (0.1, 0.2) for depth in (1, 2))
    assert [call.label for call in task.map(grid, unpack="kwargs").results()][1] == "label(lr=0.1, depth=2)"
    assert [call.args for call in task.map([(1, 2), [3, 4]], unpack="args").results()] == [(1, 2), (3, 4)]
    assert [call.args for call in task.map([{"a": 1}, (1, 2)]).results()] == [({"a": 1},), ((1, 2),)]
    with pytest.raises(TypeError, match=r"unpack='kwargs': an item is \(1, 2\)"):
        list(task.map([(1, 2)], unpack="kwargs").results())
    with pytest.raises(TypeError, match="unpack='args': an item is 'ab'"):
        list(task.map(["ab"], unpack="args").results())
    with pytest.raises(TypeError, match="takes one iterable"):
        task.map([1], [2], unpack="args")
    with pytest.raises(ValueError, match="unpack='dict': must be 'args', 'kwargs' or None"):
        task.map([1], unpack="dict")  # type: ignore[arg-type]


def test_what_has_no_results_says_what_to_write(scheduler: Scheduler) -> None:
    """`list(task.map(...))` and `list(scheduler.run())` raise an error that shows the intended line."""
    for iterable in (scheduler.task(double).map([]), scheduler.run()):
        with pytest.raises(TypeError, match=r"for call in task.map\(...\).results\(\):"):
            list(iterable)
