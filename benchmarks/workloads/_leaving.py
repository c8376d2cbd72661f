"""Ending processes, and a program whose calls never end."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

import psutil


def has_ended(process: psutil.Process) -> bool:
    """Whether it has exited. It may still be in the process table until init reaps it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def leave() -> NoReturn:
    """Exit now, with everything this process started. Resource trackers stay, clean up, and exit on their own."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in process.cmdline()):
                process.kill()
    os._exit(0)
