"""What a run launches before its first call: the process that starts workers, as the program is by then."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.process_pool._workers import server_process
from tests.helpers.gate import GUARD
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: elsewhere nothing is launched ahead")


def servers() -> list[int]:
    """The children of this process that are fork servers."""
    return [child.pid for child in psutil.Process().children() if server_process.SERVER in " ".join(child.cmdline())]


def parent(_: object = None) -> int:
    return os.getppid()


def result_of(scheduler: Scheduler, task: Any, before: Callable[[], object] = lambda: None) -> Any:
    """The result of one call; `before` is called after the run has begun, and before the call is submitted."""
    results: list[Any] = []

    @scheduler.on_start
    def begin() -> None:
        before()
        task.submit()

    task.on_result(lambda _, result: results.append(result))
    scheduler.run()
    (result,) = results
    return result


def test_it_is_there_before_the_first_call() -> None:
    """The process that exists when the run begins is the one that forks the workers; none is left afterwards."""
    scheduler = Scheduler.with_processes(1)
    found: list[int] = []
    assert result_of(scheduler, scheduler.task(parent), lambda: found.extend(servers())) == found[0]
    assert len(found) == 1
    assert servers() == []


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_run_without_calls_leaves_nothing(method: str) -> None:
    """Neither a process nor a descriptor is left of what was launched for calls that did not come."""
    scheduler = Scheduler.with_processes(1, method)
    found: list[int] = []
    scheduler.on_start(lambda: found.extend(servers()))
    before = len(os.listdir("/proc/self/fd"))
    scheduler.run()
    assert len(found) == 1
    assert servers() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_forked_workers_need_none() -> None:
    """With `mp_context="fork"` nothing is launched."""
    scheduler = Scheduler.with_processes(1, "fork")
    found: list[int] = []
    scheduler.on_start(lambda: found.extend(servers()))
    scheduler.run()
    assert found == []


CHANGES = {
    "a variable": ("os.environ['SET_AT_THE_START'] = 'x'", "os.environ.get('SET_AT_THE_START')", "x"),
    "the path": ("sys.path.append('/set/at/the/start')", "'/set/at/the/start' in sys.path", "True"),
    "a warning option": ("sys.warnoptions.append('error::BytesWarning')", "sys.warnoptions[-1]", "error::BytesWarning"),
    "the mask of files": ("os.umask(0o031)", "oct(os.umask(0))", "0o31"),
    "a limit": ("resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))", "resource.getrlimit(7)[0]", "200"),
    "the priority": ("os.nice(3)", "os.nice(0)", "3"),
    "the CPUs": ("os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})", "len(os.sched_getaffinity(0))", "1"),
    "the standard error stream": (
        "os.dup2(os.open('out', os.O_CREAT | os.O_WRONLY), 2)",
        "os.path.basename(os.readlink('/proc/self/fd/2'))",
        "out",
    ),
    "an ignored signal": ("signal.signal(signal.SIGHUP, signal.SIG_IGN)", "signal.getsignal(signal.SIGHUP).value", "1"),
}
"""What a program may change until its first call, and an expression for it with its value."""


@pytest.mark.parametrize("kind", CHANGES)
def test_workers_have_what_was_changed_since(kind: str) -> None:
    """What the program changes in a callback of `@start` is as it left it in the workers of its first call."""
    change, expression, value = CHANGES[kind]
    ended = run_script(f"""
        import os, resource, signal, sys
        from amltk.scheduling import Scheduler

        def tell():
            return str({expression})

        scheduler = Scheduler.with_processes(1)
        task = scheduler.task(tell)

        @scheduler.on_start
        def begin():
            {change}
            task.submit()

        task.on_result(lambda _, result: print(result))
        scheduler.run()
        """)
    assert (ended.code, ended.lines, ended.errors) == (0, [value], "")


def test_a_launch_that_fails_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be launched when the run begins, it is when there is a call."""
    launch, refused = subprocess.Popen, []

    def refuse_once(*args: Any, **options: Any) -> Any:
        if not refused:
            refused.append(args)
            raise OSError("no more processes")
        return launch(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", refuse_once)
    scheduler = Scheduler.with_processes(1)
    found: list[int] = []
    result_of(scheduler, scheduler.task(parent), lambda: found.extend(servers()))
    assert found == []
    assert len(refused) == 1


def test_a_launched_process_that_was_killed_is_replaced() -> None:
    """The call is computed nevertheless."""
    scheduler = Scheduler.with_processes(1)
    found: list[int] = []

    def kill() -> None:
        found.extend(servers())
        os.kill(found[0], 9)

    assert result_of(scheduler, scheduler.task(parent), kill) not in found


def test_a_pool_without_calls_starts_nothing() -> None:
    """To ask it, and to end it, loads and starts nothing; then it accepts no calls."""
    ended = run_script("""
        import sys
        from amltk.scheduling.executors.process_pool.pool import ProcessPool

        pools = [ProcessPool(1), ProcessPool(1)]
        for pool in pools:
            print(pool.worker_pids, pool.running_calls(), pool._broken)
        pools[0].shutdown()
        pools[1].kill_workers()
        print("amltk.scheduling.executors.process_pool._engine.engine" in sys.modules)
        for pool in pools:
            try:
                pool.submit(abs, -1)
            except RuntimeError as error:
                print(error)
            pool.shutdown()
        """)
    refusal = "cannot schedule new futures after shutdown: this ProcessPool was shut down"
    assert (ended.code, ended.lines, ended.errors) == (0, ["[] [] False"] * 2 + ["False"] + [refusal] * 2, "")


def test_a_forked_copy_of_a_pool_without_calls_accepts_none() -> None:
    """A process that is forked before the pool's first call has nothing of the pool."""
    ended = run_script("""
        import os
        from amltk.scheduling.executors import ProcessPool

        pool = ProcessPool(1)
        pid = os.fork()
        if not pid:
            try:
                pool.submit(abs, -1)
            except RuntimeError as error:
                print(str(error).partition(",")[0].replace(str(os.getppid()), "its parent"), flush=True)
            print(pool.worker_pids, pool.running_calls(), flush=True)
            pool.shutdown()
            os._exit(0)
        os.waitpid(pid, 0)
        print(pool.submit(abs, -1).result())
        pool.shutdown()
        """)
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines == ["this ProcessPool is that of process its parent", "[] []", "1"]


def test_the_first_call_of_a_pool_has_it_as_well() -> None:
    """A pool that is used without a scheduler launches it with its first call, on the thread that submits."""
    with ProcessPool(1) as pool:
        call = pool.submit(parent)
        (found,) = servers()
        assert call.result(GUARD) == found


def test_what_is_imported_late_is_there_when_it_is_needed() -> None:
    """Ends of pipes, and what only cloudpickle can take apart, are sent although the first call needed neither."""
    ended = run_script("""
        import sys, types
        from amltk.scheduling.executors import ProcessPool

        TABLE = types.MappingProxyType({"a": 1})

        class Local:
            value = 3

        def plain(x):
            return x + 1

        def late():
            return dict(TABLE), Local.value

        def send(end):
            end.send("sent")

        with ProcessPool(1) as pool:
            print(pool.submit(plain, 1).result(), pool.submit(abs, -1).result())
            print([name for name in ("cloudpickle", "multiprocessing.connection") if name in sys.modules])
            print(pool.submit(late).result())
            import multiprocessing
            ours, theirs = multiprocessing.Pipe()
            pool.submit(send, theirs).result()
            print(ours.recv())
        """)
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines == ["2 1", "[]", "({'a': 1}, 3)", "sent"]
