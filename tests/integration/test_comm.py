"""Comms over real processes and threads: floods, losses, forks, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import signal
import socket
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CommError, WorkerLostError
from amltk.scheduling import Comm, ExitState, Limits, Retry, Scheduler
from amltk.scheduling.plugins.comm._driver import connected, connection
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS, run_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling import Task

pytestmark = pytest.mark.integration


class Talk:
    """A run of one function with a comm; records its events and outcomes."""

    def __init__(self, scheduler: Scheduler, function: Callable[..., Any], *plugins: Any) -> None:
        self.scheduler = scheduler
        self.task: Task[..., Any] = scheduler.task(function, plugins=[Comm.Plugin(), *plugins])
        self.recorder = EventRecorder(scheduler, self.task)
        self.results: list[Any] = []
        self.errors: list[BaseException] = []
        self.task.on_result(lambda _, result: self.results.append(result))
        self.task.on_exception(lambda _, error: self.errors.append(error))

    def run(self, *args: Any, calls: int = 1, **kwargs: Any) -> ExitState:
        """Submit the function and run."""
        self.scheduler.on_start(lambda: [self.task.submit(*args) for _ in range(calls)])
        return self.scheduler.run(**kwargs)

    @property
    def told(self) -> list[str]:
        """The names of the task's events."""
        return [record.event.name for record in self.recorder.records if record.source is not None]


def processes(function: Callable[..., Any], *plugins: Any, workers: int = 1) -> Talk:
    return Talk(Scheduler.with_processes(workers), function, *plugins)


def threads(function: Callable[..., Any], *plugins: Any, workers: int = 1) -> Talk:
    return Talk(Scheduler.with_threads(workers), function, *plugins)


BOTH = pytest.mark.parametrize("make", [processes, threads])

TALKED = ["comm-open", "comm-message", "comm-close"]
LOST = ["done", "exception"]
RETURNED = ["done", "result"]


# ------------------------------------------------------------------------------------------------ order and floods


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
@pytest.mark.parametrize("where", ["program", "workers"])
def test_the_default_timeout_of_sockets_is_not_that_of_workers(where: str, method: str, tmp_path: Path) -> None:
    """Programs, and libraries that workers import, set it for their downloads; calls, workers and comms wait longer."""
    (tmp_path / "downloads.py").write_text("import socket\nsocket.setdefaulttimeout(0.05)\ndef get(): pass\n")
    ended = run_script(
        f"""
        import os, time
        from amltk.scheduling import Comm, Scheduler

        if {where!r} == "program":
            import downloads

        def ask(seconds, *, comm):
            from downloads import get
            with comm.open():
                time.sleep(seconds)
                return comm.request(seconds)

        scheduler = Scheduler.with_processes(1, {method!r}, preload=["downloads"] if {method!r} == "forkserver" else ())
        task = scheduler.task(ask, plugins=Comm.Plugin())
        scheduler.on_start(lambda: [task.submit(seconds) for seconds in (0, 0.2, 0)])

        @task.on("comm-request")
        def answer(message):
            time.sleep(0.2)
            message.respond(message.data)

        task.on_result(lambda _, result: print(result))
        print(scheduler.run(display=False).code.name)
        """,
        path=[*PATHS, str(tmp_path)],
    )
    assert ended.lines == ["0", "0.2", "0", "EXHAUSTED"], ended.errors


def count(n: int, *, comm: Comm) -> None:
    with comm.open():
        for i in range(n):
            comm.send(i)


def test_the_order_of_many_messages() -> None:
    """10,000 messages arrive in the order in which they were sent, all before the ending."""
    talk = processes(count)
    came: list[int] = []
    talk.task.on("comm-message")(lambda msg: came.append(msg.data))
    talk.run(10_000)
    assert came == list(range(10_000))
    assert talk.told[-3:] == ["comm-close", *RETURNED]


def test_messages_of_several_calls_do_not_mix() -> None:
    """The messages of each call are in order, and refer to their own future."""
    talk = processes(count, workers=2)
    came: dict[Any, list[int]] = {}
    talk.task.on("comm-message")(lambda msg: came.setdefault(msg.future, []).append(msg.data))
    talk.run(100, calls=20)
    assert len(came) == 20
    assert set(map(tuple, came.values())) == {tuple(range(100))}


def test_a_flood_is_slowed() -> None:
    """However slow the callbacks, a call can run ahead of them only by what the connection buffers."""
    sent = [0]
    size = 1000
    with socket.socket(socket.AF_UNIX) as probe:
        on_its_way = (connection.CHUNK + probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)) // size
    go_on = threading.Event()

    def flood(*, comm: Comm) -> None:
        with comm.open():
            for _ in range(5000):
                comm.send(bytes(size))
                sent[0] += 1
                if sent[0] == 20:
                    go_on.set()

    talk = threads(flood)
    ahead: list[int] = []

    @talk.task.on("comm-message")
    def hold_the_loop(_: Comm.Msg[bytes]) -> None:
        assert go_on.wait(GUARD)
        ahead.append(sent[0] - len(ahead))

    talk.run()
    assert len(ahead) == 5000
    assert 20 <= max(ahead) <= 64 + on_its_way


def test_a_flood_of_slow_coroutines_is_slowed() -> None:
    """Coroutine callbacks count until they finish: 64 messages are handled at a time."""
    talk = processes(count)
    at_work: set[int] = set()
    most: list[int] = []
    full = asyncio.Event()

    @talk.task.on("comm-message")
    async def take_time(msg: Comm.Msg[int]) -> None:
        at_work.add(msg.data)
        most.append(len(at_work))
        if len(at_work) == 64:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        at_work.remove(msg.data)

    talk.run(500)
    assert (len(at_work), len(most), max(most)) == (0, 500, 64)


# ------------------------------------------------------------------------------------------------ losses


def die_talking(how: str, *, comm: Comm) -> None:
    with comm.open():
        comm.send("last words")
        if how == "exit":
            os._exit(3)
        if how == "raise":
            raise ValueError("too much")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("how", ["kill", "exit", "raise"])
def test_a_worker_that_dies(how: str) -> None:
    """The worker's messages are delivered, and its comm is closed once, before the loss of its call is reported."""
    talk = processes(die_talking)
    talk.run(how, on_exception="continue")
    assert talk.told == ["submitted", *TALKED, *LOST]
    assert isinstance(talk.errors[0], ValueError if how == "raise" else WorkerLostError)


def wait_for_ever(*, comm: Comm) -> None:
    with comm.open():
        comm.send("here")
        comm.receive()


def test_cancelling_a_call_in_a_process() -> None:
    """The worker is killed, and its comm is closed once, before `@cancelled`."""
    talk = processes(wait_for_ever)
    talk.task.on("comm-message")(lambda msg: msg.future.cancel())
    talk.run(on_cancelled="continue")
    assert talk.told == ["submitted", *TALKED, "cancelled"]


def test_cancelling_a_call_in_a_thread_ends_it() -> None:
    """A thread cannot be killed, but the call finds its comm closed and can end."""
    ended: list[BaseException] = []

    def wait(*, comm: Comm) -> None:
        try:
            wait_for_ever(comm=comm)
        except BaseException as error:
            ended.append(error)
            raise

    talk = threads(wait)
    talk.task.on("comm-message")(lambda msg: msg.future.cancel())
    talk.run(on_cancelled="continue")
    assert talk.told == ["submitted", *TALKED, "cancelled"]
    assert [type(error) for error in ended] == [Comm.ClosedError]
    assert "the run has ended, or this call was cancelled" in str(ended[0])


@BOTH
def test_a_run_that_does_not_wait(make: Callable[..., Talk]) -> None:
    """The comms of abandoned calls are closed once, before the ending is reported."""
    talk = make(wait_for_ever)
    talk.task.on("comm-message")(lambda _: talk.scheduler.stop())
    talk.run(wait=False)
    assert talk.told[:4] == ["submitted", *TALKED]
    assert talk.told[4:] in (LOST, ["cancelled"])


def test_a_late_comer_is_refused() -> None:
    """A cancelled call that is still running cannot open its comm any more."""
    refused: list[BaseException] = []
    begun, cancelled = threading.Event(), threading.Event()

    def come_late(*, comm: Comm) -> None:
        begun.set()
        assert cancelled.wait(GUARD)
        try:
            comm.open()
        except CommError as error:
            refused.append(error)

    talk = threads(come_late)

    @talk.scheduler.on_start
    def launch() -> None:
        future = talk.task.submit()
        assert future is not None
        assert begun.wait(GUARD)
        future.cancel()

    talk.task.on_cancelled(lambda _: cancelled.set())
    talk.scheduler.run(on_cancelled="continue")
    assert talk.told == ["submitted", "cancelled"]
    assert [type(error) for error in refused] == [Comm.ConnectError]
    assert "the call has ended, or was cancelled" in str(refused[0])


def leave_a_fork(*, comm: Comm) -> None:
    with comm.open():
        child = os.fork()
        if not child:
            signal.pause()
        comm.send(child)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_fork_that_holds_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a worker dies but its fork lives on, the ending is reported once the connection has fallen silent."""
    monkeypatch.setattr(connected, "PATIENCE", 0.05)
    talk = processes(leave_a_fork)
    forks: list[int] = []
    talk.task.on("comm-message")(lambda msg: forks.append(msg.data))
    try:
        talk.run(on_exception="continue")
    finally:
        for fork in forks:
            with contextlib.suppress(ProcessLookupError):  # on Linux the pool has ended it, soon after the worker
                os.kill(fork, signal.SIGKILL)
    assert talk.told == ["submitted", *TALKED, *LOST]


def fork_and_talk(*, comm: Comm) -> tuple[bytes, int]:
    reader, writer = os.pipe()
    with comm.open():
        child = os.fork()
        if not child:
            try:
                comm.send("from the fork")
            except Comm.ClosedError as error:
                os.write(writer, str(error).encode())
            comm.close()
            os._exit(0)
        os.waitpid(child, 0)
        comm.send("from the parent")
        said = os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    return said, child


def test_a_fork_cannot_use_it() -> None:
    """Using the comm raises in the fork, and leaves the parent's comm intact."""
    talk = processes(fork_and_talk)
    said: list[str] = []
    talk.task.on("comm-message")(lambda msg: said.append(msg.data))
    talk.run()
    assert talk.told == ["submitted", *TALKED, *RETURNED]
    assert said == ["from the parent"]
    assert b"its fork %d cannot use it" % talk.results[0][1] in talk.results[0][0]


# ------------------------------------------------------------------------------------------------ requests


def ask(data: Any = None, *, comm: Comm, timeout: float | None = None) -> Any:
    """Return the response to a request, or why there is none."""
    with comm.open():
        try:
            return comm.request(data, timeout=timeout)
        except CommError as error:
            return f"{type(error).__name__}: {error}"


def test_a_response_may_come_later_from_another_thread() -> None:
    """The message is kept and answered later by another thread."""
    talk = processes(ask, workers=2)
    with ThreadPoolExecutor(1) as pool:
        talk.task.on("comm-request")(lambda msg: pool.submit(msg.respond, msg.data * 2))
        talk.run(21, calls=4)
    assert talk.results == [42] * 4


def test_a_coroutine_may_answer() -> None:
    """An `async def` callback may answer, even with the result of another call."""
    talk = processes(ask, workers=2)

    @talk.task.on("comm-request")
    async def compute(msg: Comm.Msg[int]) -> None:
        msg.respond(await talk.scheduler.submit(abs, msg.data))

    talk.run(-3)
    assert talk.results == [3]


@BOTH
@pytest.mark.parametrize("policy", ["raise", "continue"])
@pytest.mark.parametrize("awaits", [False, True])
def test_a_callback_that_raises_leaves_nobody_waiting(make: Callable[..., Talk], policy: Any, *, awaits: bool) -> None:
    """The call gets an error instead of an answer, so a run that ends by that error ends too."""
    talk = make(ask)

    @talk.task.on("comm-request")
    def stumble(_: Comm.Msg[Any]) -> Any:
        if awaits:
            return stumble_later()
        raise ValueError("stumbled")

    async def stumble_later() -> None:
        await asyncio.sleep(0)
        raise ValueError("stumbled")

    if policy == "raise":
        with pytest.raises(ValueError, match="stumbled"):
            talk.run()
    else:
        talk.run(on_callback_exception=policy)
    assert talk.results == ["CloseRequestError: a callback of @comm-request raised ValueError('stumbled')"]


def test_a_message_that_nobody_keeps() -> None:
    """Once every callback has dropped the message, it cannot be answered any more, and the call gets an error."""
    talk = processes(ask)

    def forget(_: Comm.Msg[Any]) -> None:
        pass

    talk.task.on("comm-request")(forget)
    talk.recorder.records.clear()
    scheduler = Scheduler.with_processes(1)  # without a recorder, which keeps every message
    task = scheduler.task(ask, plugins=Comm.Plugin())
    task.on("comm-request")(forget)
    task.on_result(lambda _, result: talk.results.append(result))
    scheduler.on_start(lambda: task.submit())
    scheduler.run()
    assert "or kept the message to respond later" in talk.results[0]


def test_a_request_that_nobody_hears() -> None:
    """Without a subscription, the request fails at once."""
    talk = processes(ask)
    talk.run()
    assert "no callback is subscribed to @comm-request" in talk.results[0]


def ask_in_vain(*, comm: Comm) -> Any:
    with comm.open():
        with pytest.raises(Comm.TimeoutError, match=r"no response within 0\.01 s"):
            comm.request("early", timeout=0.01)
        with pytest.raises(TimeoutError, match="no message within"):
            comm.receive(timeout=0)
        return comm.request("late", timeout=GUARD)


def test_a_timeout() -> None:
    """It raises a TimeoutError; the comm stays usable, and the late response to the first request is dropped."""
    talk = processes(ask_in_vain)
    early: list[Comm.Msg[str]] = []

    @talk.task.on("comm-request")
    def answer_the_second(msg: Comm.Msg[str]) -> None:
        if msg.data == "late":
            assert early[0].respond("dropped")
            msg.respond("taken")
        early.append(msg)

    talk.run()
    assert talk.results == ["taken"]


def ask_without_waiting(*, comm: Comm) -> None:
    with comm.open(), pytest.raises(Comm.TimeoutError):
        comm.request(timeout=0)


def test_a_response_that_comes_too_late(caplog: pytest.LogCaptureFixture) -> None:
    """A response after the call has ended returns False and is logged."""
    talk = processes(ask_without_waiting)
    kept: list[Comm.Msg[Any]] = []
    talk.task.on("comm-request")(kept.append)
    with caplog.at_level(logging.DEBUG, logger="amltk"):
        talk.run()
        assert kept[0].respond(1) is False
    assert "a response to a call of ask_without_waiting came too late" in caplog.text


def share(*, comm: Comm) -> list[list[int]]:
    """Send requests from several threads of a call at the same time."""

    def ask_much(start: int) -> list[int]:
        return [comm.request(n) for n in range(start, start + 50)]

    with comm.open(), ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask_much, range(0, 400, 100)))


def test_threads_of_a_call_share_it() -> None:
    """Each thread gets the responses to its own requests."""
    talk = processes(share)
    talk.task.on("comm-request")(lambda msg: msg.respond(-msg.data))
    talk.run()
    assert talk.results == [[[-n for n in range(start, start + 50)] for start in range(0, 400, 100)]]


# ------------------------------------------------------------------------------------------------ what travels


class Unloadable:
    """Can be pickled but not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def send_strange_things(*, comm: Comm) -> list[str]:
    errors = []
    with comm.open():
        for send in (comm.send, comm.request):
            try:
                send(threading.Lock())
            except TypeError as error:
                errors.append(error.__notes__[0])
        comm.send(Unloadable())
        comm.send("fine")
    return errors


def test_data_that_cannot_travel() -> None:
    """Data that cannot be pickled raises in the call; data that cannot be unpickled raises when a callback reads it."""
    talk = processes(send_strange_things)
    came: list[Any] = []
    talk.task.on("comm-message")(lambda msg: came.append(msg.data))
    talk.run(on_callback_exception="continue")
    assert came == ["fine"]
    assert talk.results[0] == ["raised while pickling a message of type lock"] * 2


def test_what_cannot_be_sent_to_a_call() -> None:
    """A response that cannot be pickled raises in the callback, and the call gets an error."""
    talk = processes(ask)
    talk.task.on("comm-request")(lambda msg: msg.respond(threading.Lock()))
    talk.run(on_callback_exception="continue")
    assert "a callback of @comm-request raised TypeError" in talk.results[0]


def test_a_call_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data sent to a call is bounded: beyond the bound, sending raises an error that says what to do."""
    monkeypatch.setattr(connection, "MOST_UNREAD", 1 << 20)

    def idle(*, comm: Comm) -> None:
        with comm.open():
            assert go_on.wait(GUARD)

    go_on = threading.Event()
    talk = threads(idle)

    @talk.task.on("comm-open")
    def flood(msg: Comm.Msg[Any]) -> None:
        try:
            for _ in range(100):
                msg.comm.send(bytes(100_000))
        except CommError as error:
            talk.errors.append(error)
        go_on.set()

    talk.run()
    assert talk.told == ["submitted", "comm-open", "comm-close", *RETURNED]
    assert "bytes wait for the call to read them: it must call comm.receive()" in str(talk.errors[0])


def test_classes_of_the_program_itself() -> None:
    """Objects of classes from the script travel both ways and keep their class, even one local to the function."""
    ended = run_script("""
        from amltk.scheduling import Comm, Scheduler

        class Trial:
            def __init__(self, n):
                self.n = n

        def work(*, comm):
            class Local(Trial):
                pass
            with comm.open():
                comm.send(Trial(1))
                comm.send(Local(2))
                got = comm.request(Trial(3))
                comm.send((type(got) is Trial, got.n))

        for scheduler in (Scheduler.with_processes(1), Scheduler.with_loky(1)):
            task = scheduler.task(work, plugins=Comm.Plugin())
            scheduler.on_start(lambda: task.submit())

            @task.on("comm-message")
            def show(msg):
                print(isinstance(msg.data, Trial) and msg.data.n or msg.data)

            @task.on("comm-request")
            def answer(msg):
                assert type(msg.data) is Trial
                msg.respond(Trial(4))

            scheduler.run()
        """)
    assert (ended.code, ended.lines) == (0, ["1", "2", "(True, 4)"] * 2)


# ------------------------------------------------------------------------------------------------ other plugins


def fail_first(folder: str, how: str, *, comm: Comm) -> str:
    with comm.open():
        comm.send("here")
        try:
            os.mkdir(folder)
        except FileExistsError:
            return "second"
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("first")


@pytest.mark.parametrize(("make", "how"), [(processes, "kill"), (processes, "raise"), (threads, "raise")])
def test_each_attempt_talks_anew(make: Callable[..., Talk], how: str, tmp_path: Any) -> None:
    """With `Retry`, each attempt opens and closes its own comm, in order, before the next attempt begins."""
    talk = make(fail_first, Retry(wait=0))
    talk.run(str(tmp_path / "tried"), how)
    assert [name for name in talk.told if name != "retry"] == ["submitted", *TALKED, *TALKED, *RETURNED]
    assert talk.results == ["second"]


def test_within_limits() -> None:
    """A call computed in a process of its own can use its comm, whatever the order of the plugins."""
    for plugins in ([Comm.Plugin(), Limits(wall_time=GUARD)], [Limits(wall_time=GUARD), Comm.Plugin()]):
        scheduler = Scheduler.with_loky(1)
        task = scheduler.task(ask, plugins=plugins)
        results: list[Any] = []
        task.on("comm-request")(lambda msg: msg.respond("fine"))
        task.on_result(lambda _, result, results=results: results.append(result))
        scheduler.on_start(lambda task=task: task.submit())
        scheduler.run()
        assert results == ["fine"]


# ------------------------------------------------------------------------------------------------ what it costs


def say_nothing(*, comm: Comm) -> None:
    pass


def say_a_word(*, comm: Comm) -> None:
    with comm.open():
        pass


@pytest.mark.parametrize(("function", "calls"), [(say_nothing, 10_000), (say_a_word, 500)])
def test_submissions_cost_no_descriptor(function: Callable[..., Any], calls: int) -> None:
    """However many calls there are: one listener, and one connection for each call while its comm is open."""
    talk = processes(function, workers=2)
    talk.recorder.records.clear()
    left = [calls]
    held: set[int] = set()

    @talk.scheduler.on_start(repeat=8)
    @talk.task.on_result
    def go_on(*_: Any) -> None:
        if left[0] < calls - 50 and left[0] % 100 == 0:  # the pool has started what it needs
            held.add(len(os.listdir("/dev/fd")))
        if left[0]:
            left[0] -= 1
            talk.task.submit()

    talk.scheduler.run()
    assert talk.task.event_counts[talk.task.RESULT] == calls
    assert max(held) - min(held) <= 16  # those of the calls in flight, and those that are being closed


def test_one_listener_for_all_tasks() -> None:
    """The tasks and calls of a run share one listener; the first submission opens it, and it closes with the run."""
    scheduler = Scheduler.with_threads(2)
    addresses: set[str] = set()

    def tell(*, comm: Comm) -> str:
        with comm.open():
            return str(comm._source.address)  # type: ignore[attr-defined]

    tasks = [scheduler.task(tell, plugins=Comm.Plugin()) for _ in range(3)]
    scheduler.on_start(lambda: [task.submit() for task in tasks for _ in range(3)])
    scheduler.on_future_result(lambda _, address: addresses.add(address))
    scheduler.run()
    assert len(addresses) == 1
    assert not os.path.exists(addresses.pop())


def test_a_run_without_submissions_listens_nowhere() -> None:
    """The plugin alone opens no listener."""
    talk = threads(say_nothing)
    talk.scheduler.on_start(lambda: talk.results.append(talk.scheduler.current_run.resources._things.copy()))
    talk.scheduler.run()
    assert talk.results == [{}]


def test_submitting_from_another_thread() -> None:
    """The listener may be created by whichever thread submits first."""
    talk = processes(count)

    @talk.scheduler.on_start
    def launch() -> None:
        talk.scheduler.call_later(0, lambda: None)
        thread.start()

    def submit() -> None:
        talk.task.submit(3)
        talk.scheduler.stop()

    thread = threading.Thread(target=submit)
    talk.scheduler.run(end_on_empty=False)
    thread.join()
    assert talk.told == ["submitted", "comm-open", *["comm-message"] * 3, "comm-close", *RETURNED]


def test_a_comm_can_be_sent_before_it_is_opened_only() -> None:
    """It travels to the worker before it is opened; once open, it belongs to its call."""

    def travel(*, comm: Comm) -> bool:
        there = pickle.loads(pickle.dumps(comm))
        with comm.open():
            with pytest.raises(TypeError, match="belongs to the call"):
                pickle.dumps(comm)
            with pytest.raises(Comm.ConnectError, match="already connected"):
                there.open()
        return True

    talk = threads(travel)
    talk.run()
    gc.collect()
    assert talk.results == [True]


class InlineExecutor(Executor):
    """Computes in `submit`, on the thread of the run, without declaring it."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def test_the_thread_of_the_run_cannot_wait_for_itself() -> None:
    """An executor that computes on the run's thread does not hang the run: the error says what to use."""
    talk = Talk(Scheduler(InlineExecutor()), ask)
    talk.run(on_exception="continue")
    assert "computed on the thread of its run" in str(talk.errors[0])
    assert talk.told == ["submitted", *LOST]
