"""What a worker prints on a terminal, which it shares with the program, its display and other workers."""

from __future__ import annotations

import io
import sys


def print_whole_lines() -> None:
    """Let text for a terminal be written line by line, even with `python -u` or `PYTHONUNBUFFERED`.

    There, `print("epoch", 3)` would be written in four pieces. Others write in between: a display that is redrawn at
    that moment would erase the first ones.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed and stream.write_through and stream.isatty():
            stream.reconfigure(line_buffering=True, write_through=False)
