"""A user's program, run by its own Python: what happens to a whole process can only be observed from outside."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

import amltk
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WHOLE_LINES = str(Path(__file__).with_name("whole_lines"))
PATHS = (str(Path(amltk.__file__).parents[1]), str(Path(__file__).parents[2]))


class Ended(NamedTuple):
    """How a script ended.

    Attributes:
        code: Its exit code; negative for the signal that killed it.
        lines: What it printed.
        errors: What it wrote to stderr.
    """

    code: int
    lines: list[str]
    errors: str


class Script:
    """A running script, in its own session, as if started in a terminal.

    Args:
        source: The program; common indentation is removed.
        *options: Interpreter options.
        env: Environment variables to add.
        path: Import paths in addition to the standard library and installed packages.
    """

    def __init__(
        self, source: str, *options: str, env: Mapping[str, str] | None = None, path: Iterable[str] = PATHS
    ) -> None:
        self.lines: list[str] = []
        self._incoming: queue.Queue[str | None] = queue.Queue()
        self._folder = tempfile.TemporaryDirectory(prefix="amltk-script-")
        file = Path(self._folder.name, "program.py")
        file.write_text(textwrap.dedent(source))
        self._errors = Path(self._folder.name, "stderr")
        environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONWARNINGS", "PYTHONPATH"}}
        environment |= {"PYTHONPATH": os.pathsep.join([WHOLE_LINES, *path]), "PYTHONUNBUFFERED": "1", **(env or {})}
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *options, str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=self._folder.name,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, name="script-output")
        self._reader.start()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.session():
            process.kill()
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._folder.cleanup()

    def wait_for(self, *starts: str) -> None:
        """Wait until it has printed, from now on, a line starting with each of these, in any order."""
        missing = list(starts)
        deadline = time.monotonic() + GUARD
        while missing:
            line = self._next(deadline)
            assert line is not None, f"it never printed {missing}\n{self.report()}"
            found = next((start for start in missing if line.startswith(start)), None)
            if found is not None:
                missing.remove(found)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal only to the script's own process."""
        self.process.send_signal(signum)

    def send_to_all(self, signum: signal.Signals) -> None:
        """Send a signal to it and to its children, as a terminal does."""
        os.killpg(self.pid, signum)

    def end(self) -> Ended:
        """Wait until it has exited; every process that it started must have exited as well."""
        deadline = time.monotonic() + GUARD
        try:
            self.process.wait(GUARD)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self.report()}") from None
        left = psutil.wait_procs(self.session(), timeout=GUARD / 4)[1]
        assert not left, f"it left processes behind: {left}\n{self.report()}"
        while self._next(deadline) is not None:
            pass
        return Ended(self.process.returncode, self.lines, self.errors())

    def session(self) -> list[psutil.Process]:
        """The live processes that it started, without itself."""
        found = []
        for pid in psutil.pids():
            try:
                if pid != self.pid and os.getsid(pid) == self.pid:
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE:  # it has exited but was not reaped
                        found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
        return found

    def errors(self) -> str:
        """Its stderr output."""
        return self._errors.read_text()

    def report(self) -> str:
        """Its output, for messages."""
        while not self._incoming.empty():
            line = self._incoming.get()
            if line is None:
                self._incoming.put(None)
                break
            self.lines.append(line)
        return "\n".join(["--- printed", *self.lines, "--- stderr", self.errors()])

    def _next(self, deadline: float) -> str | None:
        try:
            line = self._incoming.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"nothing more was printed\n{self.report()}") from None
        if line is not None:
            self.lines.append(line)
        return line

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._incoming.put(line.rstrip("\n"))
        self._incoming.put(None)


def run_script(source: str, *options: str, env: Mapping[str, str] | None = None, path: Iterable[str] = PATHS) -> Ended:
    """Run a script to its end."""
    with Script(source, *options, env=env, path=path) as script:
        return script.end()
