"""What pool tests share: work to submit, and waiting for another process."""

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
    """Wait until a condition holds that depends on another process, not on time."""
    give_up = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.002)
