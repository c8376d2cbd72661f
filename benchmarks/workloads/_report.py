"""What all workloads share. A workload is a script that runs in any environment that has an `amltk`."""

from __future__ import annotations

import gc
import json
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def report(**figures: Any) -> None:
    """Print the measurements and the version measured as the last line of output, which the runner reads."""
    try:
        installed = version("amltk")
    except PackageNotFoundError:  # on the path, but not installed
        installed = None
    print(json.dumps({"version": installed, **figures}), flush=True)


class GcClock:
    """Counts the garbage collector's runs and the seconds it takes, without changing what it does."""

    def __init__(self) -> None:
        self.runs = 0
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.process_time()
        else:
            self.seconds += time.process_time() - self._began
            self.runs += 1

    def reset(self) -> None:
        self.runs, self.seconds = 0, 0.0
