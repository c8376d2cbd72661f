"""Memo: equal calls are computed once, and each has its own outcome."""

from __future__ import annotations

import logging
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalError, MemoryLimitError, WorkerLostError
from amltk.scheduling import Comm, ExitState, Limiter, Memo, Plugin, Retry, Scheduler
from amltk.scheduling.plugins.memo import store
from amltk.testing import EventRecorder, ManualExecutor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def train(x: Any, y: int = 2, device: str = "cpu") -> Any:
    return {"x": x}


@pytest.fixture(autouse=True)
def _new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a test creates belongs to its own session."""
    monkeypatch.setattr(store, "_stores", {})


class Session:
    """A session of a program with one task, whose calls the test completes."""

    def __init__(self, *plugins: Plugin, function: Any = train) -> None:
        self.executor = ManualExecutor()
        self.scheduler = Scheduler(self.executor, terminate=False)
        self.task = self.scheduler.task(function, plugins=plugins)
        self.recorder = EventRecorder(self.scheduler, self.task)
        self.futures: list[Any] = []

    def run(self, *calls: Any, then: Callable[[], object] = lambda: None, **options: Any) -> Session:
        """Submit the task with each of these arguments, do something, and run to the end."""

        @self.scheduler.on_start
        def launch() -> None:
            self.futures += [self.task.submit(call) for call in calls]
            self.scheduler.call_later(0, then)

        options = {"on_exception": "continue", "on_cancelled": "continue", "timeout": 60, **options}
        assert self.scheduler.run(**options).code is ExitState.Code.EXHAUSTED
        return self

    def once_submitted(self, n: int, end: Callable[[], object]) -> None:
        """Call `end` as soon as the executor has the computation with this number."""
        if len(self.executor.submissions) > n:
            end()
        else:
            self.scheduler.call_later(0, self.once_submitted, n, end)

    def told(self) -> list[str]:
        """The delivered outcomes, in order."""
        return [
            r.event.name
            for r in self.recorder.records
            if r.source is self.task and r.event.name in {"result", "exception", "cancelled"}
        ]

    def computed(self) -> list[Any]:
        """The first arguments of the calls that the executor got."""
        return [submission.args[0] for submission in self.executor.submissions]


def next_session() -> None:
    """Forget what this process has cached of any folder."""
    store._stores.clear()


def test_computed_once(tmp_path: Path) -> None:
    """Of three equal calls one is computed; each has its events and its own result."""
    memo = Memo(tmp_path / "memo")
    session = Session(memo)
    session.run(1, 1, 1, then=lambda: session.executor.compute(0))
    assert session.computed() == [1]
    assert session.told() == ["result"] * 3
    assert session.task.event_counts[session.task.SUBMITTED] == 3
    results = [future.result() for future in session.futures]
    assert results == [{"x": 1}] * 3
    assert len({id(result) for result in results}) == 3
    assert memo.status() == "hits 0 · misses 1 · shared 2"


def test_kept_for_the_next_session(tmp_path: Path) -> None:
    """What was computed is not computed again, in this session or the next."""
    first = Session(Memo(tmp_path / "memo"))
    first.run(1, then=lambda: first.executor.compute(0))
    for _ in range(2):
        memo = Memo(tmp_path / "memo")
        second = Session(memo).run(1)
        assert second.computed() == []
        assert second.futures[0].result() == {"x": 1}
        assert memo.status() == "hits 1 · misses 0 · shared 0"
        next_session()
    assert (tmp_path / "memo").stat().st_mode & 0o777 == 0o700


def test_kept_before_anybody_is_told(tmp_path: Path) -> None:
    """When a result callback runs, another session can find the result."""
    memo = Memo(tmp_path / "memo")
    session = Session(memo)
    found = []

    @session.task.on_result
    def look(*_: Any) -> None:
        next_session()
        found.append(len(store.store_at(tmp_path / "memo")._entries))

    session.run(1, then=lambda: session.executor.compute(0))
    assert found == [1]


def test_a_large_result(tmp_path: Path) -> None:
    """A result of several megabytes is stored like any other."""
    large = b"x" * 3_000_000
    first = Session(Memo(tmp_path / "memo"))
    first.run(1, then=lambda: first.executor.finish(0, large))
    next_session()
    assert Session(Memo(tmp_path / "memo")).run(1).futures[0].result() == large


@pytest.mark.parametrize("how", ["raise", "lose", "cancel"])
def test_the_next_one_is_computed(tmp_path: Path, how: str) -> None:
    """If the computed call fails, is lost or is cancelled, the next of the equal calls is computed for all of them."""
    memo = Memo(tmp_path / "memo")
    session = Session(memo)

    def end_first() -> None:
        if how == "cancel":
            session.futures[0].cancel()
        else:
            session.executor.fail(0, ValueError() if how == "raise" else WorkerLostError())
        session.once_submitted(1, lambda: session.executor.compute(1))

    session.run(1, 1, 1, then=end_first)
    assert session.computed() == [1, 1]
    assert session.told() == ["cancelled" if how == "cancel" else "exception", "result", "result"]
    assert session.task.event_counts[session.task.SUBMITTED] == 3
    assert memo.status() == "hits 0 · misses 2 · shared 1"


def test_a_sharer_that_is_cancelled(tmp_path: Path) -> None:
    """Cancelling a call that shares a computation ends only that call."""
    session = Session(Memo(tmp_path / "memo"))

    def cancel() -> None:
        assert session.futures[1].cancel()
        session.scheduler.call_later(0, session.executor.compute, 0)

    session.run(1, 1, 1, then=cancel)
    assert session.computed() == [1]
    assert [future.cancelled() for future in session.futures] == [False, True, False]
    assert session.told() == ["cancelled", "result", "result"]


def test_errors_are_kept_if_wanted(tmp_path: Path) -> None:
    """With `errors=True` an exception is shared and stored, with its message, its class and a traceback."""
    error = ValueError("too deep")
    first = Session(Memo(tmp_path / "memo", errors=True))
    first.run(1, 1, then=lambda: first.executor.fail(0, error))
    assert first.computed() == [1]
    next_session()
    second = Session(Retry(wait=0), Memo(tmp_path / "memo", errors=True)).run(1)
    assert second.computed() == []
    for future in (*first.futures, *second.futures):
        assert type(future.exception()) is ValueError
        assert future.exception().args == ("too deep",)
    assert "kept by the memo" in second.futures[0].exception().__notes__[0]
    assert second.task.event_counts[Retry.RETRY] == 0
    next_session()
    third = Session(Memo(tmp_path / "memo"))
    third.run(1, then=lambda: third.executor.compute(0))
    assert third.told() == ["result"]


@pytest.mark.parametrize("error", [WorkerLostError(), MemoryLimitError(), KeyboardInterrupt()])
def test_errors_that_are_never_kept(tmp_path: Path, error: BaseException) -> None:
    """Lost workers, exceeded limits and interrupts are not the function's outcome, and are not stored."""
    first = Session(Memo(tmp_path / "memo", errors=True))
    first.run(1, then=lambda: first.executor.fail(0, error))
    second = Session(Memo(tmp_path / "memo", errors=True))
    second.run(1, then=lambda: second.executor.compute(0))
    assert second.told() == ["result"]


def test_attempts_are_of_the_computation(tmp_path: Path) -> None:
    """A retried call is one computation, which the others wait for."""
    session = Session(Retry(wait=0), Memo(tmp_path / "memo"))

    @session.task.on(Retry.RETRY)
    def again(*_: Any) -> None:
        session.once_submitted(1, lambda: session.executor.compute(1))

    session.run(1, 1, then=lambda: session.executor.fail(0, ValueError()))
    assert session.computed() == [1, 1]
    assert session.told() == ["result", "result"]


class Picky(Plugin):
    """Rejects a result at first."""

    def __init__(self) -> None:
        self.seen = 0

    def prepare(self, call: Any) -> bool:
        call.on_outcome(lambda outcome: self.review(call))
        return True

    def review(self, call: Any) -> Any:
        self.seen += 1
        hold = call.future.get_loop().create_future()
        hold.set_result(self.seen == 1)
        return hold


def test_a_result_that_is_not_the_outcome(tmp_path: Path) -> None:
    """If another plugin rejects a result and the call then fails, nothing is stored."""
    session = Session(Picky(), Memo(tmp_path / "memo"))

    def ends() -> None:
        session.executor.compute(0)
        session.once_submitted(1, lambda: session.executor.fail(1, ValueError()))

    session.run(1, then=ends)
    assert session.told() == ["exception"]
    next_session()
    second = Session(Memo(tmp_path / "memo"))
    second.run(1, then=lambda: second.executor.compute(0))
    assert second.told() == ["result"]


@pytest.mark.parametrize("memo_first", [True, False])
def test_beside_a_limiter(tmp_path: Path, memo_first: bool) -> None:
    """Calls that a limiter keeps end too, in either order of the plugins; equal ones are computed once."""
    memo = Memo(tmp_path / "memo")
    limiter = Limiter(max_concurrent=1, on_limit="queue")
    session = Session(*([memo, limiter] if memo_first else [limiter, memo]))

    @session.task.on_submitted
    def end(*_: Any) -> None:
        for n in session.executor.pending:
            session.executor.compute(n)

    session.run(1, 1, 2, 1)
    assert sorted(session.computed()) == [1, 2]
    assert session.told() == ["result"] * 4
    assert (memo.n_hits + memo.n_shared, memo.n_misses) == (2, 2)


def test_a_refused_call_is_not_counted(tmp_path: Path) -> None:
    """A call dropped by a later plugin is not a computation that others wait for."""
    memo = Memo(tmp_path / "memo")
    session = Session(memo, Limiter(max_calls=1))
    session.run(1, 2, 1, then=lambda: session.executor.compute(0))
    assert session.futures[1:] == [None, None]
    assert memo.status() == "hits 0 · misses 1 · shared 0"
    assert not memo._pending


def test_a_map(tmp_path: Path) -> None:
    """A map with equal items has a result for each of them."""
    calls = []
    scheduler = Scheduler.with_sequential()

    def square(x: int) -> int:
        calls.append(x)
        return x * x

    task = scheduler.task(square, plugins=Memo(tmp_path / "memo", ignore=["calls"]))
    ended = [call.result() for call in task.map([1, 2, 1, 2, 3]).results(ordered=True)]
    assert ended == [1, 4, 1, 4, 9]
    assert calls == [1, 2, 3]


def test_what_tells_calls_apart(tmp_path: Path) -> None:
    """The version does; the device and how an argument is passed do not."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor, terminate=False)
    one, two = (scheduler.task(train, plugins=Memo(tmp_path / "memo", version=version)) for version in (1, "two"))

    @scheduler.on_start
    def launch() -> None:
        for task in (one, two):
            task.submit(1)
            task.submit(x=1, device="cuda")
            task.submit(1, y=3)
        for n in range(4):
            scheduler.call_later(0, executor.compute, n)

    scheduler.run()
    assert len(executor.submissions) == 4


def test_what_cannot_be_told_apart(tmp_path: Path) -> None:
    """A submission with an argument that cannot be keyed is rejected, and nothing else is affected."""
    session = Session(Memo(tmp_path / "memo"))
    refused = []

    @session.scheduler.on_start
    def submit() -> None:
        with pytest.raises(
            TypeError, match=r"x is, or contains, a value of type builtins.object; pass Memo\("
        ) as error:
            session.task.submit([object()])
        refused.append(error)

    session.run(1, then=lambda: session.executor.compute(0))
    assert refused
    assert session.told() == ["result"]


def test_results_that_cannot_be_pickled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A result that cannot be pickled is shared but not stored, with a single warning."""
    session = Session(Memo(tmp_path / "memo"))
    generator = (n for n in range(3))
    with caplog.at_level(logging.WARNING):
        session.run(1, 1, then=lambda: session.executor.finish(0, generator))
    assert [future.result() for future in session.futures] == [generator, generator]
    assert sum("are not kept" in record.message for record in caplog.records) == 1


def test_edited_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edited function gets the stored results, with one warning, until the version is changed."""
    first = Session(Memo(tmp_path / "memo"))
    first.run(1, then=lambda: first.executor.compute(0))
    next_session()
    monkeypatch.setattr("amltk.scheduling.plugins.memo.plugin.source_digest", lambda _: b"another one")
    with pytest.warns(UserWarning, match=r"train was edited .*version=2") as told:
        second = Session(Memo(tmp_path / "memo"))
    assert [warning.filename for warning in told] == [__file__]
    assert second.run(1).computed() == []
    next_session()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = Session(Memo(tmp_path / "memo"))
        fourth = Session(Memo(tmp_path / "memo", version=2))
    assert third.run(1).computed() == []
    fourth.run(1, then=lambda: fourth.executor.compute(0))
    assert fourth.computed() == [1]


def test_no_comm(tmp_path: Path) -> None:
    """A task with a comm cannot have a memo, in either order."""

    def talk(x: int, *, comm: Any) -> None: ...

    with pytest.raises(ValueError, match="both a Memo and a Comm"):
        Session(Comm.Plugin(), Memo(tmp_path / "memo"), function=talk)
    session = Session(Memo(tmp_path / "memo"), Comm.Plugin(), function=talk)

    @session.scheduler.on_start
    def submit() -> None:
        with pytest.raises(ValueError, match="both a Memo and a Comm"):
            session.task.submit(1)

    session.scheduler.run()


@pytest.mark.parametrize("how", ["torn", "cut", "nonsense", "gone"])
def test_damaged_folders(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A torn, damaged or missing result is computed again; nothing fails."""
    first = Session(Memo(tmp_path / "memo"))
    first.run(1, 2, then=lambda: [first.executor.compute(n) for n in (0, 1)])
    next_session()
    (log,) = (tmp_path / "memo").glob("*/journal.log")
    content = log.read_bytes()
    if how == "torn":
        log.write_bytes(content[:-5])
    elif how == "cut":
        log.write_bytes(b"")
    elif how == "nonsense":
        log.write_bytes(content[:200] + b"!" + content[201:])
    else:
        shutil.rmtree(log.parent)
    with caplog.at_level(logging.WARNING):
        second = Session(Memo(tmp_path / "memo"))
        second.run(1, 2, then=lambda: [second.executor.compute(n) for n in second.executor.pending])
    assert second.computed() == ([2] if how == "torn" else [1, 2])
    assert ("computed again" in caplog.text) == (how == "nonsense")
    next_session()
    assert Session(Memo(tmp_path / "memo")).run(1, 2).computed() == []


def test_a_folder_that_was_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Removing the folder forgets everything, also in a program that has used it: no call gets another one's result."""

    def cell(*calls: int) -> list[Any]:
        session = Session(Memo(tmp_path / "memo"))
        memos.append(session.task.plugins[0])  # as the variables of a notebook do
        session.run(*calls, then=lambda: [session.executor.compute(n) for n in session.executor.pending])
        assert [future.result() for future in session.futures] == [{"x": call} for call in calls]
        return session.computed()

    memos: list[Any] = []
    assert cell(9) == [9]
    next_session()  # whose files have no record of the function's code
    assert cell(4, 5, 6) == [4, 5, 6]
    shutil.rmtree(tmp_path / "memo")
    assert cell(6, 5, 4) == [6, 5, 4]
    shutil.rmtree(tmp_path / "memo")
    assert cell(7) == [7]
    assert cell(7, 8) == [8]
    next_session()
    assert cell(7, 8, 6) == [6]
    assert caplog.text.count("is lost") == 1


def test_a_journal_that_is_another_one(tmp_path: Path) -> None:
    """Where a record was, one of another call may be, after folders were moved: it is not taken for what was kept."""
    one, other = (store.Store(tmp_path / name) for name in ("one", "other"))
    kept = store.Kept(store.Kind.RESULT, b"one")
    one.keep("train", b"1", kept)
    other.keep("train", b"2", kept._replace(pickle=b"two"))
    one.close()
    other.close()
    (mine,), (theirs,) = ((tmp_path / name).iterdir() for name in ("one", "other"))
    shutil.rmtree(mine)
    theirs.rename(mine)
    assert one.find(b"1") is None
    one.keep("train", b"1", kept)
    assert one.find(b"1") == kept
    one.close()


def test_a_class_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that can no longer be loaded is computed again."""
    result = Gone()
    first = Session(Memo(tmp_path / "memo"))
    first.run(1, then=lambda: first.executor.finish(0, result))
    next_session()
    monkeypatch.delattr(f"{__name__}.Gone")
    second = Session(Memo(tmp_path / "memo"))
    second.run(1, then=lambda: second.executor.compute(0))
    assert second.told() == ["result"]


class Gone:
    """A class that will be missing."""


def test_bad_arguments(tmp_path: Path) -> None:
    """Invalid arguments raise at construction, with what is allowed."""
    for options in ({"key": 1}, {"version": 1.5}, {"version": True}, {"errors": 1}, {"ignore": "device"}):
        with pytest.raises(TypeError, match="must be"):
            Memo(tmp_path / "memo", **options)
    with pytest.raises(ValueError, match="no parameter 'devise'"):
        Session(Memo(tmp_path / "memo", ignore=("devise",)))
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="Give a folder"):
        Memo(tmp_path / "file")
