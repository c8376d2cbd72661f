"""`run(display="web")`, `amltk watch`, and the status that a run writes beside its journal."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from amltk.display.journal import watch
from amltk.exceptions import JournalError, MissingExtraError
from amltk.journal.folder import Folder
from amltk.journal.live.follower import Follower
from amltk.journal.live.status import read_status
from amltk.scheduling import Scheduler
from amltk.scheduling.plugins.call_folder import CallFolder
from amltk.scheduling.plugins.resources import Resources
from amltk.web import facts, view
from tests.helpers.gate import GUARD
from tests.helpers.page_server import PageServer
from tests.helpers.script import Script, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = """
import sys, time
from amltk.scheduling import Scheduler

def work(seconds):
    time.sleep(seconds)
    if seconds == 0.125:
        raise OSError("no room")
    return seconds

scheduler = Scheduler.with_processes(2)
task = scheduler.task(work)

@scheduler.on_start
def start():
    task.map([0, 0.125, 0, 600, 600, 600])

scheduler.run(journal={folder!r}, on_exception="continue")
"""


@pytest.fixture(autouse=True)
def no_servers() -> Iterator[None]:
    """Close the servers that a run has started."""
    yield
    view.close_servers()


def waited_for(what: Any) -> Any:
    """Wait until `what` returns a true value, and return it."""
    end = time.monotonic() + GUARD
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return found


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("has_journal", [False, True])
def test_a_run_shows_itself(has_journal: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The link is printed; the page has the calls, also after the run, and even without the user's own journal."""
    folder = str(tmp_path / "search") if has_journal else None
    scheduler = Scheduler.with_threads(2)
    task = scheduler.task(double)

    @scheduler.on_start
    def start() -> None:
        task.map(range(8))

    scheduler.run(display="web", journal=folder)
    found = re.search(r"amltk: this run is shown at (http://\S+)\n", capfd.readouterr().err)
    assert found is not None
    server = PageServer(found[1], 0)
    waited_for(lambda: server.ask("api/0/overview").data["state"] == "finished")
    overview = server.ask("api/0/overview").data
    assert overview["counts"]["result"] == 8
    assert overview["series"][0]["highest"][-1][1] == 14
    assert server.ask("api/0/calls?search=double(3)").data["calls"][0]["result"] == 6


def test_what_runs_is_known_from_outside_and_remains_after_a_kill(tmp_path: Path) -> None:
    """The file beside the journal says which calls run, where and since when, and how many there will be."""
    folder = Folder(tmp_path / "search")
    with Script(SCRIPT.format(folder=str(folder))) as script:
        told = waited_for(lambda: len((status := read_status(folder)).running) == 2 and status)
        running = [call.call for call in told.running]
        assert len(running) == 2
        assert set(running) < {3, 4, 5}
        assert all(call.pid and call.began for call in told.running)
        assert (told.workers, told.more, told.pid) == (2, 0, script.process.pid)
        assert told.total == 6
        script.process.kill()
    assert [call.call for call in read_status(folder).running] == running
    drawn = io.StringIO()
    watch(folder.path, console=Console(file=drawn, width=100, height=40, force_terminal=False))
    assert "interrupted: its process was killed" in drawn.getvalue()
    assert "1 failed" in drawn.getvalue()


def test_a_run_that_ends_leaves_no_status(tmp_path: Path) -> None:
    """Nothing runs any more, so there is no status file."""
    scheduler = Scheduler.with_threads(1)
    seen = threading.Event()
    task = scheduler.task(lambda: seen.wait(GUARD))
    scheduler.on_start(lambda: task.submit())
    watcher = threading.Thread(target=lambda: waited_for(Folder(tmp_path).status.exists) and seen.set())
    watcher.start()
    scheduler.run(journal=tmp_path)
    watcher.join()
    assert seen.is_set()
    assert not Folder(tmp_path).status.exists()


def test_watching_a_run_of_another_process(tmp_path: Path) -> None:
    """The watcher shows the display of `run(display=True)`, from the journal; it ends with the run."""
    folder = tmp_path / "search"
    with Script(SCRIPT.format(folder=str(folder))) as script:
        waited_for(lambda: read_status(Folder(folder)).running)
        with Script(
            f"import sys; from amltk.cli.main import main; sys.exit(main(['watch', {str(folder)!r}]))"
        ) as watcher:
            line = waited_for(lambda: watcher.errors())
            assert re.search(r"running, .* 2 running, .*1 failed", line), line
            script.process.kill()
            assert watcher.end().code == 0


def test_there_must_be_a_journal_to_watch(tmp_path: Path) -> None:
    """Without one, there is the same error as from all commands."""
    with pytest.raises(JournalError, match="there is no journal"):
        watch(tmp_path)


def test_what_calls_return_is_told_in_the_heads(tmp_path: Path) -> None:
    """Dicts have their numbers recorded by key, and anything else a short text."""
    from amltk.journal import Kind, Reader

    results: list[Any] = [{"loss": 0.5, "n": 3, "ok": True, "name": "x", 5: 1}, {}, "text", None, [1, 2], 7]
    scheduler = Scheduler.with_sequential()
    task = scheduler.task(results.__getitem__)
    scheduler.on_start(lambda: task.map(range(len(results))) and None)
    scheduler.run(journal=tmp_path)
    heads = [record.head for record in Reader(tmp_path).records() if record.kind == Kind.RESULT]
    told = [{key: head[key] for key in ("number", "numbers", "returned") if key in head} for head in heads]
    assert told[0]["numbers"] == {"loss": 0.5, "n": 3}
    assert told[1:] == [{"returned": "{}"}, {"returned": "'text'"}, {}, {"returned": "[1, 2]"}, {"number": 7}]
    assert json.dumps(told)


def say(x: int) -> int:
    sys.stdout.write(f"I am {x}\n")
    return x


def test_output_resources_and_dependencies_of_calls_are_known(tmp_path: Path) -> None:
    """The journal has the folder with a call's output, what it requests, and the calls whose results it needs."""
    scheduler = Scheduler.with_processes(1, resources={"licence": 2})
    task = scheduler.task(say, plugins=[CallFolder(tmp_path, capture=True), Resources(licence=1)])
    needs = scheduler.task(say)
    scheduler.on_start(lambda: needs.submit(task.submit(5)))  # type: ignore[arg-type]
    scheduler.run(journal=tmp_path)
    follower = Follower(tmp_path, table=True)
    follower.finish()
    first, second = facts.call(follower, 0), facts.call(follower, 1)
    follower.close()
    assert first is not None
    assert second is not None
    assert (first["output"], first["after"]) == ("I am 5\n", [])
    assert (first["resources"], second["resources"]) == ("licence 1", "")
    assert ("output" in second, second["after"]) == (False, [0])


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_what_the_server_needs_is_missed_before_the_run(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error gives the pip command, and nothing has begun."""
    monkeypatch.setitem(sys.modules, library, None)
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: pytest.fail("the run has begun"))
    with pytest.raises(MissingExtraError, match=rf"this needs '{library}': pip install 'amltk\[web\]'"):
        scheduler.run(display="web")


def test_this_program_does_not_import_what_only_the_server_needs() -> None:
    """It takes a tenth of a second, which another process spends."""
    ended = run_script("""
    import sys
    from amltk.scheduling import Scheduler
    scheduler = Scheduler.with_sequential()
    scheduler.run(display="web")
    print(sorted({"starlette", "uvicorn"} & sys.modules.keys()))
    """)
    assert ended.lines == ["[]"], ended.errors
