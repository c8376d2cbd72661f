"""What functions in a pool can rely on: their streams, pools of their own, and a fresh worker when it is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import pytest

from amltk.exceptions import NestingError
from amltk.scheduling.executors import ProcessPool
from tests.helpers.gate import GUARD
from tests.helpers.script import run_script
from tests.helpers.workers import METHODS, identity

begun: list[str] = []
"""In a worker: what its initializer has noted."""


def note(text: str) -> None:
    begun.append(text)


def noted() -> tuple[int, list[str]]:
    return os.getpid(), begun


@pytest.mark.parametrize("method", METHODS)
def test_each_worker_is_initialised_once(method: str) -> None:
    """Also those that replace others after `max_tasks_per_child` calls."""
    with ProcessPool(1, method, note, ("ready",), max_tasks_per_child=2) as pool:
        seen = [pool.submit(noted).result(GUARD) for _ in range(6)]
    assert [texts for _, texts in seen] == [["ready"]] * 6
    pids = [pid for pid, _ in seen]
    assert pids[0::2] == pids[1::2]
    assert len(set(pids)) == 3


def nested(depth: int) -> int:
    """Compute in a pool in a pool in a pool…"""
    if not depth:
        return 1
    with ProcessPool(1) as pool:
        return 1 + pool.submit(nested, depth - 1).result(GUARD)


async def never_awaited() -> None: ...


@pytest.mark.parametrize("initializer", [never_awaited, partial(never_awaited)])
def test_an_initializer_that_would_never_run_is_refused(initializer: Any) -> None:
    with pytest.raises(TypeError, match="must be a plain function, not an `async def`: no worker would await it"):
        ProcessPool(1, initializer=initializer)


def test_a_call_may_use_a_pool_of_its_own() -> None:
    """To some depth; nobody deadlocks, and no process is left."""
    with ProcessPool(1) as pool:
        assert pool.submit(nested, 2).result(GUARD) == 3


def test_nesting_without_end_is_an_error() -> None:
    """A function that submits itself in a new pool each time gets an error that says how deep it is."""
    ended = run_script("""
        import os

        os.environ["AMLTK_MAX_DEPTH"] = "3"
        from amltk.scheduling.executors import ProcessPool

        def dig(depth):
            assert depth < 9, "the brake"
            with ProcessPool(1) as pool:
                return pool.submit(dig, depth + 1).result()

        try:
            dig(0)
        except RuntimeError as error:
            print(type(error).__name__, "AMLTK_MAX_DEPTH" in str(error))
        """)
    assert (ended.code, ended.lines) == (0, [f"{NestingError.__name__} True"]), ended.errors


@pytest.mark.parametrize("method", METHODS)
def test_nobody_types_into_a_worker(method: str) -> None:
    """`input` and programs that read their standard input find its end, in calls: they do not wait forever."""
    ended = run_script(f"""
        import subprocess, sys
        from amltk.scheduling.executors import ProcessPool

        def ask():
            try:
                return input()
            except EOFError:
                return "nobody"

        with ProcessPool(1, {method!r}) as pool:
            print(pool.submit(ask).result())
            print(repr(pool.submit(subprocess.run, ["cat"], capture_output=True, text=True).result().stdout))
        """)
    assert (ended.code, ended.lines) == (0, ["nobody", "''"]), ended.errors


def read_through(program: list[str]) -> Any:
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout


def test_a_call_may_start_programs() -> None:
    """With the interpreter of the program."""
    with ProcessPool(1) as pool:
        program = [sys.executable, "-c", "print('hello')"]
        assert pool.submit(read_through, program).result(GUARD) == "hello\n"


@pytest.mark.parametrize("method", METHODS)
def test_variables_that_are_set_in_the_program(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have the environment that the program has when the first of them is started."""
    with ProcessPool(1, method) as pool:
        monkeypatch.setenv("SET_BEFORE_THE_FIRST_CALL", "seen")
        assert pool.submit(os.getenv, "SET_BEFORE_THE_FIRST_CALL").result(GUARD) == "seen"


def test_many_threads_share_a_pool() -> None:
    """Each thread gets its own results, however they mix."""
    results: dict[int, list[int]] = {}

    def use(thread: int) -> None:
        futures = [pool.submit(identity, (thread, n)) for n in range(50)]
        results[thread] = [n for future in futures for owner, n in [future.result(GUARD)] if owner == thread]

    with ProcessPool(2) as pool:
        threads = [threading.Thread(target=use, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {thread: list(range(50)) for thread in range(8)}


@pytest.mark.parametrize("method", METHODS)
def test_the_fault_handler_of_the_program(method: str) -> None:
    """A program that has enabled it learns where a worker has crashed."""
    ended = run_script(f"""
        import faulthandler, os, signal
        faulthandler.enable()
        from amltk.scheduling.executors import ProcessPool

        def crash_here():
            os.kill(os.getpid(), signal.SIGSEGV)

        with ProcessPool(1, {method!r}) as pool:
            print(type(pool.submit(crash_here).exception()).__name__)
        """)
    assert (ended.code, ended.lines) == (0, ["WorkerLostError"]), ended.errors
    assert "crash_here" in ended.errors
