"""How soon a call starts in a program that has imported a heavy module: the first one, and the next one after a kill.

As in users' programs, the module is a global that the function uses. All times run from the submission of the call
(for the first one: from the request for workers) to its start in the worker.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from _report import report

HEAVY = """
import array, time
until = time.process_time() + 1.5
DATA = [array.array("d", bytes(8_000_000)) for _ in range(20)]
while time.process_time() < until:
    pass
"""
"""A module like PyTorch: it takes 1.5 s of CPU to import and 160 MB of memory."""

LIMIT_SECONDS = 0.2

module: Any = None


def use(name: str) -> float:
    """Start, and need the module, which is a global here, but not where this script is only imported."""
    began = time.time()
    assert (module or importlib.import_module(name)).__name__ == name
    return began


def hang() -> None:
    time.sleep(100)


class Subject(Protocol):
    """Two workers of a tool, one of which is permanently busy."""

    def first(self) -> float: ...
    def cancel(self) -> None: ...
    def limit(self) -> None: ...
    def close(self) -> None: ...


class Ours:
    def __init__(self, name: str) -> None:
        self.name = name
        from amltk.scheduling.executors import ProcessPool

        self.pool = ProcessPool(2)

    def first(self) -> float:
        return float(self.pool.submit(use, self.name).result())

    def cancel(self) -> None:
        calls = [self.pool.submit(hang) for _ in range(2)]
        _until(lambda: all(call.running() for call in calls))
        for call in calls:
            call.cancel()

    def limit(self) -> None:
        from amltk.scheduling.executors import CallLimits

        calls = [self.pool.submit_limited(CallLimits(wall_time=LIMIT_SECONDS), hang) for _ in range(2)]
        for call in calls:
            call.exception()

    def close(self) -> None:
        self.pool.shutdown()


class Stdlib:
    """The standard library's pool, which breaks when a worker is killed; another pool replaces it."""

    def __init__(self, method: str, name: str) -> None:
        self.name = name
        self.context = multiprocessing.get_context(method)
        if method == "forkserver":
            self.context.set_forkserver_preload([name])  # type: ignore[attr-defined]
        self.open()

    def open(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(2, mp_context=self.context)

    def first(self) -> float:
        return self.pool.submit(use, self.name).result()

    def cancel(self) -> None:
        calls = [self.pool.submit(hang) for _ in range(2)]
        _until(lambda: all(call.running() for call in calls))
        for process in list(self.pool._processes.values()):
            process.kill()
        for call in calls:
            with contextlib.suppress(Exception):
                call.result()
        self.pool.shutdown()
        self.open()

    limit = cancel

    def close(self) -> None:
        self.pool.shutdown()


class Loky:
    def __init__(self, name: str) -> None:
        self.name = name
        self.open()

    def open(self) -> None:
        from loky import get_reusable_executor

        self.pool = get_reusable_executor(2)

    def first(self) -> float:
        return float(self.pool.submit(use, self.name).result())

    def cancel(self) -> None:
        for _ in range(2):
            self.pool.submit(hang)
        self.pool.shutdown(kill_workers=True)
        self.open()

    limit = cancel

    def close(self) -> None:
        self.pool.shutdown(kill_workers=True)


class Pebble:
    def __init__(self, name: str) -> None:
        self.name = name
        from pebble import ProcessPool

        self.pool = ProcessPool(2)

    def first(self) -> float:
        return float(self.pool.schedule(use, args=[self.name]).result())

    def cancel(self) -> None:
        calls = [self.pool.schedule(hang) for _ in range(2)]
        _until(lambda: all(call.running() for call in calls))
        for call in calls:
            call.cancel()

    def limit(self) -> None:
        calls = [self.pool.schedule(hang, timeout=LIMIT_SECONDS) for _ in range(2)]
        for call in calls:
            call.exception()

    def close(self) -> None:
        self.pool.stop()
        self.pool.join()


SUBJECTS = {
    "scheduler": Ours,
    "fork": lambda name: Stdlib("fork", name),
    "forkserver": lambda name: Stdlib("forkserver", name),
    "loky": Loky,
    "pebble": Pebble,
}


LIBRARIES = {
    "scheduler": "amltk.scheduling.executors.process_pool.pool",
    "fork": "concurrent.futures.process",
    "forkserver": "concurrent.futures.process",
    "loky": "loky",
    "pebble": "pebble",
}
"""What each tool is imported as: programs do so long before their first call."""


def _until(condition: Any) -> None:
    while not condition():
        time.sleep(0.001)


@contextlib.contextmanager
def importable(name: str) -> Iterator[None]:
    """Create the module that is like PyTorch, if requested."""
    with tempfile.TemporaryDirectory() as folder:
        if name == "heavy_module":
            Path(folder, f"{name}.py").write_text(HEAVY)
            sys.path.insert(0, folder)
            os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
        yield


def seconds_to_import(name: str) -> float:
    program = f"import time; began = time.time(); import {name}; print(time.time() - began)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)


def main() -> None:
    global module
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=SUBJECTS)
    parser.add_argument("module")
    given = parser.parse_args()
    with importable(given.module):
        module = importlib.import_module(given.module)
        importlib.import_module(LIBRARIES[given.tool])
        one_import = min(seconds_to_import(given.module) for _ in range(2))
        began = time.time()
        subject: Subject = SUBJECTS[given.tool](given.module)
        first = subject.first() - began
        subject.cancel()
        began = time.time()
        after_cancel = subject.first() - began
        subject.limit()
        began = time.time()
        after_limit = subject.first() - began
        subject.close()
    report(
        one_import=one_import,
        first=first,
        first_ratio=first / one_import,
        after_cancel=after_cancel,
        after_limit=after_limit,
    )


if __name__ == "__main__":
    main()
