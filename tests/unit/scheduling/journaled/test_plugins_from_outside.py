"""With a journal, other threads submit to tasks with plugins, which see each call once, at a recorded place."""

from __future__ import annotations

import operator
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import JournalUnsupportedError
from amltk.journal import Reader
from amltk.scheduling import CallFolder, Limiter, Memo, Plugin, Resources, Retry, Scheduler
from amltk.scheduling.call import Call
from amltk.scheduling.future import Future
from amltk.scheduling.plugins.warning_filter import WarningFilter
from amltk.testing import SimulatedExecutor, crash_everywhere, run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable


class Refusal(Plugin):
    """Raises for negative numbers."""

    name = "refusal"

    def prepare(self, call: Call) -> bool:
        if call.args[0] < 0:
            raise ValueError("negative")
        return True


class Server:
    """A scheduler whose task has plugins; another thread calls `ask` when the run starts, or later."""

    def __init__(self, plugins: Any, ask: Callable[[Server], None], *, later: float = 0.0, tries: int = 1) -> None:
        self.notes: list[str] = []
        self.futures: list[Future[Any] | None] = []
        self.computed: list[Any] = []
        self.tries = tries
        self.scheduler = Scheduler(
            SimulatedExecutor(2, duration=lambda fn, x: 1.0 + x / 100, outcome=self.compute),
            resources={"memory": "1 GB"},
        )
        self.task = task = self.scheduler.task(operator.neg, plugins=plugins)
        task.on_submitted(lambda future, x: self.notes.append(f"submitted {future.number}: {x}"))
        task.on_result(lambda future, result: self.notes.append(f"result {future.number}: {result}"))
        task.on_exception(lambda future, error: self.notes.append(f"error {future.number}: {error}"))
        task.on_cancelled(lambda future: self.notes.append(f"cancelled {future.number}"))
        for event in task.events:
            if event.name.endswith(("reached", "retried")):
                task.on(event)(lambda *args, name=event.name: self.notes.append(f"{name} {args[-1]}"))
        self.ask = ask
        self.later = later
        self.scheduler.on_start(self.begin)
        task.on_result(lambda future, result: result == -2 and self.scheduler.running() and task.submit(20))

    def compute(self, fn: Callable[..., Any], x: Any) -> Any:
        self.computed.append(x)
        if self.computed.count(x) < self.tries:
            raise OSError("again")
        return fn(x)

    def begin(self) -> None:
        if self.later:
            self.scheduler.call_later(self.later, self.ask_elsewhere)
        else:
            self.ask_elsewhere()

    def ask_elsewhere(self) -> None:
        thread = threading.Thread(target=self.ask, args=(self,))
        thread.start()
        thread.join()

    def run(self, folder: Path, **options: Any) -> Any:
        if self.later:
            options |= {"end_on_empty": False, "timeout": 60}
        return run_in_virtual_time(self.scheduler.async_run(journal=folder, display=False, **options))

    def ended(self) -> list[Any]:
        """What the thread's futures have come to."""
        told = []
        for future in self.futures:
            assert future is not None
            assert future.done()
            told.append("cancelled" if future.cancelled() else future.exception() or future.result())
        return told


def submit_four(server: Server) -> None:
    server.futures += [server.task.submit(x) for x in (1, 2, 3, 1)]


PLUGINS: dict[str, Callable[[Path], Any]] = {
    "drops": lambda folder: Limiter(max_concurrent=2),
    "queues": lambda folder: Limiter(max_concurrent=1, on_limit="queue"),
    "counts": lambda folder: Limiter(max_calls=3, on_limit="queue"),
    "keeps results": lambda folder: Memo(folder / "memo"),
    "repeats": lambda folder: Retry(OSError, attempts=3, wait=1.0, seed=1),
    "has folders": lambda folder: CallFolder(folder / "calls"),
    "needs resources": lambda folder: Resources(memory="1 GB"),
    "filters": lambda folder: WarningFilter("ignore"),
    "several": lambda folder: [
        Limiter(max_concurrent=1, on_limit="queue"),
        Retry(OSError, attempts=2),
        CallFolder(folder / "calls"),
    ],
}


@pytest.mark.parametrize(
    ("plugins", "later"), [*((name, 0.0) for name in PLUGINS), ("keeps results", 1.5), ("several", 1.5)]
)
def test_it_survives_crashes(plugins: str, later: float) -> None:
    """Wherever the program is killed, each submission goes through the plugins once, and callbacks see the same."""

    def program(folder: Path) -> list[Any]:
        server = Server(PLUGINS[plugins](folder), submit_four, later=later, tries=2 if plugins == "repeats" else 1)
        server.run(folder)
        return [server.notes, server.ended()]

    notes, ended = crash_everywhere(program)
    submitted = Counter(note for note in notes if note.startswith("submitted"))
    assert set(submitted.values()) == {1}
    assert ended == {"drops": [-1, -2, "cancelled", "cancelled"], "counts": [-1, -2, -3, "cancelled"]}.get(
        plugins, [-1, -2, -3, -1]
    )
    assert len(submitted) == {"drops": 3, "counts": 3}.get(plugins, 5)


def test_a_future_is_that_of_the_call_that_was_kept(tmp_path: Path) -> None:
    """What a `Limiter` has kept gets the future that the thread was given."""
    server = Server(Limiter(max_concurrent=1, on_limit="queue"), submit_four)
    seen: list[Any] = []
    server.task.on_result(lambda future, _: seen.append(future))
    server.run(tmp_path)
    assert set(map(id, server.futures)) <= set(map(id, seen))
    assert [future.number for future in server.futures if future is not None] == [0, 1, 2, 3]


def test_what_a_plugin_raises_is_reported(tmp_path: Path) -> None:
    """No caller can catch it: it goes to `on_callback_exception`, and the future is cancelled."""

    def ask(server: Server) -> None:
        server.futures += [server.task.submit(x) for x in (1, -1, 3)]

    def program(folder: Path) -> list[Any]:
        server = Server(Refusal(), ask)
        server.run(folder, on_callback_exception="continue")
        return [server.notes, server.ended()]

    _, ended = crash_everywhere(program)
    assert ended == [-1, "cancelled", -3]
    with pytest.raises(ValueError, match="negative"):
        Server(Refusal(), ask).run(tmp_path)


def test_what_is_kept_until_the_end_is_cancelled(tmp_path: Path) -> None:
    """A call that is still kept when the run ends has a cancelled future; the next session computes it."""
    server = Server(Limiter(max_concurrent=1, on_limit="queue"), submit_four)
    server.task.on_result(lambda *_: server.scheduler.stop(), max_calls=1)
    server.run(tmp_path)
    assert server.ended() == [-1, -2, "cancelled", "cancelled"]
    again = Server(Limiter(max_concurrent=1, on_limit="queue"), submit_four)
    again.run(tmp_path)
    assert again.ended() == [-1, -2, -3, -1]
    assert again.computed == [3, 1, 20]


@pytest.mark.parametrize("has_journal", [False, True])
def test_what_is_kept_for_the_next_run_gets_a_future_of_that(has_journal: bool, tmp_path: Path) -> None:
    """A `Limiter` keeps calls for the scheduler's next run, where they are those of no thread any more."""
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(operator.neg, plugins=Limiter(max_concurrent=1, on_limit="queue"))
    futures: list[Future[Any] | None] = []
    seen: list[Future[Any]] = []

    def submit_elsewhere() -> None:
        thread = threading.Thread(target=lambda: futures.extend(task.submit(x) for x in (1, 2, 3)))
        thread.start()
        thread.join()

    scheduler.on_start(submit_elsewhere, max_calls=1)
    task.on_result(scheduler.stop, max_calls=1)  # behind the `Limiter`, which has submitted the second by then
    task.on_result(lambda future, _: seen.append(future))
    scheduler.run(journal=tmp_path / "first", display=False)
    assert [future.result() for future in seen] == [-1, -2]
    scheduler.run(journal=tmp_path / "second" if has_journal else None, display=False)
    assert [future.result() for future in seen] == [-1, -2, -3]
    assert futures[0] is seen[0]
    assert [future is not None and future.cancelled() for future in futures] == [False, False, True]


def test_calls_are_cancelled_by_the_thread() -> None:
    """A thread cancels calls at once: one that runs, and one that a `Limiter` has kept or refused."""

    def ask(server: Server) -> None:
        submit_four(server)
        for future in server.futures:
            assert future is not None
            future.cancel()

    for on_limit in ("queue", "drop"):

        def program(folder: Path, on_limit: Any = on_limit) -> list[Any]:
            server = Server(Limiter(max_concurrent=1, on_limit=on_limit), ask)
            server.run(folder, on_cancelled="continue")
            return [server.notes, server.ended()]

        notes, ended = crash_everywhere(program)
        assert ended == ["cancelled"] * 4
        assert not [note for note in notes if note.startswith("result")]


def test_plugins_are_attached_and_detached_in_callbacks() -> None:
    """A thread may not: nothing would record which calls they see. Callbacks may, and the kept calls are submitted."""
    errors: list[str] = []

    def ask(server: Server) -> None:
        submit_four(server)
        for change, plugin in (
            (server.task.detach_plugin, server.task.plugins[0]),
            (server.task.attach_plugin, Refusal()),
        ):
            with pytest.raises(JournalUnsupportedError) as caught:
                change(plugin)
            errors.append(str(caught.value))

    def program(folder: Path) -> list[Any]:
        limiter = Limiter(max_concurrent=1, on_limit="queue")
        server = Server(limiter, ask)
        server.task.on_result(lambda *_: server.task.detach_plugin(limiter), max_calls=1)
        server.run(folder)
        return [server.notes, server.ended()]

    _, ended = crash_everywhere(program)
    assert ended == [-1, -2, -3, -1]
    assert errors[0].startswith("cannot detach a Limiter")
    assert errors[1].startswith("cannot attach a Refusal")
    assert all("Emit an event instead" in error for error in errors)


def test_others_read_who_asked(tmp_path: Path) -> None:
    """The journal has the request, and the call as what follows from it."""
    server = Server(Limiter(max_concurrent=2), submit_four)
    server.run(tmp_path)
    records = list(Reader(tmp_path).records())
    requests = [record.number for record in records if record.head.get("asks") == "submit"]
    by = [record.head["by"] for record in records if record.head.get("task") == "neg" and "by" in record.head]
    assert len(requests) == 4
    assert by[:2] == requests[:2]
