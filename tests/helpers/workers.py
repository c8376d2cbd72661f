"""What pool tests share: work to submit, and waiting for another process."""

from __future__ import annotations

import os
import signal
import sysconfig
import time
from typing import Any

from tests.helpers.gate import GUARD

METHODS = ["forkserver", "spawn", "fork"]
"""All start methods of a pool."""

IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this CPython has no interpreter lock."""


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
