"""Messages of running calls in runs with a journal: recorded, and replayed without the calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalMismatchError
from amltk.journal import Kind, Reader
from amltk.scheduling import Comm, Retry, Scheduler
from amltk.testing import crash_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable

COMPUTED: list[int] = []


def train(number: int, comm: Any) -> float:
    """Send each epoch's score, and return early if a callback says so."""
    COMPUTED.append(number)
    score = 0.0
    with comm.open(number):
        for epoch in range(1, 4):
            score = epoch * (number % 3 + 1.0)
            comm.send((epoch, score))
            if not comm.request(("rung", epoch)):
                break
    if number % 4 == 3 and COMPUTED.count(number) < 3:
        raise ValueError(number)
    return score


class Halving:
    """Successive halving by `Comm`: a trial continues while it is in the better half of its rung."""

    def __init__(self, scheduler: Scheduler, folder: Path, *, trials: int = 8, retry: bool = False) -> None:
        self.scheduler = scheduler
        self.folder = folder
        plugins: list[Any] = [Comm.Plugin()]
        if retry:
            plugins.append(Retry(ValueError, attempts=3, wait=0.01, jitter=0))
        self.task = scheduler.task(train, plugins=plugins)
        self.trials = trials
        self.scores: dict[int, list[float]] = {}
        self.latest: dict[int, float] = {}
        self.told: list[Any] = []
        scheduler.on_start(self.begin)
        self.task.on("comm-open")(lambda msg: self.note("open", msg, msg.data, msg.comm.is_open))
        self.task.on("comm-message")(self.on_message)
        self.task.on("comm-request")(self.on_request)
        self.task.on("comm-close")(lambda msg: self.note("close", msg, msg.comm.is_open, msg.comm.send("too late")))
        self.task.on_result(lambda future, result: self.told.append(("result", future.number, result)))
        self.task.on_exception(lambda future, error: self.told.append(("error", future.number, str(error))))

    def note(self, what: str, msg: Any, *more: Any) -> None:
        self.told.append((what, msg.future.number, *more))

    def begin(self) -> None:
        for number in range(self.trials):
            self.task.submit(number)

    def on_message(self, msg: Any) -> None:
        self.note("message", msg, msg.data)
        self.latest[msg.future.number] = msg.data[1]

    def on_request(self, msg: Any) -> None:
        _, rung = msg.data
        scores = self.scores.setdefault(rung, [])
        score = self.latest[msg.future.number]
        goes_on = score >= sorted(scores)[len(scores) // 2] if scores else True
        scores.append(score)
        self.note("request", msg, rung, goes_on, msg.respond(goes_on))

    def run(self) -> list[Any]:
        self.scheduler.run(journal=self.folder, display=False, on_exception="continue", on_cancelled="continue")
        return [*self.told, self.scores]


@pytest.fixture(autouse=True)
def nothing_computed() -> None:
    COMPUTED.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


MAKERS: dict[str, Callable[[], Scheduler]] = {
    "sequential": Scheduler.with_sequential,
    "threads": lambda: Scheduler.with_threads(3),
}


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_halving_survives_crashes(kind: str, retry: bool) -> None:
    """Killed after any record and restarted, callbacks see what the journal recorded; no score is lost."""

    def program(folder: Path) -> list[Any]:
        told = Halving(MAKERS[kind](), folder, trials=5, retry=retry).run()
        ends = [what for what in told[:-1] if what[0] in {"result", "error"}]
        assert len(ends) == 5
        assert len([what for what in told[:-1] if what[0] == "open"]) == len(
            [what for what in told[:-1] if what[0] == "close"]
        )
        scores = sum(map(len, told[-1].values()))
        assert scores == len([what for what in told[:-1] if what[0] == "request"])
        return told

    crash_everywhere(program, every=4 if kind == "sequential" else 9)


def test_a_finished_journal_computes_nothing(folder: Path) -> None:
    """A finished journal replays all messages in order, without the calls."""
    told = Halving(Scheduler.with_threads(3), folder).run()
    COMPUTED.clear()
    assert Halving(Scheduler.with_threads(3), folder).run() == told
    assert COMPUTED == []


def test_a_call_that_was_lost_sends_again(folder: Path) -> None:
    """The comm of a lost call is closed, and the next attempt opens it again and resends all messages."""
    Halving(Scheduler.with_sequential(), folder, trials=1).run()
    log = folder / "journal.log"
    second = [record.end for record in Reader(folder).records() if record.kind == Kind.MESSAGE][1]
    with open(log, "r+b") as file:
        file.truncate(second)
    attempts: list[int] = []
    again = Halving(Scheduler.with_sequential(), folder, trials=1)
    again.task.on("comm-open")(lambda msg: attempts.append(msg.future.attempt))
    told = again.run()
    assert [what[0] for what in told[:5]] == ["open", "message", "close", "open", "message"]
    assert attempts == [1, 2]
    assert Halving(Scheduler.with_sequential(), folder, trials=1).run() == told


def test_a_call_that_is_cancelled(folder: Path) -> None:
    """A message callback may cancel the call."""

    def program(folder: Path) -> list[Any]:
        halving = Halving(Scheduler.with_threads(2), folder, trials=3)
        halving.task.on("comm-message")(lambda msg: msg.future.cancel() if msg.future.number == 1 else None)
        halving.task.on_cancelled(lambda future: halving.told.append(("cancelled", future.number)))
        return halving.run()

    assert ("cancelled", 1) in crash_everywhere(program, every=7)


def test_an_answer_of_a_coroutine(folder: Path) -> None:
    """An `async def` callback may answer after another call has ended."""

    def ask(comm: Any) -> Any:
        with comm.open():
            return comm.request("please")

    def program(folder: Path) -> list[Any]:
        scheduler = Scheduler.with_threads(2)
        task = scheduler.task(ask, plugins=Comm.Plugin())
        other = scheduler.task(lambda: 17)
        told: list[Any] = []
        scheduler.on_start(lambda: task.submit())

        @task.on("comm-request")
        async def answer(msg: Any) -> None:
            msg.respond(await other.submit())

        task.on_result(lambda _, result: told.append(result))
        scheduler.run(journal=folder, display=False)
        return told

    assert crash_everywhere(program) == [17]


def test_a_task_without_its_comm(folder: Path) -> None:
    """Recorded messages that no plugin of the task could have received are an error."""
    Halving(Scheduler.with_sequential(), folder, trials=2).run()
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(lambda number: number, plugins=())
    task.name = "train"
    scheduler.on_start(lambda: [task.submit(number) for number in range(2)])
    with pytest.raises(JournalMismatchError, match="sends a message"):
        scheduler.run(journal=folder, display=False)


def test_two_comms_of_one_call(folder: Path) -> None:
    """Each message is delivered by the comm that received it."""

    def talk(first: Any, second: Any) -> Any:
        with first.open("first"), second.open("second"):
            first.send(1)
            second.send(2)
            return first.request("a"), second.request("b")

    def program(folder: Path) -> list[Any]:
        scheduler = Scheduler.with_threads(2)
        task = scheduler.task(talk, plugins=[Comm.Plugin("first"), Comm.Plugin("second")])
        told: list[Any] = []
        scheduler.on_start(lambda: task.submit())
        task.on("comm-open")(lambda msg: told.append(msg.data))
        task.on("comm-message")(lambda msg: told.append(msg.data))
        task.on("comm-request")(lambda msg: msg.respond(msg.data * 2))
        task.on_result(lambda _, result: told.append(result))
        scheduler.run(journal=folder, display=False)
        return told

    assert crash_everywhere(program)[-1] == ("aa", "bb")


def test_a_run_that_is_suspended_while_calls_talk(folder: Path) -> None:
    """What calls send because they are killed is not recorded: the next session computes them again."""

    def run(*, stop_at: int) -> list[Any]:
        halving = Halving(Scheduler.with_threads(2), folder, trials=3)

        @halving.task.on("comm-request")
        def stop(_: Any) -> None:
            if len(halving.told) >= stop_at:
                raise KeyboardInterrupt

        try:
            return halving.run()
        except KeyboardInterrupt:
            return halving.told

    run(stop_at=5)
    told = run(stop_at=10_000)
    assert len([what for what in told[:-1] if what[0] == "result"]) == 3
    assert run(stop_at=10_000) == told
