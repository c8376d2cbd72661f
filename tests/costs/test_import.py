"""The modules that an import and a first run load."""

from __future__ import annotations

from collections.abc import Callable

from amltk.scheduling.executors.process_pool._workers.server_process import SERVER
from tests.helpers.script import run_script


def test_modules_that_are_loaded(at_most: Callable[..., None]) -> None:
    """Before its first run a scheduler loads 44 modules of its own, and 4 of the standard library beyond asyncio's."""
    ended = run_script("""
        import sys
        import asyncio, concurrent.futures.thread
        before = set(sys.modules)
        from amltk.scheduling import Scheduler
        loaded = sorted(set(sys.modules) - before)
        print(*(name for name in loaded if name.partition(".")[0] == "amltk"))
        print(*(name for name in loaded if name.partition(".")[0] != "amltk"))
        """)
    own, others = (line.split() for line in ended.lines)
    at_most("modules of the package", len(own), 44, own)
    at_most("other modules", len(others), 8, others)


def test_modules_that_a_first_run_loads(at_most: Callable[..., None]) -> None:
    """A run of plain functions and data loads neither cloudpickle nor what few programs need."""
    ended = run_script("""
        import sys
        from amltk.scheduling import Scheduler

        before = set(sys.modules)
        scheduler = Scheduler.with_processes(1)
        task = scheduler.task(abs)
        scheduler.on_start(lambda: task.submit(-1))
        scheduler.run()
        print(*sorted(set(sys.modules) - before))
        """)
    (loaded,) = (line.split() for line in ended.lines)
    at_most("modules of a first run", len(loaded), 134, loaded)
    assert not {"cloudpickle", "ctypes", "dis", "inspect", "tempfile", "multiprocessing.util"}.intersection(loaded)


def test_modules_of_the_process_that_starts_workers(at_most: Callable[..., None]) -> None:
    """It loads what workers need, and nothing that only few of them do."""
    ended = run_script(f"""
        import sys
        before = set(sys.modules)
        import {SERVER}
        loaded = sorted(set(sys.modules) - before)
        print(*(name for name in loaded if name.partition(".")[0] == "amltk"))
        print(*(name for name in loaded if name.partition(".")[0] != "amltk"))
        """)
    own, others = (line.split() for line in ended.lines)
    at_most("modules of the package", len(own), 52, own)
    at_most("other modules", len(others), 75, others)
    assert not {"asyncio", "cloudpickle", "concurrent", "dataclasses", "dis", "inspect", "logging"}.intersection(others)


def test_modules_that_a_worker_loads_itself() -> None:
    """A worker has all that it needs from the process that it was forked from."""
    ended = run_script(f"""
        import subprocess, sys
        from amltk.scheduling.executors import ProcessPool

        def loaded():
            import sys
            return set(sys.modules)

        program = "import sys, ctypes, {SERVER}; print(*sys.modules)"
        first = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        with ProcessPool(1) as pool:
            print(*pool.submit(loaded).result() - set(first.split()))
        """)
    assert (ended.lines, ended.errors) == ([""], "")
