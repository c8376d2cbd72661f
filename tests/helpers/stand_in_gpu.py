"""A stand-in for a library that uses GPUs: a process learns its devices on first use and keeps them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_held: dict[str, int] | None = None


def devices(folder: str, *, shared: bool = False) -> tuple[str, ...]:
    """The devices that this process uses for the rest of its life.

    Args:
        folder: Contains a file for each device.
        shared: Whether other processes may use them at the same time.

    Raises:
        BlockingIOError: Another process uses one of them.
    """
    global _held
    if _held is None:
        held: dict[str, int] = {}
        for device in os.environ.get("CUDA_VISIBLE_DEVICES", "all").split(","):
            if device:
                held[device] = os.open(Path(folder) / device, os.O_RDWR | os.O_CREAT)
                fcntl.flock(held[device], (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        _held = held
    return tuple(_held)
