"""What tests of pools have in common: work, and waiting for what another process does."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from tests.helpers.gate import GUARD

METHODS = ["forkserver", "spawn", "fork"]
"""All start methods of a pool."""


def identity(value: Any) -> Any:
    return value


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(condition: Any) -> None:
    """Wait until something is so, which is not a matter of time but of another process."""
    give_up = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.002)
