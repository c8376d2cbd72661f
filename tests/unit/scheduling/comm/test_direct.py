"""A comm on the run's own thread, as calls of a SequentialExecutor use it: no process, no socket."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CommError, SchedulerNotRunningError
from amltk.scheduling import Comm, ExitState, Scheduler
from amltk.testing import EventRecorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling import Task


def make(function: Callable[..., Any], calls: int = 1) -> tuple[Scheduler, Task[..., Any], EventRecorder]:
    """A scheduler that computes a function with a comm."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(function, plugins=Comm.Plugin())
    recorder = EventRecorder(scheduler, task)
    scheduler.on_start(lambda: [task.submit() for _ in range(calls)])
    return scheduler, task, recorder


def told(recorder: EventRecorder) -> list[str]:
    """The names of the events of the task."""
    return [record.event.name for record in recorder.records if record.source is not None]


def test_the_whole_trace() -> None:
    """What a call sends is delivered while it runs, in order, before its outcome."""
    at: list[Any] = []

    def speak(*, comm: Comm) -> str:
        with comm.open("hello"):
            comm.send([1])
            at.append("said")
        return "result"

    scheduler, task, recorder = make(speak)
    for event in (Comm.OPEN, Comm.MESSAGE, Comm.CLOSE):
        task.on(event)(lambda msg: at.append((msg.kind, msg.data, msg.task is task, msg.future.done())))
    scheduler.run()
    assert told(recorder) == ["submitted", "comm-open", "comm-message", "comm-close", "done", "result"]
    kind = Comm.Msg.Kind
    assert at == [
        (kind.OPEN, "hello", True, False),
        (kind.MESSAGE, [1], True, False),
        "said",
        (kind.CLOSE, None, True, False),
    ]


def test_what_was_submitted_is_told_before_what_the_call_says() -> None:
    """A submission is delivered before the call's messages, even if an awaiting callback submitted it."""

    def speak(*, comm: Comm) -> None:
        with comm.open():
            pass

    scheduler, task, recorder = make(speak, calls=0)

    @scheduler.on_start
    async def launch() -> None:
        future = task.submit()
        assert future is not None
        await future

    scheduler.run()
    assert told(recorder) == ["submitted", "comm-open", "comm-close", "done", "result"]


def test_a_request_is_answered_by_the_very_object() -> None:
    """Nothing is pickled: both sides see the same objects."""
    asked, answer = object(), object()

    def ask(*, comm: Comm) -> bool:
        with comm.open():
            return comm.request(asked, timeout=0) is answer

    scheduler, task, _ = make(ask)
    seen: list[bool] = []
    task.on("comm-request")(lambda msg: seen.append(msg.data is asked))
    task.on("comm-request")(lambda msg: seen.append(msg.respond(answer)))
    task.on_result(lambda _, result: seen.append(result))
    scheduler.run()
    assert seen == [True, True, True]


def test_what_callbacks_send_is_received() -> None:
    """Messages arrive in order; with none left none can come, so waiting raises at once."""

    def listen(*, comm: Comm) -> list[Any]:
        with comm.open():
            got: list[Any] = [comm.poll()]
            comm.send("go")
            while comm.poll():
                got.append(comm.receive())
            with pytest.raises(Comm.TimeoutError, match="occupy the run's thread"):
                comm.receive(timeout=1000)
            return got

    scheduler, task, _ = make(listen)
    task.on("comm-message")(lambda msg: [msg.comm.send(n) for n in range(3)])
    results: list[Any] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.run()
    assert results == [[False, 0, 1, 2]]


def ask(*, comm: Comm) -> str:
    """Return the reason why a request was not answered."""
    with comm.open():
        try:
            comm.request()
        except Comm.CloseRequestError as error:
            return str(error)
    return "answered"


def test_a_request_that_nobody_hears() -> None:
    """Without a subscription (a recorder's does not count), the request fails at once."""
    scheduler, task, recorder = make(ask)
    results: list[str] = []
    task.on_result(lambda _, result: results.append(result))
    scheduler.run()
    assert "no callback is subscribed to @comm-request" in results[0]
    assert "comm-request" in told(recorder)


@pytest.mark.parametrize("policy", ["continue", "end"])
def test_a_callback_that_raises(policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The request fails, the error goes to the run's policy, and the other callbacks still run."""
    scheduler, task, _ = make(ask)
    results: list[str] = []

    @task.on("comm-request")
    def stumble(_: Comm.Msg[Any]) -> None:
        raise ValueError("stumbled")

    task.on("comm-request")(lambda msg: results.append(msg.kind.value))
    task.on_result(lambda _, result: results.append(result))
    code = scheduler.run(on_callback_exception=policy).code
    assert code is (ExitState.Code.EXCEPTION if policy == "end" else ExitState.Code.EXHAUSTED)
    assert results[0] == "request"
    assert "a callback of @comm-request raised ValueError('stumbled')" in results[1]


def test_a_request_that_is_answered_too_late() -> None:
    """An async answer cannot arrive while the call blocks the thread: the request fails at once and says why.

    The coroutine continues before the outcome of the call is delivered.
    """
    scheduler, task, _ = make(ask)
    results: list[str] = []

    @task.on("comm-request")
    async def answer(msg: Comm.Msg[Any]) -> None:
        with pytest.raises(CommError, match="no callback seemed to answer"):
            msg.respond(1)
        results.append("late")

    task.on_result(lambda _, result: results.append(result))
    scheduler.run()
    assert results[0] == "late"
    assert "occupy the run's thread" in results[1]


def test_a_second_response_is_an_error() -> None:
    """A second response raises; the first one counts."""

    def hear(*, comm: Comm) -> Any:
        with comm.open():
            return comm.request()

    scheduler, task, _ = make(hear)
    results: list[Any] = []

    @task.on("comm-request")
    def answer(msg: Comm.Msg[Any]) -> None:
        assert msg.respond(1)
        with pytest.raises(CommError, match="answered before"):
            msg.respond(2)

    @task.on("comm-open")
    def not_asked(msg: Comm.Msg[Any]) -> None:
        with pytest.raises(CommError, match=r"this open expects no response; use msg\.comm\.send"):
            msg.respond(1)

    task.on_result(lambda _, result: results.append(result))
    scheduler.run()
    assert results == [1]


def test_a_callback_can_end_the_call() -> None:
    """After `msg.comm.close()` the call's next send raises; what was sent before can be received."""

    def train(*, comm: Comm) -> Any:
        with comm.open():
            comm.send(0)
            assert comm.receive() == "last words"
            for uttering in (lambda: comm.send(1), comm.request, comm.receive, comm.poll):
                with pytest.raises(Comm.CloseRequestError, match="too bad"):
                    uttering()
            comm.send(2)

    scheduler, task, recorder = make(train)
    errors: list[BaseException] = []

    @task.on("comm-message")
    def judge(msg: Comm.Msg[int]) -> None:
        assert msg.comm.is_open
        assert msg.comm.send("last words")
        assert msg.comm.close("too bad")

    task.on_exception(lambda _, error: errors.append(error))
    scheduler.run(on_exception="continue")
    assert [type(error) for error in errors] == [Comm.CloseRequestError]
    assert told(recorder) == ["submitted", "comm-open", "comm-message", "comm-close", "done", "exception"]


def test_nothing_reaches_a_call_that_has_ended() -> None:
    """Sending to an ended call is not an error, since the sender cannot know: it returns False."""
    conversations: list[Any] = []

    def speak(*, comm: Comm) -> None:
        comm.open()

    scheduler, task, recorder = make(speak)
    task.on("comm-open")(lambda msg: conversations.append(msg.comm))
    task.on_done(lambda _: conversations.extend([conversations[0].send(1), conversations[0].close()]))
    scheduler.run()
    assert conversations[1:] == [False, False]
    assert told(recorder) == ["submitted", "comm-open", "comm-close", "done", "result"]


def test_misuse_in_the_call() -> None:
    """A comm can be used only between opening and closing, and opened only once at a time."""

    def misuse(*, comm: Comm) -> Comm:
        for uttering in (lambda: comm.send(1), comm.request, comm.receive, comm.poll, comm.__enter__):
            with pytest.raises(Comm.ClosedError, match=r"use it within `with comm\.open\(\):`"):
                uttering()
        comm.close()
        with comm.open(), pytest.raises(CommError, match="is open"):
            comm.open()
        with comm.open():
            for timeout, error in ((-1, ValueError), ("1 parsec", ValueError), ([1], TypeError)):
                with pytest.raises(error, match=r"timeout="):
                    comm.request(timeout=timeout)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="belongs to the call"):
                pickle.dumps(comm)
        return comm

    scheduler, task, recorder = make(misuse)
    comms: list[Comm] = []
    task.on_result(lambda _, comm: comms.append(comm))
    scheduler.run()
    assert told(recorder)[1:-2] == ["comm-open", "comm-close"] * 2
    with pytest.raises(CommError, match="has ended"):
        comms[0].open()


def test_only_the_thread_of_the_call_can_use_it() -> None:
    """A thread started by the call cannot use the comm, since it could not be answered."""

    def delegate(*, comm: Comm) -> None:
        with comm.open():
            errors: list[CommError] = []

            def speak() -> None:
                try:
                    comm.send(1)
                except CommError as error:
                    errors.append(error)

            thread = threading.Thread(target=speak)
            thread.start()
            thread.join()
            assert "only the thread of the call" in str(errors[0])

    scheduler, _, _ = make(delegate)
    assert scheduler.run().code is ExitState.Code.EXHAUSTED


def test_it_cannot_leave_the_thread() -> None:
    """If the comm would leave its thread, the error says what to do."""

    def send_it_away(*, comm: Comm) -> None:
        with pytest.raises(TypeError, match=r"SequentialExecutor cannot leave its thread.*with_processes"):
            pickle.dumps(comm)

    scheduler, _, _ = make(send_it_away)
    assert scheduler.run().code is ExitState.Code.EXHAUSTED


def test_bad_input_of_the_plugin() -> None:
    """Invalid arguments raise at once, and the error lists what is allowed."""
    with pytest.raises(ValueError, match="must be the name of a parameter"):
        Comm.Plugin("not a name")
    with pytest.raises(TypeError, match="interface=1: must be a string"):
        Comm.Plugin(interface=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"interface='nowhere0': must be the name .*the interfaces are 'lo"):
        Comm.Plugin(interface="nowhere0")
    with pytest.raises(ValueError, match=r"interface='0\.0\.0\.0': must be the address by which workers reach"):
        Comm.Plugin(interface="0.0.0.0")


def test_the_function_must_take_the_comm() -> None:
    """A function without `comm` is rejected with the plugin, unless it takes any keyword or hides its signature."""
    scheduler = Scheduler.with_sequential()
    with pytest.raises(ValueError, match="must take a keyword argument 'comm'"):
        scheduler.task(lambda x: x, plugins=Comm.Plugin())
    with pytest.raises(ValueError, match="must take a keyword argument 'line'"):
        scheduler.task(lambda comm: comm, plugins=Comm.Plugin("line"))
    scheduler.task(lambda **anything: anything, plugins=Comm.Plugin())
    scheduler.task(dict, plugins=Comm.Plugin())
    task = scheduler.task(lambda line: line, plugins=Comm.Plugin("line"))
    with pytest.raises(SchedulerNotRunningError):
        task.submit()


def test_the_comm_is_not_to_be_submitted() -> None:
    """Submitting a comm is an error: it would be ambiguous which one the function gets."""
    scheduler, task, _ = make(lambda *, comm: None, calls=0)
    scheduler.on_start(lambda: task.submit(comm=1))
    with pytest.raises(ValueError, match="do not submit it"):
        scheduler.run()


def test_the_status_tells_how_many_are_open() -> None:
    """The number of open comms is part of the status that displays show."""

    def speak(*, comm: Comm) -> None:
        with comm.open():
            pass

    scheduler, task, _ = make(speak)
    seen: list[str] = []
    task.on("comm-open")(lambda msg: seen.append(task.plugins[0].status()))
    task.on("comm-close")(lambda msg: seen.append(task.plugins[0].status()))
    scheduler.run()
    assert seen == ["1 open", "0 open"]


def test_ctrl_c_reaches_compute_after_a_message() -> None:
    """Sending a message in the middle of a call does not make the run believe that no user code is running."""
    at_work: list[bool] = []

    def speak(*, comm: Comm) -> None:
        with comm.open():
            at_work.append(scheduler.current_run.in_user_code)

    scheduler, _, _ = make(speak)
    scheduler.run()
    assert at_work == [True]


def test_a_message_shows_itself() -> None:
    """A message's repr shows its kind and data, even if the data's own repr fails."""

    class Shy:
        def __repr__(self) -> str:
            raise ValueError("shy")

    def speak(*, comm: Comm) -> None:
        with comm.open(1):
            comm.send(Shy())

    scheduler, task, _ = make(speak)
    shown: list[str] = []
    for event in (Comm.OPEN, Comm.MESSAGE):
        task.on(event)(lambda msg: shown.append(repr(msg)))
    scheduler.run()
    assert shown == ["Msg(open, 1)", "Msg(message, <Shy, whose repr raises ValueError>)"]


def test_a_fork_cannot_open_it() -> None:
    """A fork cannot open the comm, since its messages would reach no one."""

    def fork_and_open(*, comm: Comm) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about a fork beside other tests' threads, since 3.12
            child = os.fork()
        if not child:
            try:
                comm.open()
            except Comm.ConnectError:
                os._exit(7)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    scheduler = Scheduler.with_sequential()
    task = scheduler.task(fork_and_open, plugins=Comm.Plugin())
    codes: list[int] = []
    task.on_result(lambda _, code: codes.append(code))
    scheduler.on_start(lambda: task.submit())
    scheduler.run()
    assert codes == [7]
