"""Seconds to send an array to a worker process and back, one after the other."""

from __future__ import annotations

import argparse
import time
from itertools import repeat
from typing import Any

import numpy as np
from _functions import echo
from _report import report
from _scripts import WARM_UP, Script, flow
from _tools import TOOLS

ROUNDS = {"1 kB": 201, "1 MB": 51, "100 MB": 5}
BYTES = {"1 kB": 1_000, "1 MB": 1_000_000, "100 MB": 100_000_000}


class Clock:
    """Measures the time between results and checks that they equal what was sent."""

    def __init__(self, sent: Any) -> None:
        self.seconds: list[float] = []
        self._sent = sent
        self._before: float | None = None

    def note(self, boxed: list[Any]) -> None:
        now = time.perf_counter()
        if self._before is not None:  # the first interval includes one-time setup
            self.seconds.append(now - self._before)
        (back,) = boxed
        assert back.nbytes == self._sent.nbytes
        assert back[-1] == self._sent[-1]
        self._before = time.perf_counter()


def script(medians: dict[str, float]) -> Script:
    yield from flow(repeat(b"", WARM_UP), 8)
    for size, rounds in ROUNDS.items():
        array = np.arange(BYTES[size] // 8, dtype=np.float64)
        clock = Clock(array)
        boxed = [array]  # AMLTK 1.12.1 takes the truth value of arguments, which arrays do not have
        yield from flow(repeat(boxed, rounds + 1), 1, clock.note)
        medians[size] = sorted(clock.seconds)[rounds // 2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    given = parser.parse_args()
    medians: dict[str, float] = {}
    with TOOLS[given.tool].open(echo) as drives:
        drives[0](script(medians))
    report(**medians)


if __name__ == "__main__":
    main()
