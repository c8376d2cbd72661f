"""Workers that are forked from a process that has imported what their calls need."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.scheduling import Resources, Scheduler
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD, Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers: elsewhere workers import")

BAD_MODULES = {
    "a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, name='watches', daemon=True).start()",
        "the thread watches",
    ),
    "a thread of _thread": (
        "import _thread, threading\n_thread.start_new_thread(threading.Event().wait, ())",
        "it started",
    ),
    "an event loop": ("import asyncio\nLOOP = asyncio.new_event_loop()", "event loop"),
    "a connection": ("import socket\nSERVER = socket.create_server(('127.0.0.1', 0))", "a connection"),
    "a child": ("import subprocess\nCHILD = subprocess.Popen(['sleep', '100'])", "the process"),
    "a file that it writes": ("LOG = open('log.txt', 'w')", "a file to write into"),
    "its process's end": ("import os\nos._exit(7)", "has ended"),
}


def imported(*names: str) -> tuple[int, list[str]]:
    """Return which modules the worker has before the call itself imports any."""
    return os.getpid(), [name for name in names if name in sys.modules]


def random_numbers() -> tuple[float, float]:
    import random

    import numpy as np

    return random.random(), np.random.random()


def kill_workers(pool: ProcessPool) -> None:
    """Kill the workers, and wait until the pool has noticed, so that it sends them no more calls."""
    pids = pool.worker_pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    give_up = time.monotonic() + GUARD
    while set(pids) & set(pool.worker_pids):
        assert time.monotonic() < give_up
        time.sleep(0.001)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


def test_a_module_is_imported_once_for_all_workers(folder: Path) -> None:
    """The module's import runs once, and all workers have it, including replacements of killed ones."""
    add_module(folder, "counted", "import os\nwith open('imports.txt', 'a') as file: print(os.getpid(), file=file)\n")
    pids = set()
    with ProcessPool(2, preload=["counted"]) as pool:
        for _ in range(3):
            with Gate() as gate:
                calls = [pool.submit(pass_gate, gate.address) for _ in range(2)]
                gate.wait_begun(2)
                pids.update(pool.worker_pids)
                gate.open()
                assert all(call.exception(GUARD) is None for call in calls)
            pid, found = pool.submit(imported, "counted").result(GUARD)
            assert found == ["counted"]
            pids.add(pid)
            kill_workers(pool)
    assert len(pids) >= 4
    assert len((folder / "imports.txt").read_text().split()) == 1


@pytest.fixture
def needed(folder: Path) -> Iterator[Any]:
    """A user's module, which the program has imported; it records each import."""
    add_module(
        folder,
        "needed_by_calls",
        """
        import os

        with open("imports.txt", "a") as file:
            print(os.getpid(), file=file)

        def pid():
            return os.getpid()
        """,
    )
    yield importlib.import_module("needed_by_calls")
    del sys.modules["needed_by_calls"]


def imports(folder: Path) -> list[int]:
    return list(map(int, (folder / "imports.txt").read_text().split()))


def test_what_calls_need_is_imported_ahead(folder: Path, needed: Any) -> None:
    """The program imports it, and then all workers together once, from the first to the replacements of killed ones."""
    pids = set()
    with ProcessPool(2) as pool:
        for _ in range(3):
            calls = [pool.submit(needed.pid) for _ in range(20)]
            pids.update(call.result(GUARD) for call in calls if call.exception(GUARD) is None)
            kill_workers(pool)
    assert len(pids) >= 3
    own, *others = imports(folder)
    assert own == os.getpid()
    assert len(others) == 1
    assert not pids & set(others)


def test_what_calls_with_devices_need_is_imported_ahead(folder: Path, needed: Any) -> None:
    """This includes the first worker and those that replace it because they need other devices."""
    scheduler = Scheduler.with_processes(1, resources={"gpu": ["0", "1"]})
    task = scheduler.task(needed.pid, plugins=Resources(gpu=1))
    both = scheduler.task(needed.pid, plugins=Resources(gpu=2))
    pids: set[int] = set()
    scheduler.on_future_result(lambda _, pid: pids.add(pid))

    @scheduler.on_start
    def launch() -> None:
        for one in (task, both, task):
            one.submit()

    scheduler.run(timeout=GUARD)
    own, *others = imports(folder)
    assert own == os.getpid()
    assert len(pids) == 3
    assert len(others) == 1
    assert not pids & set(others)


def test_what_later_calls_need_is_imported_ahead_of_later_workers(folder: Path, needed: Any) -> None:
    """Existing workers import it themselves, once each; their replacements need not."""
    with ProcessPool(1) as pool:
        first, _ = pool.submit(imported).result(GUARD)
        assert pool.submit(needed.pid).result(GUARD) == first
        pids = {first}
        give_up = time.monotonic() + GUARD
        noted = 0
        while len(imports(folder)) != noted:  # once it is imported ahead, which takes its time, no other worker does it
            assert time.monotonic() < give_up
            noted = len(imports(folder))
            kill_workers(pool)
            pids.add(pool.submit(needed.pid).result(GUARD))
    assert len(set(imports(folder)) - pids) == 2  # this process and the warm one


def test_nothing_is_imported_ahead_without_preload(folder: Path, needed: Any) -> None:
    """Each worker imports what it needs, as a fresh interpreter does."""
    with ProcessPool(1, preload=()) as pool:
        pid = pool.submit(needed.pid).result(GUARD)
    assert imports(folder) == [os.getpid(), pid]


def test_workers_are_children_of_one_process(folder: Path) -> None:
    """The warm process is not an ancestor of the workers: the process that waits for them is their parent."""
    add_module(folder, "plain", "X = 1\n")
    with ProcessPool(1, preload=["plain"]) as pool:
        pid, _ = pool.submit(imported).result(GUARD)
        server = psutil.Process(pid).parent()
        assert server is not None
        assert server.ppid() == os.getpid()
        assert len(server.children()) == 2  # it and the warm process


@pytest.mark.parametrize("kind", BAD_MODULES)
def test_a_module_that_forks_badly_is_imported_by_workers(
    kind: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names it with the reason; calls work, the other modules are preloaded, and nothing is left."""
    text, reason = BAD_MODULES[kind]
    add_module(folder, "bad_one", text)
    add_module(folder, "good_one", "X = 1\n")
    with caplog.at_level(logging.WARNING, "amltk"), ProcessPool(1, preload=["bad_one", "good_one"]) as pool:
        _, found = pool.submit(imported, "bad_one", "good_one").result(GUARD)
        assert found == ["good_one"]
        assert pool.submit(imported, "good_one").result(GUARD)[1] == ["good_one"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "bad_one" in told[0]
    assert reason in told[0]


def test_a_module_that_cannot_be_imported_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad name in `preload` causes a warning; the others are imported."""
    add_module(folder, "fails", "raise SystemExit(3)\n")
    add_module(folder, "works", "X = 1\n")
    with (
        caplog.at_level(logging.WARNING, "amltk"),
        ProcessPool(1, preload=["fails", "is_not_there", "works"]) as pool,
    ):
        assert pool.submit(imported, "fails", "works").result(GUARD)[1] == ["works"]
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(maxsplit=1)[0] for text in told] == ["fails", "is_not_there"]
    assert "SystemExit: 3" in told[0]


def test_what_a_module_prints_and_where_it_goes_is_seen_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its output is not repeated by each worker, and workers start in the pool's folder."""
    add_module(folder, "talks", "import os\nprint('hello from the module')\nos.chdir('/')\n")
    with ProcessPool(2, preload=["talks"]) as pool:
        assert pool.submit(os.getcwd).result(GUARD) == str(folder)
        kill_workers(pool)
        assert pool.submit(os.getcwd).result(GUARD) == str(folder)
    assert capfd.readouterr().out.count("hello from the module") == 1


def test_workers_draw_random_numbers_of_their_own() -> None:
    """Workers forked from one process draw different random numbers."""
    pytest.importorskip("numpy")
    drawn = set()
    with ProcessPool(1, preload=["numpy", "random"], max_tasks_per_child=1) as pool:
        for _ in range(3):
            drawn.update(pool.submit(random_numbers).result(GUARD))
    assert len(drawn) == 6


def test_a_run_that_ends_does_not_wait_for_imports(folder: Path) -> None:
    """Imports still in progress are aborted at once, and no process is left."""
    begun = folder / "begun"
    os.mkfifo(begun)
    source = f"import os, time\nopen({str(begun)!r}, 'w').write(str(os.getpid()))\nwhile True: time.sleep(1)\n"
    add_module(folder, "takes_for_ever", source)
    pool = ProcessPool(2, preload=["takes_for_ever"])
    call = pool.submit(imported)
    importing = psutil.Process(int(begun.read_text()))
    pool.kill_workers()
    assert call.cancelled()
    assert psutil.wait_procs([importing], timeout=GUARD)[1] == []


@pytest.mark.parametrize(
    ("preload", "error", "text"),
    [
        ("sklearn", TypeError, r"preload='sklearn': must be 'auto' or a list"),
        (["a b"], TypeError, "'a b' is not the name of a module"),
        ([3], TypeError, "3 is not the name of a module"),
        (3, TypeError, "preload=3"),
    ],
)
def test_what_preload_means_is_checked(preload: object, error: type[Exception], text: str) -> None:
    """A bad value is rejected at once, with what is allowed."""
    with pytest.raises(error, match=text):
        ProcessPool(1, preload=preload)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_modules_are_imported_ahead_by_the_fork_server_only(method: str) -> None:
    """Other start methods reject it, but accept an empty `preload`, which is what they do anyway."""
    with pytest.raises(ValueError, match="only with mp_context='forkserver'"):
        ProcessPool(1, method, preload=["json"])
    ProcessPool(1, method, preload=()).shutdown()
