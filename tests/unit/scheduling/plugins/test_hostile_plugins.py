"""Plugins against each other, against the end of a run, and against misuse."""

from __future__ import annotations

import asyncio
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Limiter, Plugin, Retry, Scheduler
from amltk.scheduling.executors import CallLimits
from amltk.scheduling.plugins.limits import LimitedFunction
from amltk.testing import VirtualTimeLoop
from tests.unit.program import CallbackError, ComputeError, Program, work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling.call import Call, Outcome

Code = ExitState.Code


class Reviewer(Plugin):
    """Registers one function as the outcome hook of all calls."""

    def __init__(self, review: Any) -> None:
        self.review = review

    def prepare(self, call: Call) -> bool:
        call.on_outcome(partial(self.review, call))
        return True


class Stubborn(asyncio.Future[bool]):
    """Cannot be cancelled."""

    def cancel(self, msg: Any | None = None) -> bool:
        return False


def raising_for(*bad: int) -> Plugin:
    class Raising(Plugin):
        name = "raising"

        def pre_submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            if args[0] in bad:
                raise CallbackError(args[0])
            return fn, args, kwargs

    return Raising()


def submitted(program: Program) -> list[Any]:
    return [submission.args[0] for submission in program.executor.submissions]


def queueing(name: str, **limits: Any) -> Limiter:
    limiter = Limiter(on_limit="queue", **limits)
    limiter.name = name
    return limiter


def test_two_limiters_that_keep() -> None:
    """A call that one limiter releases and the other one keeps retains its place in the order, and none is lost."""
    program = Program()
    one, two = program.scheduler.task(abs), program.scheduler.task(abs)
    program.task.attach_plugin(queueing("first", not_while_running=one))
    program.task.attach_plugin(queueing("second", not_while_running=two))
    program.scheduler.on_start(lambda: two.submit(-2))
    program.scheduler.on_start(lambda: program.task.map([0, 1], in_flight=2))
    program.at(1, lambda: (one.submit(-1), program.task.submit(2)))
    program.at(2, program.executor.finish, 0)
    program.at(3, program.executor.finish, 1)
    for n in range(3):
        program.at(4 + n, program.executor.finish, 2 + n)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert submitted(program) == [-2, -1, 0, 1, 2]
    assert program.task.maps[0].over
    assert program.task.maps[0].n_ended == 2


def test_one_that_raises_for_what_was_kept() -> None:
    """If a later plugin raises for a kept submission, the error is reported, and those behind it are submitted."""
    program = Program(plugins=[queueing("queue", max_concurrent=1), raising_for(1, 2)])
    program.scheduler.on_start(lambda: [program.task.submit(n) for n in range(4)])
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    assert program.run(on_callback_exception="continue") == ExitState(Code.EXHAUSTED)
    assert submitted(program) == [0, 3]


def test_a_teardown_that_raises_for_what_is_kept() -> None:
    """The submitter of a kept call gets no error, since it would submit it twice; `on_exception` decides."""

    class Raising(Plugin):
        name = "raising"

        def prepare(self, call: Call) -> bool:
            call.on_end(self.end, call)
            return True

        def end(self, call: Call) -> None:
            if call.future is None:
                raise CallbackError

    program = Program(plugins=[Raising(), queueing("queue", max_concurrent=1)])
    returned: list[Any] = []
    program.scheduler.on_start(lambda: returned.extend(program.task.submit(n) for n in range(2)))
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    assert program.run(on_callback_exception="continue") == ExitState(Code.EXHAUSTED)
    assert returned[1] is None
    assert submitted(program) == [0, 1]
    with pytest.raises(CallbackError):
        program.scheduler.report(CallbackError("of nobody"), "nobody")


def test_the_end_is_asked_for_while_kept_calls_are_submitted() -> None:
    """If a plugin stops the run during a kept submission, that submission stays kept, and nothing is raised."""
    program = Program()
    limiter = queueing("queue", max_concurrent=1)

    class Stopping(Plugin):
        def pre_submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            if args == (1,):
                program.scheduler.stop()
            return fn, args, kwargs

    program.task.attach_plugin(limiter)
    program.task.attach_plugin(Stopping())
    program.scheduler.on_start(lambda: [program.task.submit(n) for n in range(3)])
    program.at(1, program.executor.finish, 0)
    assert program.run() == ExitState(Code.STOPPED)
    assert submitted(program) == [0]
    assert limiter.n_kept == 2


def test_map_whose_iterable_stops_the_run() -> None:
    """An iterable may stop the scheduler: the run ends as stopped, and what it yields afterwards is not submitted."""
    program = Program()

    def source() -> Iterator[int]:
        yield 0
        program.scheduler.stop()
        yield 1

    task_map = program.task.map(source())
    program.scheduler.on_future_submitted(lambda _: program.executor.finish(-1))
    assert program.run() == ExitState(Code.STOPPED)
    assert submitted(program) == [0]
    assert task_map.over


def test_map_goes_on_after_items_that_a_plugin_raises_for() -> None:
    """Each error is reported, and all other items are computed."""
    program = Program(plugins=raising_for(0, 1, 3))
    task_map = program.task.map(range(6), in_flight=2)
    for n in range(3):
        program.at(1 + n, program.executor.finish, n)
    assert program.run(on_callback_exception="continue") == ExitState(Code.EXHAUSTED)
    assert submitted(program) == [2, 4, 5]
    assert (task_map.over, task_map.n_ended) == (True, 6)


def test_map_over_what_is_kept_and_then_refused() -> None:
    """An item that a limiter kept and a later plugin rejected no longer takes up room."""

    class NoZero(Plugin):
        def pre_submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return None if args == (0,) else (fn, args, kwargs)

    program = Program()
    limited = program.scheduler.task(work, plugins=[queueing("queue", not_while_running=program.task), NoZero()])
    program.submit()
    program.scheduler.on_start(lambda: limited.map([0, 1], in_flight=1))
    program.at(1, program.executor.finish, 0)
    program.at(2, program.executor.finish, 1)
    assert program.run() == ExitState(Code.EXHAUSTED)
    assert [submission.args for submission in program.executor.submissions] == [(), (1,)]
    assert limited.maps[0].over


@pytest.mark.parametrize("answer", [True, 1.5, "later", Program])
def test_a_review_that_returns_nonsense(answer: Any) -> None:
    """An invalid return value of a review raises an error that lists what is allowed, and the call has its outcome."""
    program = Program(plugins=Reviewer(lambda *_: answer))
    program.submit()
    program.at(1, program.executor.finish, 0)
    with pytest.raises(TypeError, match=r"the review .* returned .*: it must return None, or a future of the run's"):
        program.run()
    assert program.own == ["submitted", "done", "result"]


def test_a_review_that_returns_a_future_of_another_loop() -> None:
    """A hook that returns a future of another loop raises as well."""
    loop = VirtualTimeLoop()
    program = Program(plugins=Reviewer(lambda *_: loop.create_future()))
    program.submit()
    program.at(1, program.executor.finish, 0)
    with pytest.raises(TypeError, match="of the run's loop"):
        program.run()
    loop.close()
    assert program.own == ["submitted", "done", "result"]


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_a_hold_that_does_not_let_go(how: str) -> None:
    """A future that cannot be cancelled blocks neither a cancellation nor the end of the run."""
    program = Program(plugins=Reviewer(lambda *_: Stubborn(loop=asyncio.get_running_loop())))
    futures: list[Any] = []
    program.scheduler.on_start(lambda: futures.append(program.task.submit()))
    program.at(1, program.executor.finish, 0)
    program.at(2, (lambda: futures[0].cancel()) if how == "cancel" else program.scheduler.stop)
    program.run(wait=False, on_cancelled="continue")
    assert program.own == ["submitted", *(["cancelled"] if how == "cancel" else ["done", "result"])]


def test_cancelled_in_a_review() -> None:
    """A call that a plugin cancels in its outcome hook ends at once, whatever others wait for."""

    def cancel(call: Call, _outcome: Outcome) -> None:
        assert call.future is not None
        call.future.cancel()

    program = Program(plugins=[Retry(wait=3600, max_wait=3600), Reviewer(cancel)])
    program.submit()
    program.at(1, program.executor.fail, 0, ComputeError())
    ended: list[float] = []
    program.task.on_cancelled(lambda _: ended.append(program.scheduler.current_run.loop.time()))
    program.run(on_cancelled="continue")
    assert ended == [1]


def test_no_attempt_when_the_end_comes_in_the_same_moment() -> None:
    """A stop between the end of the wait and the next attempt is respected."""
    program = Program(plugins=Retry(wait=5, max_wait=5, jitter=0))
    program.submit()
    program.at(1, program.executor.fail, 0, ComputeError())
    # Created after the timer of the attempt, for the same moment.
    program.at(2, lambda: asyncio.get_running_loop().call_at(6, program.scheduler.stop))
    program.run(on_exception="continue")
    assert len(program.executor.submissions) == 1


def test_a_timer_that_is_due_in_the_moment_of_the_end() -> None:
    """The wait for an attempt may end in the same loop iteration as the run, without an error."""
    program = Program(plugins=Retry(wait=5, max_wait=5, jitter=0))
    program.submit()
    complaints: list[Any] = []

    @program.scheduler.on_start
    def prepare() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        loop.call_at(6, program.scheduler.stop)  # before the timer of the attempt, which is created later

    program.at(1, program.executor.fail, 0, ComputeError())
    program.run(on_exception="continue")
    assert complaints == []
    assert program.own[-2:] == ["done", "exception"]


def test_retry_that_serves_tasks_of_two_schedulers() -> None:
    """The end of one scheduler's run does not give up any retries of the other."""
    retry = Retry(wait=60, max_wait=60, jitter=0)
    first, second = Program(plugins=retry), Program(plugins=retry)
    for program in (first, second):
        program.submit()
        program.at(1, program.executor.fail, 0, ComputeError())
    second.at(70, second.executor.finish, 1)

    async def run_both() -> None:
        await asyncio.gather(
            first.scheduler.async_run(timeout=5, on_exception="continue"), second.scheduler.async_run()
        )

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run_both())
    assert first.own == ["submitted", "retry", "gave-up", "done", "exception"]
    assert second.own == ["submitted", "retry", "done", "result"]


def test_very_many_attempts() -> None:
    """Waits stay at their maximum however often a call fails."""
    program = Program(plugins=Retry(attempts=1100, factor=2, max_wait=1))
    submit = program.executor.submit

    def submit_and_fail(*args: Any) -> Any:
        future = submit(*args)
        program.executor.fail(-1, ComputeError())
        return future

    program.executor.submit = submit_and_fail
    program.submit()
    program.run(on_exception="continue")
    assert len(program.executor.submissions) == 1100


def test_limited_function_is_named_like_its_function() -> None:
    """A limited function has the name of its function, even a partial, and sends its attributes only once."""
    limited = LimitedFunction(partial(work, 1), CallLimits(wall_time=1))
    assert limited.__qualname__ == "work"
    copy = pickle.loads(pickle.dumps(limited))
    assert (copy.__qualname__, copy.limits, copy.function.args) == ("work", limited.limits, (1,))


def test_room_for_several_producers() -> None:
    """Producers waiting for capacity never exceed it together, and all notice the end."""
    program = Program()
    answers: list[bool] = []
    most: list[int] = []

    async def produce() -> None:
        while await program.scheduler.wait_for_capacity(2):
            program.task.submit()
            most.append(program.scheduler.n_running)
        answers.append(program.scheduler.running())

    for _ in range(5):
        program.scheduler.on_start(produce)
    for n in range(6):
        program.at(1 + n, program.executor.finish, n)
    program.at(7.5, program.scheduler.stop)
    program.run(wait=False)
    assert max(most) == 2
    assert answers == [False] * 5
    assert len(program.executor.submissions) == 8
    assert len(program.scheduler.emitter.subscriptions("future-done")) == 1  # the recorder's


def test_room_in_finishing() -> None:
    """A request for capacity after the end was announced is answered at once."""
    scheduler = Scheduler.with_sequential()
    answers: list[bool] = []

    @scheduler.on_finishing
    async def ask() -> None:
        answers.append(await scheduler.wait_for_capacity(1))

    scheduler.run()
    assert answers == [False]
