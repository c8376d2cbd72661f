"""The modules that an import, what starts workers, and a worker load."""

from __future__ import annotations

import sys
from collections.abc import Callable

from amltk.scheduling.executors.process_pool._workers.server_process import SERVER
from tests.helpers.script import run_script


def loaded_by(statement: str, *, earlier: str = "") -> tuple[list[str], list[str]]:
    """The modules of this package, and the other ones, that a statement loads after an earlier one."""
    ended = run_script(f"""
        import sys
        {earlier}
        before = set(sys.modules)
        {statement}
        loaded = sorted(set(sys.modules) - before)
        print(*(name for name in loaded if name.partition(".")[0] == "amltk"))
        print(*(name for name in loaded if name.partition(".")[0] != "amltk"))
        """)
    own, others = (line.split() for line in ended.lines)
    return own, others


def test_modules_that_are_loaded(at_most: Callable[..., None]) -> None:
    """Before its first run a scheduler loads 44 modules of its own, and 4 of the standard library beyond asyncio's."""
    own, others = loaded_by(
        "from amltk.scheduling import Scheduler", earlier="import asyncio, concurrent.futures.thread"
    )
    at_most("modules of the package", len(own), 44, own)
    at_most("other modules", len(others), 8, others)


def test_modules_of_the_process_that_starts_workers(at_most: Callable[..., None]) -> None:
    """It loads what workers need, and nothing that only few of them do."""
    own, others = loaded_by(f"import {SERVER}")
    at_most("modules of the package", len(own), 53, own)
    at_most("other modules", len(others), 98 if sys.version_info < (3, 14) else 118, others)  # its own need more
    assert "asyncio" not in others


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
