"""Workers that cannot be started, or not as usual: the pool continues with the rest, and says what is missing."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from amltk.exceptions import ExecutorBrokenError, PoolBrokenError
from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._io import link
from amltk.scheduling.executors.process_pool._workers import start_problems, starts
from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS, Script

METHODS = ["forkserver", "spawn", "fork"]

PROGRAM = """
    import logging, os, resource, sys, time

    import cloudpickle, psutil

    from amltk.scheduling import Scheduler

    logging.basicConfig(level=logging.WARNING)

    def work(n):
        time.sleep(0.05)
        return n

    def search(**options):
        scheduler = Scheduler.with_processes(8, {method!r}, **options)
        task = scheduler.task(work)
        scheduler.on_start(lambda: [task.submit(n) for n in range(24)])
        results = []
        task.on_result(lambda future, result: results.append(result))
        task.on_exception(lambda future, error: print(type(error).__name__, error))
        try:
            print(scheduler.run(on_exception="continue", display=False).code.name)
        except Exception as error:
            print(type(error).__name__, error)
        print(len(results), "results")
"""

WITHOUT_CAPABILITIES = (
    "setpriv",
    f"--reuid={2**20 + os.getpid()}",  # a user of its own: all processes of a user count
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+dac_read_search,+dac_override",  # the interpreter may lie where only root can read
    "--ambient-caps=+dac_read_search,+dac_override",
)
"""Runs a program as a separate user, whose processes are counted and limited, unlike root's."""


def run_as_nobody(source: str) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("NOT RUN: a limit of processes needs root and setpriv (util-linux), to become a user that has one")
    return subprocess.run(
        [*WITHOUT_CAPABILITIES, sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD,
        cwd="/tmp",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)},
    )


def identity(value: object) -> object:
    return value


@pytest.mark.parametrize("method", METHODS)
def test_at_the_limit_of_processes_the_others_do_the_work(method: str) -> None:
    """All calls are computed, no running call is lost, and one warning names the limit."""
    limit = "resource.setrlimit(resource.RLIMIT_NPROC, (7, 7))\n"
    ended = run_as_nobody(textwrap.dedent(PROGRAM).format(method=method) + limit + "search()")
    assert ended.stdout.splitlines() == ["EXHAUSTED", "24 results"], ended
    assert ended.stderr.count("a worker process cannot be started") == 1
    assert "ulimit -u: 7" in ended.stderr


@pytest.mark.parametrize("method", METHODS)
def test_at_the_limit_of_descriptors_the_others_do_the_work(method: str) -> None:
    """A worker takes two descriptors in the pool's program; the message names the limit."""
    limit = "    resource.setrlimit(resource.RLIMIT_NOFILE, (26, 26))\n"
    with Script(textwrap.dedent(PROGRAM).format(method=method) + textwrap.dedent(limit) + "search()\n") as script:
        ended = script.end()
    assert ended.lines[-2:] == ["EXHAUSTED", "24 results"], ended
    assert ended.errors.count("a worker process cannot be started") == 1
    assert "ulimit -n: 26" in ended.errors


def test_where_no_worker_can_be_started_the_error_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few retries with backoff, every call fails with an error that names the limit."""

    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(start_problems, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(starts, "make_starter", fail)
    with ProcessPool(2) as pool:
        calls = [pool.submit(identity, n) for n in range(3)]
        for call in calls:
            with pytest.raises(
                PoolBrokenError, match=r"no worker process can be started: .*ulimit -u: .*Use fewer workers"
            ):
                call.result(GUARD)


def test_a_pool_whose_thread_cannot_start_accepts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each submission raises while threads cannot be started; once they can, the pool works."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ProcessPool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"thread cannot be started .*ulimit -u: .*no memory left"):
                    pool.submit(identity, 1)
        assert pool.submit(identity, 2).result(GUARD) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["sys.executable = None", "sys.executable = ''", "sys.frozen = True"])
def test_a_program_that_cannot_be_run_again_is_copied(method: str, kind: str) -> None:
    """Workers are forked, because a frozen program would start itself again and again."""
    brake = "    assert os.environ.setdefault('STARTED_BY', str(os.getpid())) == str(os.getpid()), 'it was run again'\n"
    lines = textwrap.dedent(PROGRAM).format(method=method) + textwrap.dedent(brake) + f"{kind}\nsearch()\n"
    with Script(lines) as script:
        ended = script.end()
    assert ended.lines == ["EXHAUSTED", "24 results"], ended


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("entry", [Path("lib"), b"lib", None, "/x\udcff", '/it\'s "quoted" {braces} \\n'])
def test_whatever_is_in_the_path_of_imports(method: str, entry: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get the entries that the import system uses, and skip those that it ignores."""
    monkeypatch.setattr(sys, "path", [*sys.path, entry])
    with ProcessPool(1, method) as pool:
        assert pool.submit(pow, 2, 3).result(GUARD) == 8


@pytest.mark.parametrize("method", METHODS)
def test_workers_begin_where_the_pool_was_made(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start in the pool's folder, even after the program has changed its folder or removed that one."""
    made, other = tmp_path / "made", tmp_path / "other"
    made.mkdir()
    other.mkdir()
    monkeypatch.chdir(made)
    with ProcessPool(1, method, max_tasks_per_child=1) as pool:
        assert pool.submit(os.getcwd).result(GUARD) == str(made)
        os.chdir(other)
        assert pool.submit(os.getcwd).result(GUARD) == str(made)
        made.rmdir()
        assert pool.submit(pow, 2, 3).result(GUARD) == 8
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_made_in_a_folder_that_is_gone_works(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program has no current folder any more; neither have its workers."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with ProcessPool(1, method) as pool:
        assert pool.submit(pow, 2, 3).result(GUARD) == 8
    monkeypatch.chdir(tmp_path)


def wait_for_device(path: str) -> None:
    """An initializer that only the first worker gets through: a crashed worker never releases the device."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        threading.Event().wait()


def crash(how: int) -> int:
    if how:
        os._exit(how)
    return how


@pytest.mark.parametrize("method", METHODS)
def test_a_run_does_not_wait_for_a_worker_that_never_gets_ready(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """During the run the log says what it waits for; when the run is to end, it ends."""
    for module in (link, start_problems):
        monkeypatch.setattr(module, "SLOW_START_SECONDS", 0.2)
    scheduler = Scheduler.with_processes(1, method, wait_for_device, (str(tmp_path / "device"),))
    scheduler.on_start(lambda: [scheduler.submit(crash, how) for how in (1, 0)])
    with (
        caplog.at_level(logging.WARNING, "amltk"),
        pytest.raises(ExecutorBrokenError, match=r"was not ready after .*, and the run is to end"),
    ):
        scheduler.run(timeout=1, on_exception="continue", display=False)
    assert any("is not ready after" in record.getMessage() for record in caplog.records)


def test_a_worker_that_hangs_where_others_did_not_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool breaks after three such workers, with a message that says where they hang."""
    for module in (link, start_problems):
        monkeypatch.setattr(module, "SLOW_START_SECONDS", 0.05)
    monkeypatch.setattr(start_problems, "HANGING_START_SECONDS", 0.1)
    monkeypatch.setattr(start_problems, "HANGING_START_RATIO", 1.0)
    with ProcessPool(1, None, wait_for_device, (str(tmp_path / "device"),)) as pool:
        assert pool.submit(identity, 1).result(GUARD) == 1
        pool.submit(crash, 1).exception(GUARD)
        with pytest.raises(PoolBrokenError, match="its initializer has not returned; that happened 3 times"):
            pool.submit(identity, 2).result(GUARD)
