"""The end of a program whose calls never end."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

import psutil


def leave() -> NoReturn:
    """End now, with all that this process has started. Trackers of resources stay, clean up, and end by themselves."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in process.cmdline()):
                process.kill()
    os._exit(0)
