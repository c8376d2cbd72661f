"""A real terminal that remembers its scrollback: Debian's tmux, without a window."""

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
    """One pane of a separate tmux server.

    Skips the test with a visible reason if tmux is missing and cannot be installed.

    Args:
        folder: For its files.
        width: Columns.
        height: Lines.
        history: The maximum number of scrollback lines.
    """

    def __init__(self, folder: Path, *, width: int = 80, height: int = 24, history: int = 2000) -> None:
        why = debian.missing(["tmux"], ["tmux"])
        if why is not None:
            pytest.skip(f"!!! NOT TESTED IN TMUX: {why}")
        self._folder = folder
        self._sockets = tempfile.TemporaryDirectory(prefix="amltk-")  # a short path: a socket's is limited to 107 bytes
        self._size = ("-x", str(width), "-y", str(height))
        (folder / "tmux.conf").write_text(CONFIG.format(history=history))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell("kill-server", check=False)
        self._sockets.cleanup()

    def start(self, source: str) -> None:
        """Start a program; common indentation is removed."""
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
        """All lines it remembers and shows, up to the last one that is not empty."""
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
