"""Requests from other threads and other tasks of the loop, in a run with a journal, are recorded and done once."""

from __future__ import annotations

import asyncio
import operator
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalMismatchError, JournalUnsupportedError
from amltk.journal import Kind, Reader
from amltk.scheduling import Event, ExitState, Scheduler
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

NEWS: Event[[Any], Any] = Event("news")


class Server:
    """A scheduler whose callbacks record their events; another thread calls `ask` when the run starts.

    In a replay that is before anything recorded is delivered, unless `when` is "after": then it is a minute later.
    """

    def __init__(self, folder: Path, ask: Callable[[Server], None], *, when: str = "before") -> None:
        self.folder = folder
        self.computed: list[Any] = []
        self.notes: list[Any] = []
        self.futures: list[Any] = []
        self.scheduler = Scheduler(SimulatedExecutor(2, duration=lambda fn, x: 1.0, outcome=self.compute))
        self.task = self.scheduler.task(operator.neg)
        self.other = self.scheduler.task(operator.pos)
        self.ask = ask
        self.has_asked = False
        self.task.on_submitted(lambda future, x: self.notes.append(f"submitted {future.number}: {x}"))
        self.task.on_result(self.on_result)
        self.task.on(NEWS)(self.on_news)
        if when == "before":
            self.scheduler.on_start(self.ask_elsewhere)
        else:
            self.scheduler.on_start(lambda: self.scheduler.call_later(50, self.ask_elsewhere))

    def compute(self, fn: Callable[..., Any], x: Any) -> Any:
        self.computed.append(x)
        return fn(x)

    def ask_elsewhere(self) -> None:
        thread = threading.Thread(target=self.ask, args=(self,))
        thread.start()
        thread.join()

    def on_result(self, future: Any, result: Any) -> None:
        self.notes.append(f"result {future.number}: {result} with {self.task.n_pending}")
        if future.number % 3 == 0 and self.scheduler.running():
            self.task.submit(100 + future.number)

    def on_news(self, what: Any) -> None:
        self.notes.append(f"news {what}")
        if self.scheduler.running():
            self.task.submit(1000 + what)

    def run(self, **options: Any) -> ExitState:
        return run_in_virtual_time(self.scheduler.async_run(journal=self.folder, display=False, **options))


def submit_three(server: Server) -> None:
    server.futures += [server.task.submit(x) for x in (1, 2, 1)]


def emit_and_submit(server: Server) -> None:
    server.task.emit(NEWS, 5)
    server.futures.append(server.task.submit(1))
    server.task.emit(NEWS, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.mark.parametrize("ask", [submit_three, emit_and_submit])
@pytest.mark.parametrize("when", ["before", "after"])
def test_it_survives_crashes(ask: Callable[[Server], None], when: str) -> None:
    """Wherever the program is killed, and whenever its thread asks again, callbacks see the same events."""

    def program(folder: Path) -> list[Any]:
        server = Server(folder, ask, when=when)
        server.run(end_on_empty=when == "before", timeout=60)
        return [*server.notes, [future.number for future in server.futures if future.done()]]

    notes = crash_everywhere(program)
    submitted = [note for note in notes if "submitted" in note]
    assert len(set(submitted)) == len(submitted) > 2


def test_equal_calls_are_the_same_one_after_another(folder: Path) -> None:
    """A thread's repeated submissions get the recorded futures; additional ones are new."""
    Server(folder, submit_three).run()

    def submit_four(server: Server) -> None:
        submit_three(server)
        server.futures.append(server.task.submit(1))

    again = Server(folder, submit_four)
    again.run()
    assert again.computed[0] == 1
    assert len(again.computed) <= 2
    assert [future.result() for future in again.futures] == [-1, -2, -1, -1]
    numbers = [future.number for future in again.futures]
    assert numbers[:3] == [0, 1, 2]
    assert numbers[3] > 2
    assert [note for note in again.notes if note.startswith("submitted 0")] == ["submitted 0: 1"]


def test_a_thread_that_asks_again_late(folder: Path) -> None:
    """A thread that asks again long after the replay gets the recorded futures."""
    Server(folder, emit_and_submit).run()
    again = Server(folder, emit_and_submit, when="after")
    assert again.run(end_on_empty=False, timeout=60).code is ExitState.Code.TIMEOUT
    assert again.computed == []
    assert [future.result() for future in again.futures] == [-1]
    assert again.notes.count("news 5") == 2


def test_a_thread_that_does_not_ask_again(folder: Path) -> None:
    """What was submitted is computed, even if no thread asks for it again."""
    Server(folder, submit_three).run()
    log = folder / "journal.log"
    with open(log, "r+b") as file:
        file.truncate(next(record.end for record in Reader(folder).records() if record.kind == Kind.RESULT))
    again = Server(folder, lambda server: None)
    assert again.run().code is ExitState.Code.EXHAUSTED
    assert sorted(again.computed) == [1, 2, 100, 103]
    assert len([note for note in again.notes if note.startswith("result")]) == 5


def test_a_call_that_is_cancelled_at_once(folder: Path) -> None:
    """A thread's submission and cancellation of a call are both replayed."""

    def ask(server: Server) -> None:
        server.task.submit(1)
        server.task.submit(2).cancel()

    def program(folder: Path) -> Any:
        server = Server(folder, ask)
        server.task.on_cancelled(lambda future: server.notes.append(f"cancelled {future.number}"))
        server.run(on_cancelled="continue")
        return server.notes

    assert "cancelled 1" in crash_everywhere(program)


def test_a_task_of_the_same_loop(folder: Path) -> None:
    """Code of the loop that is not a callback submits like another thread, and is asked again in a replay."""

    def program(folder: Path) -> Any:
        server = Server(folder, lambda server: None)

        async def main() -> None:
            run = asyncio.ensure_future(
                server.scheduler.async_run(journal=folder, end_on_empty=False, timeout=100, display=False)
            )
            await asyncio.sleep(0.5)
            if server.scheduler.running():
                future = server.task.submit(1)
                await asyncio.sleep(5)
                server.futures.append(future.result() if future.done() else None)
            await run

        run_in_virtual_time(main())
        return server.notes

    assert "submitted 0: 1" in crash_everywhere(program)


def test_namesakes(folder: Path) -> None:
    """Tasks with the same name each get their own calls."""

    def program(folder: Path) -> Any:
        scheduler = Scheduler(SimulatedExecutor(2, duration=lambda fn, x: 1.0, outcome=operator.call))
        tasks = [scheduler.task(lambda x, n=n: x * n) for n in range(3)]
        told: list[Any] = []
        for n, task in enumerate(tasks):
            task.on_result(lambda _, result, n=n: told.append((n, result)))

        @scheduler.on_start
        def begin() -> None:
            thread = threading.Thread(target=lambda: [task.submit(7) for task in tasks])
            thread.start()
            thread.join()

        run_in_virtual_time(scheduler.async_run(journal=folder, display=False))
        return told

    assert sorted(crash_everywhere(program)) == [(0, 0), (1, 7), (2, 14)]


def test_a_task_that_is_not_there_any_more(folder: Path) -> None:
    """A recorded submission of a task that the program does not have is an error."""
    Server(folder, submit_three).run()
    other = Scheduler(SimulatedExecutor(2))
    other.task(operator.pos)
    with pytest.raises(JournalMismatchError, match=r"another thread submits a call of neg.*no such task"):
        run_in_virtual_time(other.async_run(journal=folder, display=False))


def test_what_is_refused(folder: Path) -> None:
    """The errors for plain functions say what to do instead."""
    server = Server(folder, submit_three)
    errors: list[str] = []

    def ask(_: Server) -> None:
        for attempt in (
            lambda: server.scheduler.submit(operator.neg, 1),
            lambda: server.scheduler.call_later(1, print),
            lambda: server.scheduler.once(print),
        ):
            with pytest.raises(JournalUnsupportedError) as caught:
                attempt()
            errors.append(str(caught.value))

    server.ask = ask
    server.run()
    assert len(errors) == 3
    assert "Make it a task" in errors[0]
    assert all("Emit an event" in error for error in errors[1:])
