"""On every executor, running calls and callbacks can talk to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Comm, ExitState
from amltk.testing import EventRecorder
from tests.contract import talk

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Scheduler, Task
    from amltk.scheduling.executors import Capabilities

    Make = Callable[..., tuple[Task[..., Any], list[Any], EventRecorder]]


@pytest.fixture
def talking(scheduler: Scheduler) -> Make:
    """Makes a task of a function with a comm, submitted at the start; also returns its outcomes and its events."""

    def make(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        task = scheduler.task(function, plugins=Comm.Plugin())
        recorder = EventRecorder(scheduler, task)
        outcomes: list[Any] = []
        task.on_result(lambda _, result: outcomes.append(result))
        task.on_exception(lambda _, error: outcomes.append(error))
        scheduler.on_start(lambda: task.submit(*args, **kwargs))
        return task, outcomes, recorder

    return make


def told(recorder: EventRecorder) -> list[str]:
    """The names of the events of the task."""
    return [record.event.name for record in recorder.records if record.source is not None]


def test_the_whole_trace(scheduler: Scheduler, talking: Make) -> None:
    """Everything that a call sends is delivered in order, exactly once, before the call's outcome."""
    task, _, recorder = talking(talk.count, 300)
    said: list[Any] = []
    for event in (Comm.OPEN, Comm.MESSAGE, Comm.CLOSE):
        task.on(event)(lambda msg: said.append(msg.data))
    scheduler.run()
    assert told(recorder) == ["submitted", "comm-open", *["comm-message"] * 300, "comm-close", "done", "result"]
    assert said == ["begin", *range(300), "end"]


def test_a_message_knows_where_it_comes_from(scheduler: Scheduler, talking: Make) -> None:
    """A message carries its task and the future that `submit` returned."""
    task, _, _ = talking(talk.count, 1)
    futures: list[Any] = []
    scheduler.on_future_submitted(futures.append)
    seen: list[bool] = []
    task.on("comm-message")(lambda msg: seen.append((msg.task, msg.future) == (task, futures[0])))
    scheduler.run()
    assert seen == [True]


def test_requests_are_answered(scheduler: Scheduler, talking: Make) -> None:
    """Each request gets its own response, None included."""
    task, outcomes, recorder = talking(talk.ask, 1, "two", None)
    task.on("comm-request")(lambda msg: msg.respond([msg.data]))
    scheduler.run()
    assert outcomes == [[[1], ["two"], [None]]]
    assert told(recorder).count("comm-request") == 3


def test_callbacks_send(scheduler: Scheduler, talking: Make) -> None:
    """What callbacks send arrives in order."""
    task, outcomes, _ = talking(talk.listen)
    task.on("comm-open")(lambda msg: [msg.comm.send(word) for word in (*range(100), None)])
    scheduler.run()
    assert outcomes == [list(range(100))]


def test_it_can_be_opened_again(scheduler: Scheduler, talking: Make) -> None:
    """Each time the comm is opened, its events come in order."""
    _, _, recorder = talking(talk.open_twice)
    scheduler.run()
    assert told(recorder)[1:-2] == ["comm-open", "comm-message", "comm-close"] * 2


@pytest.mark.parametrize("raises", [False, True])
def test_the_end_of_the_call_closes_it(scheduler: Scheduler, talking: Make, *, raises: bool) -> None:
    """However the function ends, its comm is closed once, before the outcome is delivered."""
    _, _, recorder = talking(talk.leave_open, raises=raises)
    scheduler.run(on_exception="continue")
    ending = "exception" if raises else "result"
    assert told(recorder) == ["submitted", "comm-open", "comm-message", "comm-close", "done", ending]


def test_a_call_may_say_nothing(scheduler: Scheduler, talking: Make) -> None:
    """A call that sends nothing delivers nothing; before it is opened, a comm cannot be used."""
    _, outcomes, recorder = talking(talk.say_nothing)
    scheduler.run()
    assert outcomes == ["silent"]
    assert told(recorder) == ["submitted", "done", "result"]


def test_a_request_that_nobody_hears(scheduler: Scheduler, talking: Make) -> None:
    """A request without a subscriber fails at once and says why."""
    _, outcomes, _ = talking(talk.ask_and_tell, "hello?")
    scheduler.run()
    assert "CloseRequestError: no callback is subscribed to @comm-request" in outcomes[0]


def test_a_callback_that_raises(scheduler: Scheduler, talking: Make) -> None:
    """The request fails and says why; the error ends the run in order."""
    task, outcomes, _ = talking(talk.ask_and_tell, 0)
    task.on("comm-request")(lambda msg: msg.respond(1 // msg.data))
    with pytest.raises(ZeroDivisionError):
        scheduler.run()
    assert "CloseRequestError: a callback of @comm-request raised ZeroDivisionError" in outcomes[0]


def test_a_reply_ends_a_trial_early(scheduler: Scheduler, talking: Make) -> None:
    """The callback judges while the trial trains, and the trial ends when told to."""
    task, outcomes, _ = talking(talk.train, 1000)
    task.on("comm-request")(lambda msg: msg.respond("stop" if msg.data == 3 else "go on"))
    scheduler.run()
    assert outcomes == [3]


def test_a_trial_that_does_not_listen_is_ended(scheduler: Scheduler, talking: Make) -> None:
    """If a callback closes the comm, the call's next use of it raises."""
    task, outcomes, recorder = talking(talk.train_deaf, 1000)
    task.on("comm-message")(lambda msg: msg.data == 3 and msg.comm.close("no hope"))
    task.on("comm-request")(lambda msg: msg.respond())
    scheduler.run(on_exception="continue")
    assert [type(outcome) for outcome in outcomes] == [Comm.CloseRequestError]
    assert str(outcomes[0]) == "no hope"
    assert told(recorder).count("comm-message") in {4, 5}  # the next message may have been on its way
    assert told(recorder)[-3:] == ["comm-close", "done", "exception"]


def test_a_coroutine_answers(scheduler: Scheduler, talking: Make, capabilities: Capabilities) -> None:
    """A coroutine can answer with a result computed for it, except if the call blocks the loop, which fails at once."""
    task, outcomes, _ = talking(talk.ask_and_tell, -3)

    @task.on("comm-request")
    async def answer(msg: Comm.Msg[int]) -> None:
        future = scheduler.submit(abs, msg.data)
        if not capabilities.in_loop:
            msg.respond(await future)

    scheduler.run()
    assert outcomes == ["3"] or (capabilities.in_loop and "occupy the run's thread" in outcomes[0])


def test_cancelling_a_call_closes_it(scheduler: Scheduler, talking: Make, capabilities: Capabilities) -> None:
    """The comm is closed once, before `@cancelled`; if the call runs on unseen, its next use of the comm ends it."""
    task, outcomes, recorder = talking(talk.wait_for_ever)
    task.on("comm-message")(lambda msg: msg.future.cancel())
    assert scheduler.run(on_cancelled="continue").code is ExitState.Code.EXHAUSTED
    assert outcomes == []
    names = told(recorder)
    assert sorted(names) == sorted(["submitted", "comm-open", "comm-message", "comm-close", "cancelled"])
    assert names[-1] == "cancelled"


def test_two_calls_at_a_time(scheduler: Scheduler, talking: Make) -> None:
    """Responses go to the call that asked."""
    task, outcomes, _ = talking(talk.ask, 1, 2, 3)
    scheduler.on_start(lambda: task.submit(10, 20, 30))
    task.on("comm-request")(lambda msg: msg.respond(-msg.data))
    scheduler.run()
    assert sorted(outcomes) == [[-10, -20, -30], [-1, -2, -3]]
