"""A real terminal that remembers what has scrolled away: Debian's tmux, without a window."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import textwrap
from typing import TYPE_CHECKING, Self

import pytest

from tests.helpers import debian
from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
set -g history-limit {history}
set -g remain-on-exit on
set -g default-shell /bin/sh
set -g status off
"""


class Tmux:
    """One pane of a tmux server of its own.

    Skips the test, with a reason that is seen, where there is no tmux and none can be installed.

    Args:
        folder: For its files.
        width: Columns.
        height: Lines.
        history: How many lines that have scrolled away it remembers, at most.
    """

    def __init__(self, folder: Path, *, width: int = 80, height: int = 24, history: int = 2000) -> None:
        why = debian.missing(["tmux"], ["tmux"])
        if why is not None:
            pytest.skip(f"!!! NOT TESTED IN TMUX: {why}")
        self._folder = folder
        self._sockets = tempfile.TemporaryDirectory(prefix="amltk-")  # a short path: that of a socket has 107 bytes
        self._size = ("-x", str(width), "-y", str(height))
        (folder / "tmux.conf").write_text(CONFIG.format(history=history))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell("kill-server", check=False)
        self._sockets.cleanup()

    def start(self, source: str) -> None:
        """Begin to run a program; indentation that all of its lines share is taken off."""
        program = self._folder / "program.py"
        program.write_text(textwrap.dedent(source))
        tell_end = shlex.join(["tmux", "wait-for", "-S", "ended"])
        command = f"{shlex.join([sys.executable, str(program)])}; {tell_end}"
        self._tell("-f", str(self._folder / "tmux.conf"), "new-session", "-d", *self._size, command)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the pane."""
        self._tell("resize-window", "-x", str(width), "-y", str(height))

    def wait_ended(self) -> None:
        """Wait until the program has ended."""
        self._tell("wait-for", "ended")

    def lines(self) -> list[str]:
        """All that it remembers and shows, from the first line to the last that is not empty."""
        return self._tell("capture-pane", "-p", "-S", "-").rstrip("\n").split("\n")

    def _tell(self, *command: str, check: bool = True) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TMUX")}
        environment |= {"PYTHONPATH": os.pathsep.join(PATHS), "TMUX_TMPDIR": self._sockets.name, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["tmux", *command],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=GUARD,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout
