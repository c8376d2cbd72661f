"""Short calls on Dask begin by lease: without asking, and still each of them once."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WorkerLostError
from amltk.scheduling import ExitState, Scheduler
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from distributed import LocalCluster

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)


def note(file: str, n: int, seconds: float = 0.0) -> int:
    """Write down that this call begins, and where."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{n} {os.getpid()}\n".encode())  # one write, so that lines of processes are whole
    os.close(descriptor)
    time.sleep(seconds)
    return n


def end_process(file: str, n: int) -> None:
    """Begin, and be killed: what the operating system was not given is lost."""
    note(file, n)
    os.kill(os.getpid(), 9)


def begun(file: Path) -> list[int]:
    return [int(line.split()[0]) for line in file.read_text().splitlines()]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    from distributed import LocalCluster  # not before: it changes how exceptions are pickled

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None) as made:
        yield made


def count_questions(cluster: Any, counted: list[str]) -> None:
    """Count the calls that ask for permission. The scheduler is in this process."""
    begin = cluster.scheduler.handlers["amltk_begin"]

    async def counting(**told: Any) -> bool:
        counted.append(told["key"])
        allowed: bool = await begin(**told)
        return allowed

    cluster.scheduler.handlers["amltk_begin"] = counting


def run(scheduler: Scheduler, calls: int, file: Path, seconds: float = 0.0) -> None:
    """Run so many calls one after the other, two at a time."""
    numbers = iter(range(calls))
    task = scheduler.task(note)

    def submit(*_: Any) -> None:
        for n in numbers:
            task.submit(str(file), n, seconds)
            break

    scheduler.on_start(lambda: [submit() for _ in range(2)])
    scheduler.on_future_done(submit)
    assert scheduler.run() == EXHAUSTED


@pytest.mark.parametrize(("seconds", "is_asked"), [(0.0, False), (0.3, True)])
def test_only_calls_that_take_long_ask(cluster: Any, tmp_path: Path, seconds: float, is_asked: bool) -> None:
    """The first calls ask, whose duration nobody knows; of the others, those that take more than 100 ms."""
    counted: list[str] = []
    calls = 10 if is_asked else 200
    with Scheduler.with_dask(cluster) as scheduler:
        run(scheduler, 1, tmp_path / "first")
        count_questions(cluster, counted)
        run(scheduler, calls, tmp_path / "begun", seconds)
    assert sorted(begun(tmp_path / "begun")) == list(range(calls))
    if is_asked:
        # A duration that doubles is unknown again, and known at the next end.
        assert len(counted) >= calls - 2
    else:
        assert len(counted) <= calls // 2


def test_killed_workers_cost_a_call_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each call begins once; workers that are killed under short calls cost hardly more than what they compute."""
    import dask  # not before: it changes how exceptions are pickled

    # On a busy machine a worker may take so long to restart that it is replaced, which costs another call.
    monkeypatch.setattr("amltk.scheduling.executors.remote.dask.replacer.RETURN_SECONDS", 10 * GUARD)
    file = tmp_path / "begun"
    deadly = {100, 170, 171, 240}
    results: list[int] = []
    errors: list[BaseException] = []
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}):
        scheduler = Scheduler.with_dask(n_workers=2, memory_limit=None)

        @scheduler.on_start
        def launch() -> None:
            for n in range(300):
                scheduler.submit(end_process if n in deadly else note, str(file), n)

        scheduler.on_future_result(lambda _, result: results.append(result))
        scheduler.on_future_exception(lambda _, error: errors.append(error))
        assert scheduler.run(on_exception="continue") == EXHAUSTED
    assert {type(error) for error in errors} == {WorkerLostError}
    assert len(results) + len(errors) == 300
    assert len(set(results)) == len(results)
    assert sorted(begun(file)) == list(range(300)), "each call begins, and none twice: " + "; ".join(map(str, errors))
    # Outcomes that wait to be fetched are lost, too: more than a hundred, if small ones were not sent ahead.
    assert len(deadly) <= len(errors) <= 60


class Line:
    """The scheduler's end of a worker's connection."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()

    async def read(self) -> Any:
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    def abort(self) -> None:
        self.messages.put_nowait(OSError("broken"))

    def end(self) -> None:
        """End as the connection of a process that has ended does."""
        from tornado.iostream import StreamClosedError

        error = OSError("ended")
        error.__cause__ = StreamClosedError()
        self.messages.put_nowait(error)


@pytest.mark.parametrize("last_word", ["begun", "nothing", "silence", "broken"])
def test_a_lost_worker_is_heard_out(monkeypatch: pytest.MonkeyPatch, last_word: str) -> None:
    """What a lost worker was leased begins elsewhere when it is certain that it has not begun there."""
    from amltk.scheduling.executors.remote.dask import tracker as module

    key, topic = f"f-{'a' * 16}{'0' * 16}", f"amltk-{'a' * 16}"
    events: list[tuple[Any, ...]] = []
    sent: list[Any] = []
    task = SimpleNamespace(
        processing_on=SimpleNamespace(address="first"), prefix=SimpleNamespace(duration_average=0.001)
    )
    scheduler = SimpleNamespace(
        handlers={},
        stream_handlers={},
        tasks={key: task},
        workers={"second": None, "third": None},
        log_event=lambda to, event: events.append((to, *event[:3])),
        stream_comms={"first": SimpleNamespace(send=sent.append)},
    )
    monkeypatch.setattr(module, "LAST_WORDS_SECONDS", 0.1 if last_word == "silence" else GUARD)

    async def lose() -> bool:
        tracker: Any = module.Tracker()
        await tracker.start(scheduler)
        tracker.enter(topic)
        line = Line()
        listening = asyncio.create_task(tracker.listen(line, "first", 1, "here"))
        await asyncio.sleep(0)
        tracker.transition(key, "waiting", "processing")
        tracker.transition(key, "waiting", "processing")
        assert sent == [{"op": "amltk-lease", "key": key}], "only the first assignment is leased"
        tracker.remove_worker(scheduler, "first")
        asking = asyncio.create_task(tracker.begin(key, "second", 2, "there", topic))
        await asyncio.sleep(0)
        assert not asking.done()
        if last_word == "begun":
            line.messages.put_nowait([("begun", key, b"")])
        if last_word == "broken":
            line.abort()
        elif last_word != "silence":
            line.end()
        allowed: bool = await asking
        await listening
        assert not await tracker.begin(key, "third", 3, "there", topic), "it begins once"
        return allowed

    assert asyncio.run(lose()) is (last_word == "nothing")
    expected = {
        "begun": [("begun", key, "first"), ("lost", key, "first")],
        "nothing": [("begun", key, "second")],
        "silence": [("lost", key, "second")],
        "broken": [("lost", key, "second")],
    }
    assert events == [(topic, *event) for event in expected[last_word]]


def test_small_outcomes_of_a_lost_worker_arrive_before_its_loss() -> None:
    """What a killed worker has sent is told first, so its loss costs only the call that it was computing."""
    from amltk.scheduling.executors.remote.dask.tracker import Tracker

    first, second = (f"f-{'a' * 16}{n:0>16}" for n in range(2))
    told: list[tuple[Any, ...]] = []
    scheduler = SimpleNamespace(
        handlers={},
        stream_handlers={},
        tasks={first: None, second: None},
        workers={},
        log_event=lambda _, event: told.append(event[:2]),
    )

    async def lose() -> None:
        tracker: Any = Tracker()
        await tracker.start(scheduler)
        line = Line()
        listening = asyncio.create_task(tracker.listen(line, "worker", 1, "here"))
        line.messages.put_nowait([("begun", first, b"")])
        for _ in range(3):
            await asyncio.sleep(0)
        tracker.remove_worker(scheduler, "worker")  # its other connection is closed, and has been read
        line.messages.put_nowait([("ended", first, b"42"), ("begun", second, b"")])
        line.end()
        await asyncio.gather(listening, *tracker._waiting)

    asyncio.run(asyncio.wait_for(lose(), GUARD))
    assert told == [("begun", first), ("ended", first), ("begun", second), ("lost", first), ("lost", second)]


def test_a_worker_that_was_given_up_begins_nothing() -> None:
    """One that was suspended comes back and asks: nobody would report that the call is lost with it."""
    from amltk.scheduling.executors.remote.dask.tracker import Tracker

    key, topic = f"f-{'a' * 16}{'0' * 16}", f"amltk-{'a' * 16}"
    told: list[tuple[Any, ...]] = []
    scheduler = SimpleNamespace(
        handlers={},
        stream_handlers={},
        tasks={key: None},
        workers={"second": None},
        log_event=lambda _, event: told.append(event[:3]),
    )

    async def ask() -> list[bool]:
        tracker: Any = Tracker()
        await tracker.start(scheduler)
        tracker.remove_worker(scheduler, "first")
        return [await tracker.begin(key, worker, 1, "here", topic) for worker in ("first", "second", "second")]

    assert asyncio.run(ask()) == [False, True, False]
    assert told == [("begun", key, "second")]
