"""Task.map and Scheduler.wait_for_capacity: items are taken as needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Limiter, Plugin, Scheduler
from amltk.scheduling.snapshot import Snapshot
from tests.unit.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

Code = ExitState.Code


def finish_all(program: Program) -> None:
    """Complete every call as soon as it is submitted, with its first argument as the result."""
    submit = program.executor.submit

    def submit_and_finish(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = submit(fn, *args, **kwargs)
        program.executor.finish(-1, args[0])
        return future

    program.executor.submit = submit_and_finish


def arguments(program: Program) -> list[Any]:
    return [submission.args for submission in program.executor.submissions]


def test_takes_the_next_item_when_one_has_ended() -> None:
    """At most `in_flight` calls are pending, items are taken lazily, and all are computed."""
    program = Program()
    taken: list[int] = []

    def source() -> Iterator[int]:
        for n in range(5):
            taken.append(n)
            yield n

    seen: list[int] = []
    program.task.on_result(lambda *_: seen.append(program.task.n_running))
    task_map = program.task.map(source(), in_flight=2)
    assert taken == []
    program.at(1, lambda: seen.append(len(taken)))
    for n in range(5):
        program.at(2 + n, program.executor.finish, n)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert seen == [2, 1, 1, 1, 1, 0]
    assert arguments(program) == [(n,) for n in range(5)]
    assert (task_map.total, task_map.n_taken, task_map.n_ended, task_map.exhausted) == (None, 5, 5, True)
    assert program.trace.count("empty") == 1


def test_several_iterables_side_by_side() -> None:
    """Each call takes one argument from each; the shortest decides, and is the total if the lengths are known."""
    program = Program()
    finish_all(program)
    task_map = program.task.map([1, 2, 3], "ab", in_flight=10)
    assert task_map.total == 2
    assert Snapshot.of(program.scheduler).tasks[0].total == 2
    program.run()
    assert arguments(program) == [(1, "a"), (2, "b")]
    assert repr(task_map) == "<TaskMap of work: 2 of 2 ended, 0 in flight>"


def test_items_may_depend_on_outcomes() -> None:
    """The next item is taken after the callbacks of the outcome that makes room for it."""
    program = Program()
    finish_all(program)
    results: list[int] = [1]
    program.task.on_result(lambda _, result: results.append(result))

    def doubling() -> Iterator[int]:
        while results[-1] < 100:
            yield results[-1] * 2

    program.task.map(doubling(), in_flight=1)
    program.run()
    assert results == [1, 2, 4, 8, 16, 32, 64, 128]


def test_failures_and_cancellations_make_room() -> None:
    """However a call ends, the next item is taken."""
    program = Program()
    program.task.map(range(3), in_flight=1)
    program.at(1, program.executor.fail, 0, ValueError())
    program.at(2, lambda: program.task.queue[0].cancel())
    program.at(3, program.executor.finish, 2)
    program.run(on_exception="continue", on_cancelled="continue")
    assert program.own == [
        *("submitted", "done", "exception"),
        "submitted",
        "cancelled",
        *("submitted", "done", "result"),
    ]


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_no_further_item_after_the_end(how: str) -> None:
    """When the run is about to end, or the map is cancelled, no more items are taken; pending calls continue."""
    program = Program()
    task_map = program.task.map(iter(range(100)), in_flight=2)
    program.at(1, program.scheduler.stop if how == "stop" else task_map.cancel)
    program.at(2, program.executor.finish, 0)
    program.at(3, program.executor.finish, 1)
    program.run()
    assert arguments(program) == [(0,), (1,)]
    assert task_map.exhausted
    assert task_map.over
    for channel in (program.task.RESULT, program.task.EXCEPTION, program.task.CANCELLED):
        assert all(s.hidden and "recorder" in repr(s.callback) for s in program.task.subscriptions(channel))


def test_an_iterable_that_raises() -> None:
    """The error of an iterable goes to the policy like a callback's, and it is not iterated further."""
    program = Program()
    finish_all(program)

    def source() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    program.task.map(source(), in_flight=1)
    with pytest.raises(LookupError, match="no more"):
        program.run()
    assert program.own == ["submitted", "done", "result"]


def test_with_a_limiter_that_keeps() -> None:
    """Calls that a Limiter keeps count as in flight, so it never keeps more than that."""
    limiter = Limiter(max_concurrent=2, on_limit="queue")
    program = Program(plugins=limiter)
    kept: list[int] = []
    program.task.on_submitted(lambda *_: kept.append(limiter.n_kept))
    task_map = program.task.map(range(20), in_flight=5)
    for n in range(20):
        program.at(1 + n, program.executor.finish, n)
    program.run()
    assert arguments(program) == [(n,) for n in range(20)]
    assert max(kept) == 3
    assert task_map.n_ended == 20


def test_what_a_limiter_refuses_is_tried_again() -> None:
    """An item that a plugin rejects is the next one when there is room."""
    program = Program(plugins=Limiter(max_concurrent=2))
    task_map = program.task.map(range(6), in_flight=4)
    for n in range(6):
        program.at(1 + n, program.executor.finish, n)
    program.run()
    assert arguments(program) == [(n,) for n in range(6)]
    assert task_map.n_ended == 6


def test_what_waits_for_another_task() -> None:
    """A map whose items are all rejected continues when no other call is pending."""
    program = Program()
    finish_all(program)
    other = program.scheduler.task(abs, plugins=Limiter(not_while_running=program.task))
    program.scheduler.on_start(lambda: program.task.submit(1))
    other.map([-1, -2], in_flight=1)
    program.run()
    assert arguments(program) == [(1,), (-1,), (-2,)]


def test_a_plugin_that_refuses_for_ever_does_not_keep_the_run() -> None:
    """If a plugin always rejects an item, the run ends without submitting it."""

    class Never(Plugin):
        def pre_submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> None:
            return None

    program = Program(plugins=Never())
    task_map = program.task.map(range(3), in_flight=1)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert (task_map.n_taken, task_map.n_ended) == (1, 0)


def test_many_maps_leave_nothing_behind() -> None:
    """Finished maps are forgotten, and so are their subscriptions."""
    program = Program(terminate=False)
    program.executor.shutdown = lambda **_: None
    finish_all(program)
    before = [len(program.task.subscriptions(event)) for event in program.task.events]
    for _ in range(20):
        program.task.map([1, 2], in_flight=1)
        program.run()
    assert [len(program.task.subscriptions(event)) for event in program.task.events] == before
    assert len(program.task.maps) == 1
    assert len(program.scheduler.emitter.subscriptions("start")) == 1


def test_from_another_thread() -> None:
    """A map created in another thread submits its first items there, and the others as usual."""
    scheduler = Scheduler.with_threads(2)
    task = scheduler.task(lambda x: x)
    results: list[int] = []
    task.on_result(lambda _, result: results.append(result))
    thread = threading.Thread(target=lambda: task.map(range(500), in_flight=3))
    scheduler.on_start(thread.start)
    task.on_result(lambda *_: scheduler.stop() if len(results) == 500 else None)
    scheduler.run(end_on_empty=False)
    thread.join()
    assert sorted(results) == list(range(500))


@pytest.mark.parametrize(
    ("iterables", "options", "error"),
    [
        ((), {}, TypeError),
        ((1,), {}, TypeError),
        (([],), {"in_flight": 0}, ValueError),
        (([],), {"in_flight": "4"}, TypeError),
    ],
)
def test_bad_arguments(iterables: Any, options: Any, error: type[Exception]) -> None:
    """Invalid arguments of `map` raise at once."""
    with pytest.raises(error):
        Program().task.map(*iterables, **options)


# ----------------------------------------------------------------------------------------------------------------- room


def test_room_waits_until_fewer_are_pending() -> None:
    """An `async def` producer never has more pending than it wants."""
    program = Program()
    pending: list[int] = []

    @program.scheduler.on_start
    async def produce() -> None:
        for n in range(6):
            assert await program.scheduler.wait_for_capacity(2)
            program.task.submit(n)
            pending.append(program.task.n_running)

    for n in range(6):
        program.at(1 + n, program.executor.finish, n)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert pending == [1, 2, 2, 2, 2, 2]
    assert len(program.scheduler.emitter.subscriptions("future-done")) == 1  # the recorder's


@pytest.mark.parametrize("wait", [True, False])
def test_room_ends_with_the_run(wait: bool) -> None:
    """A producer waiting for capacity when the run ends gets False."""
    program = Program()
    answers: list[bool] = []

    @program.scheduler.on_start
    async def produce() -> None:
        program.task.submit()
        answers.append(await program.scheduler.wait_for_capacity(1))

    program.at(3, lambda: program.executor.finish(0) if wait else None)
    program.run(timeout=2, wait=wait)
    assert answers == [False]


def test_bad_room() -> None:
    """`wait_for_capacity` needs a limit of at least one."""
    program = Program()

    @program.scheduler.on_start
    async def ask() -> None:
        await program.scheduler.wait_for_capacity(0)

    with pytest.raises(ValueError, match="in_flight=0: must be at least 1"):
        program.run()
