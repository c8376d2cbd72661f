"""A terminal in a separate process that consumes what is written to it, as real ones do."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

LINES, COLUMNS = 50, 120


@contextmanager
def standard_output_in_a_terminal() -> Iterator[None]:
    """Connect this process's standard output to a terminal inside the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    os.environ["TERM"] = "xterm-256color"
    before = sys.stdout
    with subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        os.close(ours)
        with open(theirs, "w", encoding="utf-8") as sys.stdout:
            try:
                yield
            finally:
                sys.stdout.flush()
        sys.stdout = before
        reader.wait()  # no writer is left
