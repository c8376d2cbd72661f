"""The end of processes, and of a program whose calls never end."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

import psutil


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more. It may still be in the table of processes, until init takes note of its end."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def leave() -> NoReturn:
    """End now, with all that this process has started. Trackers of resources stay, clean up, and end by themselves."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in process.cmdline()):
                process.kill()
    os._exit(0)
