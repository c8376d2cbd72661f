"""What a run with a journal does when its program is restarted, and what it rejects."""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import amltk.journal
from amltk.exceptions import (
    ExecutorBrokenError,
    JournalError,
    JournalLockedError,
    JournalMismatchError,
    JournalUnsupportedError,
    JournalWriteError,
)
from amltk.journal import Kind, Reader, Writer
from amltk.scheduling import ExitState, Journal, Limiter, Plugin, Retry, Scheduler
from amltk.scheduling.snapshot import Snapshot
from amltk.testing import ManualExecutor, SimulatedExecutor, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

Code = ExitState.Code


def double(number: Any) -> Any:
    return number * 2


class Search:
    """A scheduler whose task doubles numbers, a second per call; its callbacks record their events."""

    def __init__(self, folder: Path, *, seconds: Any = 1.0, fn: Callable[..., Any] = double, plugins: Any = ()) -> None:
        self.folder = folder
        self.executor = SimulatedExecutor(2, duration=seconds, outcome=self.compute)
        self.scheduler = Scheduler(self.executor)
        self.task = self.scheduler.task(fn, plugins=plugins)
        self.computed: list[Any] = []
        self.notes: list[Any] = []
        self.task.on_result(lambda future, result: self.notes.append((future.number, result)))

    def compute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.computed.append(args)
        return fn(*args, **kwargs)

    def submit_all(self, *numbers: Any) -> Search:
        self.scheduler.on_start(lambda: [self.task.submit(number) for number in numbers])
        return self

    def run(self, **options: Any) -> ExitState:
        options = {"journal": self.folder, "display": False} | options
        return run_in_virtual_time(self.scheduler.async_run(**options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "search"


def cut_behind(folder: Path, kind: Kind, n: int = 1) -> None:
    """Truncate a journal as if its process had been killed after the n-th record of this kind."""
    found = [record for record in Reader(folder).records() if record.kind == kind]
    with open(folder / "journal.log", "r+b") as log:
        log.truncate(found[n - 1].end)


def log_of(folder: Path) -> bytes:
    return (folder / "journal.log").read_bytes()


def kinds(folder: Path) -> list[str]:
    return [Kind(record.kind).name for record in Reader(folder).records()]


def test_a_finished_journal(folder: Path) -> None:
    """A finished journal replays the same, ends in the same state, computes nothing and is not written to."""
    first = Search(folder).submit_all(1, 2, 3)
    state = first.run()
    log = log_of(folder)
    second = Search(folder).submit_all(1, 2, 3)
    assert second.run() == state == ExitState(Code.EXHAUSTED)
    assert second.notes == first.notes == [(0, 2), (1, 4), (2, 6)]
    assert second.computed == []
    assert log_of(folder) == log


def test_what_has_no_outcome_is_computed_again(folder: Path) -> None:
    """A call that started but has no outcome is computed again, under its number, as its second attempt."""
    Search(folder).submit_all(1, 2, 3).run()
    cut_behind(folder, Kind.RESULT, 2)
    second = Search(folder).submit_all(1, 2, 3)
    attempts: list[tuple[int, int, bool]] = []
    second.task.on_result(
        lambda future, _: attempts.append((future.number, future.attempt, second.scheduler.replaying))
    )
    second.run()
    assert second.computed == [(3,)]
    assert attempts == [(0, 1, True), (1, 1, True), (2, 2, False)]
    calls = amltk.journal.open(folder).calls()
    assert [(call.state, call.attempt) for call in calls] == [("result", 0), ("result", 0), ("result", 1)]


@pytest.mark.parametrize("given", [(1, 5, 3), (1,), (1, 2, 3, 4), ()])
def test_something_else_is_an_error(folder: Path, given: tuple[int, ...]) -> None:
    """The first difference raises an error that shows both calls, before anything is computed."""
    Search(folder).submit_all(1, 2, 3).run()
    cut_behind(folder, Kind.RESULT, 2)
    log = log_of(folder)
    second = Search(folder).submit_all(*given)
    if len(given) == 4:  # it continues further
        second.run(on_callback_exception="continue")
        assert second.computed == [(3,), (4,)]
        return
    with pytest.raises(JournalMismatchError) as caught:
        second.run(on_callback_exception="continue")
    assert second.computed == []
    assert log_of(folder) == log
    assert "unchanged" in str(caught.value)
    if len(given) == 3:
        assert (caught.value.recorded, caught.value.given) == ("call 1 is double(2)", "call 1 is double(5)")
        assert "Now: call 1 is double(5) (args[0] was 2, and is now 5). Nothing" in str(caught.value)


def test_equal_arguments_are_equal(folder: Path) -> None:
    """Arguments that are equal but pickle differently count as the same."""
    text = str(bytearray(b"ab"), "ascii")
    Search(folder, fn=len).submit_all([text, text], {"x": 1.5, "y": (text, text)}).run()
    other = str(bytearray(b"ab"), "ascii")
    second = Search(folder, fn=len).submit_all([text, other], {"x": 1.5, "y": (other, text)})
    second.run()
    assert second.computed == []


def test_a_branch(folder: Path) -> None:
    """A branch keeps what precedes the difference, and uses results of calls that are still the same."""
    Search(folder).submit_all(1, 2, 3, 4).run()
    second = Search(folder).submit_all(1, 5, 3, 4)
    second.run(journal=Journal(folder, on_mismatch="branch"))
    assert second.computed == [(5,)]
    assert sorted(second.notes) == [(0, 2), (1, 10), (2, 6), (3, 8)]
    third = Search(folder).submit_all(1, 5, 3, 4)
    third.run()
    assert (third.notes, third.computed) == (second.notes, [])


def chain(search: Search, until: int, *, stop: bool = False) -> Search:
    """Submit the next number when one has ended."""
    search.submit_all(0)

    @search.task.on_result
    def go_on(future: Any, result: int) -> None:
        if not search.scheduler.running():
            return
        if future.number + 1 < until:
            search.task.submit(future.number + 1)
        elif stop:
            search.scheduler.stop("enough")

    return search


@pytest.mark.parametrize("stop", [False, True])
def test_a_program_goes_further(folder: Path, stop: bool) -> None:
    """A program that was changed to continue further does so from where it ended, repeatedly."""
    for n, until in enumerate([3, 5, 8]):
        search = chain(Search(folder), until, stop=stop)
        assert search.run().code == (Code.STOPPED if stop else Code.EXHAUSTED)
        assert search.notes == [(number, 2 * number) for number in range(until)]
        assert search.computed == [(number,) for number in range([0, 3, 5][n], until)]
    search = chain(Search(folder), 8, stop=stop)
    search.run()
    assert search.computed == []
    with pytest.raises(JournalMismatchError):
        chain(Search(folder), 4, stop=stop).run()


def test_the_timeout_counts_time_alive(folder: Path) -> None:
    """The timeout counts the time of all sessions; with a longer one the run continues further."""
    assert chain(Search(folder), 100).run(timeout=3.5).code is Code.TIMEOUT
    cut_behind(folder, Kind.RESULT, 2)
    second = chain(Search(folder), 100)
    assert second.run(timeout=3.5).code is Code.TIMEOUT
    assert second.computed == [(2,), (3,)]
    third = chain(Search(folder), 100)
    third.run(timeout=5.25)
    assert third.notes == [(number, 2 * number) for number in range(6)]


def test_a_callback_that_notices_the_timeout(folder: Path) -> None:
    """A callback that noticed the timeout notices it again at the same check."""

    def search() -> Search:
        made = Search(folder)

        @made.scheduler.on_start
        def busy() -> None:
            made.task.submit(1)
            asked = 0
            while made.scheduler.running():
                asked += 1
                if not made.scheduler.replaying and asked == 4:
                    made.executor._loop._virtual.now += 10  # a callback that takes long
            made.notes.append(asked)

        return made

    first, second = search(), search()
    assert first.run(timeout=5) == second.run(timeout=5) == ExitState(Code.TIMEOUT)
    assert first.notes == second.notes == [4, (0, 2)]


def test_a_killed_program_has_used_its_time(folder: Path) -> None:
    """A program killed after an idle hour has used that hour of its timeout."""
    first = Search(folder, seconds=3600).submit_all(1)
    assert first.run(timeout=5000).code is Code.EXHAUSTED
    beats = kinds(folder).count("ALIVE")
    assert 110 <= beats <= 120
    cut_behind(folder, Kind.ALIVE, beats)
    second = Search(folder, seconds=3600).submit_all(1)
    assert second.run(timeout=5000).code is Code.TIMEOUT
    assert second.computed == [(1,)]


def test_a_busy_run_needs_no_other_records(folder: Path) -> None:
    """A busy run writes no ALIVE records: those of events carry the time."""
    Search(folder, seconds=20).submit_all(*range(40)).run()
    assert "ALIVE" not in kinds(folder)


def test_an_idle_run_is_not_woken(folder: Path) -> None:
    """An idle run without pending calls records nothing."""
    assert Search(folder).run(timeout=5000, end_on_empty=False).code is Code.TIMEOUT
    assert "ALIVE" not in kinds(folder)


def test_the_end_of_a_batch_job_suspends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is suspended some time before the job ends, and the next job continues."""
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))
    journal = Journal(folder, suspend_before="10 min")
    first = Search(folder, seconds=300).submit_all(1, 2, 3, 4)
    state = first.run(journal=journal)
    assert state.code is Code.STOPPED
    assert "SLURM_JOB_END_TIME" in state.reason
    assert len(first.notes) == 2
    assert kinds(folder)[-1] == "SUSPEND"
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 10_000))
    second = Search(folder, seconds=300).submit_all(1, 2, 3, 4)
    assert second.run(journal=journal).code is Code.EXHAUSTED
    assert sorted(second.computed) == [(3,), (4,)]
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    assert Search(folder).submit_all(1, 2, 3, 4).run(journal=journal).code is Code.EXHAUSTED


def test_what_reads_the_world_warns(folder: Path) -> None:
    """A callback that reads something that varies is warned about once, by name; code outside callbacks is not."""
    search = Search(folder).submit_all(1, 2, 3)

    def look(*_: Any) -> None:
        search.scheduler.running_calls()

    search.task.on_result(look)
    search.task.on_done(lambda _: Snapshot.of(search.scheduler))
    with pytest.warns(RuntimeWarning, match="asks for running_calls") as caught:
        search.run()
    assert len(caught) == 2
    assert {Path(warning.filename).name for warning in caught} == {Path(__file__).name}
    assert any("look asks" in str(warning.message) for warning in caught)


def test_timers_run_on(folder: Path) -> None:
    """A timer that has fired is replayed; another one continues with its remaining time."""

    def search() -> Search:
        made = Search(folder, seconds=lambda fn, number: 1 + number / 100).submit_all(1, 2, 3, 4)
        made.scheduler.on_start(lambda: made.scheduler.call_later(1.5, made.notes.append, "early"))
        made.scheduler.on_start(lambda: made.scheduler.call_later(3.5, made.notes.append, "late"))
        return made

    whole = search()
    whole.run(end_on_empty=False, timeout=10)
    assert whole.notes[2] == "early"
    assert whole.notes[-1] == "late"
    cut_behind(folder, Kind.TIMER)
    second = search()
    second.run(end_on_empty=False, timeout=10)
    assert second.notes == whole.notes
    late = [record.time for record in Reader(folder).records() if record.kind == Kind.TIMER]
    assert late[1] - late[0] == pytest.approx(2.0)


def test_what_differs_each_time(folder: Path) -> None:
    """`random`, `now` and `once` return the same in each session."""
    made: list[object] = []

    def search() -> Search:
        search = Search(folder)

        @search.scheduler.on_start
        def begin() -> None:
            scheduler = search.scheduler
            made_once = scheduler.once(lambda a: made.append(object()) or [a], 5, save=tuple, load=list)
            search.notes.extend((scheduler.random.random(), scheduler.now(), made_once))
            search.task.submit(scheduler.random.random())

        return search

    first, second = search(), search()
    first.run()
    second.run()
    assert first.notes == second.notes
    assert len(made) == 1
    assert first.notes[2] == [5]


def test_without_a_journal() -> None:
    """Random numbers, times and `once` also work in a run without a journal."""
    scheduler = Scheduler.with_sequential()
    told: list[Any] = []
    scheduler.on_start(lambda: told.append(scheduler.once(double, 4, save=str)))
    scheduler.on_finished(lambda: told.extend([scheduler.replaying, scheduler.now() > 1e9]))
    scheduler.on_finished(lambda: told.append(0 <= scheduler.random.random() < 1), replay=False)
    scheduler.run()
    assert told == [8, False, True, True]


def test_callbacks_that_leave_replays_out(folder: Path) -> None:
    """`replay=False` skips events of earlier sessions; it can be combined with other options."""
    for expected in ([0, 1, 2], [2]):
        search = Search(folder).submit_all(1, 2, 3)
        told: list[int] = []
        search.task.on_result(replay=False, max_calls=3)(lambda future, _, told=told: told.append(future.number))
        search.run()
        assert told == expected
        cut_behind(folder, Kind.RESULT, 2)


def test_outcomes_of_every_kind(folder: Path) -> None:
    """Large values, exceptions with causes and notes, and cancellations are replayed unchanged."""

    def fail(number: int) -> Any:
        if number == 0:
            return bytes(200_000)
        error = ValueError(f"bad {number}")
        error.add_note("a note")
        raise error from OSError(2, "no such thing")

    def search() -> Search:
        search = Search(folder, fn=fail).submit_all(0, 1, 2)
        task = search.task
        task.on_exception(lambda f, e: search.notes.append((str(e), e.__notes__[:1], repr(e.__cause__))))
        task.on_result(lambda *_: search.scheduler.queue[-1].cancel())
        task.on_cancelled(lambda future: search.notes.append(future.number))
        return search

    first, second = search(), search()
    for made in (first, second):
        made.run(on_exception="continue", on_cancelled="continue")
    assert second.notes == first.notes
    assert second.computed == []
    states = [call.state for call in amltk.journal.open(folder).calls()]
    assert sorted(states) == ["cancelled", "exception", "result"]


@pytest.mark.parametrize("end", ["interrupt", "exit", "cancel"])
def test_an_interrupted_run_is_suspended(folder: Path, end: str) -> None:
    """What ends the session from outside is not an input: the next session computes what was running."""

    def search() -> Search:
        return Search(folder).submit_all(1, 2, 3, 4)

    first = search()

    async def main() -> None:
        if end == "cancel":
            run = asyncio.ensure_future(first.scheduler.async_run(journal=folder, display=False))
            await asyncio.sleep(1.5)
            run.cancel()
            await run
        else:
            error = KeyboardInterrupt() if end == "interrupt" else SystemExit(3)

            def interrupt(*_: Any) -> None:
                raise error

            first.task.on_result(interrupt, max_calls=1)
            await first.scheduler.async_run(journal=folder, display=False)

    with pytest.raises((KeyboardInterrupt, SystemExit, asyncio.CancelledError)):
        run_in_virtual_time(main())
    assert kinds(folder)[-1] == "SUSPEND"
    second = search()
    assert second.run() == ExitState(Code.EXHAUSTED)
    assert second.notes == [(number, 2 * (number + 1)) for number in range(4)]
    assert (1,) not in second.computed
    third = search()
    third.run()
    assert (third.notes, third.computed) == (second.notes, [])


def test_an_error_that_is_mended(folder: Path) -> None:
    """A callback that raised ends the run; the fixed program continues from there."""
    first = Search(folder).submit_all(1, 2, 3)
    first.task.on_result(lambda *_: 1 / 0)
    for search in (first, Search(folder).submit_all(1, 2, 3)):
        if search is not first:
            search.task.on_result(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            search.run()
        assert len(search.notes) == 3
    assert len(first.computed) == 3
    mended = Search(folder).submit_all(1, 2, 3, 4)
    assert mended.run() == ExitState(Code.EXHAUSTED)
    assert mended.computed == [(4,)]


def test_a_recorded_failure_ends_the_run_again(folder: Path) -> None:
    """A call's exception is its outcome in every session."""

    def fail(number: int) -> int:
        raise ValueError(number)

    for computed in (1, 0):
        search = Search(folder, fn=fail).submit_all(1)
        with pytest.raises(ValueError, match="1"):
            search.run()
        assert len(search.computed) == computed


def test_stop_and_cancel_from_another_thread(folder: Path) -> None:
    """Another thread's request is an input: it is replayed at its place, whether the thread repeats it or not."""

    def search(*, thread: bool) -> Search:
        made = chain(Search(folder), 50)

        def ask() -> None:
            made.scheduler.queue[0].cancel()
            made.scheduler.stop("from outside")

        @made.task.on_result
        def at_ten(future: Any, _: Any) -> None:
            if future.number == 10 and thread:
                other = threading.Thread(target=ask)
                other.start()
                other.join()

        made.scheduler.on_stop(lambda message, _: made.notes.append(message))
        made.task.on_cancelled(lambda future: made.notes.append(f"cancelled {future.number}"))
        return made

    first, second = search(thread=True), search(thread=False)
    for made in (first, second):
        assert made.run(on_cancelled="continue").code is Code.STOPPED
    assert second.notes == first.notes
    assert first.notes[-2:] == ["cancelled 11", "from outside"]
    assert second.computed == []


def test_coroutines_replay(folder: Path) -> None:
    """An `async def` callback that awaits calls continues where it did."""

    def search() -> Search:
        made = Search(folder)

        @made.scheduler.on_start
        async def begin() -> None:
            first = await made.task.submit(1)
            made.notes.append(await asyncio.gather(*(made.task.submit(first + n) for n in range(3))))
            while await made.scheduler.wait_for_capacity(2):
                made.task.submit(len(made.notes))
                if len(made.notes) > 8:
                    return

        return made

    whole = search()
    whole.run()
    for n in range(1, 8):
        cut_behind(folder, Kind.RESULT, n)
        again = search()
        again.run()
        assert again.notes == whole.notes
        assert len(again.computed) == len(whole.computed) - n


# ---------------------------------------------------------------------------------------------------------- refused


def test_what_cannot_be_replayed_is_refused_at_the_start(folder: Path) -> None:
    """A plugin that does not support replay is rejected before anything is written."""
    plugin = Plugin()
    plugin.replayable = False
    with pytest.raises(JournalUnsupportedError, match="plugin"):
        Search(folder, plugins=plugin).run()
    assert not folder.exists()


@pytest.mark.parametrize("what", ["sleep", "future", "task", "spin", "timeout", "wait_for"])
def test_coroutines_that_wait_for_other_things(folder: Path, what: str) -> None:
    """A callback that awaits something not recorded ends the run with an error that names both."""
    search = Search(folder).submit_all(1)

    @search.scheduler.on_start
    async def waits() -> None:
        if what == "sleep":
            await asyncio.sleep(1)
        elif what == "future":
            await asyncio.get_running_loop().create_future()
        elif what == "task":
            await asyncio.create_task(asyncio.sleep(0), name="mine")
        elif what == "timeout":
            async with asyncio.timeout(0.5):
                await search.task.submit(2)
        elif what == "wait_for":
            await asyncio.wait_for(search.task.submit(2), 0.5)
        while True:  # noqa: ASYNC110 - what is refused
            await asyncio.sleep(0)

    expected = {"sleep": "asyncio.sleep", "future": "Future", "task": "mine", "spin": "again and again"}
    with pytest.raises(JournalUnsupportedError, match=f"waits.*{expected.get(what, '')}"):
        search.run(on_callback_exception="continue", on_cancelled="continue")


def test_what_cannot_be_pickled(folder: Path) -> None:
    """Unpicklable arguments are rejected at submission, unpicklable results end the run; nothing recorded is lost."""
    search = Search(folder)
    search.scheduler.on_start(lambda: search.task.submit(threading.Lock()))
    with pytest.raises(JournalError, match="submitted, double"):
        search.run()
    other = folder.with_name("other")
    search = Search(other, fn=lambda number: threading.Lock() if number == 2 else number).submit_all(1, 2, 3)
    with pytest.raises(JournalError, match="returned cannot be recorded"):
        search.run()
    again = Search(other, fn=operator.neg).submit_all(1, 2, 3)
    with pytest.raises(JournalMismatchError):
        again.run()
    assert amltk.journal.open(other).calls()[0].state == "result"


def test_a_journal_that_is_in_use(folder: Path) -> None:
    """A journal in use by another process is rejected, and the scheduler can run afterwards."""
    with Writer(folder), pytest.raises(JournalLockedError):
        Search(folder).submit_all(1).run()
    search = Search(folder).submit_all(1)
    search.run()
    assert search.notes == [(0, 2)]


def test_a_disk_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that cannot be written ends the run with the error; what was written is intact and can be continued."""
    search = Search(folder).submit_all(1, 2, 3)
    flush, left = Writer.flush, [6]

    def fail(writer: Writer) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise JournalWriteError("no room")
        flush(writer)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "flush", fail)
        with pytest.raises(JournalWriteError, match="no room"):
            search.run()
    again = Search(folder).submit_all(1, 2, 3)
    again.run()
    assert sorted(again.notes) == [(0, 2), (1, 4), (2, 6)]


def test_options() -> None:
    """A journal's options are checked when it is created."""
    for options in ({"sync": "never"}, {"on_mismatch": "ignore"}):
        with pytest.raises(ValueError, match="must be"):
            Journal("search", **options)
    with pytest.raises(TypeError, match="folder"):
        Journal(5)
    with pytest.raises(ValueError, match="suspend_before"):
        Journal("search", suspend_before=-1)
    assert repr(Journal("search", suspend_before="5 min")).endswith("suspend_before=300)")
    with pytest.raises(TypeError, match="journal=5"):
        Scheduler.with_sequential().run(journal=5)
    assert repr(Journal("search")) == "Journal('search', sync='process', on_mismatch='raise')"


def test_a_limiter_replays(folder: Path) -> None:
    """A plugin that holds calls back does so again."""

    def search() -> Search:
        return Search(folder, plugins=Limiter(max_concurrent=1, on_limit="queue")).submit_all(*range(5))

    whole = search()
    whole.run()
    cut_behind(folder, Kind.RESULT, 3)
    again = search()
    again.run()
    assert again.notes == whole.notes
    assert again.computed == [(3,), (4,)]


def test_a_broken_executor_suspends(folder: Path) -> None:
    """Calls that fail because the executor is broken are computed in the next session."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    scheduler.on_start(lambda: scheduler.submit(double, 1), repeat=3)
    scheduler.on_start(lambda: scheduler.call_later(1, executor.finish, 0, 2))
    scheduler.on_future_result(lambda *_: executor.break_down())
    with pytest.raises(ExecutorBrokenError):
        run_in_virtual_time(scheduler.async_run(journal=folder, display=False))
    assert kinds(folder)[-2:] == ["RESULT", "SUSPEND"]


def test_a_mended_timeout_that_was_noticed(folder: Path) -> None:
    """A callback that noticed the timeout continues if there is more time now."""

    def search() -> Search:
        made = Search(folder)

        @made.scheduler.on_start
        def busy() -> None:
            if not made.scheduler.replaying:
                made.executor._loop = None
                asyncio.get_running_loop()._virtual.now += 10  # a callback that takes long
            if made.scheduler.running():
                made.task.submit(1)

        return made

    assert search().run(timeout=5) == ExitState(Code.TIMEOUT)
    assert search().run(timeout=5) == ExitState(Code.TIMEOUT)
    longer = search()
    assert longer.run(timeout=50) == ExitState(Code.EXHAUSTED)
    assert longer.notes == [(0, 2)]


def test_exceptions_of_the_program_itself(folder: Path) -> None:
    """A recorded exception has the program's own class, as in `__main__`, so that `Retry` recognises it."""
    main = sys.modules["__main__"]
    own = type("OwnError", (Exception,), {"__module__": "__main__"})

    def fail(number: int) -> None:
        raise own(number)

    main.OwnError = own  # type: ignore[attr-defined]
    told: list[BaseException] = []
    try:
        for _ in range(2):
            search = Search(folder, fn=fail, plugins=Retry(own, attempts=2, wait=1)).submit_all(1)
            search.task.on_exception(lambda _, error: told.append(error))
            search.run(on_exception="continue")
    finally:
        del main.OwnError  # type: ignore[attr-defined]
    assert [type(error) for error in told] == [own, own]
    assert search.computed == []
