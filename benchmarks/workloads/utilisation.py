"""The share of time that two workers are busy, with uneven calls and with callbacks that block."""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat

from _functions import sleep
from _pools import WORKERS
from _report import report
from _scripts import WARM_UP, Script, flow
from _tools import TOOLS

MEAN = 0.01
SPREAD = 1.2
"""Of the logarithms: one call in a hundred takes eight times the mean or more."""

BLOCKED = 0.004
"""Seconds a callback blocks: four fifths of the mean time between the results of two workers."""


def uneven(calls: int) -> list[float]:
    """Log-normal durations, the same ones for every tool."""
    draw = random.Random(7).lognormvariate
    return [draw(math.log(MEAN) - SPREAD**2 / 2, SPREAD) for _ in range(calls)]


@dataclass(frozen=True)
class Load:
    durations: Callable[[int], Sequence[float]]
    in_flight: int
    react: Callable[[float], object]


LOADS = {
    "uneven": Load(uneven, 4, lambda _result: None),
    "blocking": Load(lambda calls: [MEAN] * calls, 8, lambda _result: time.sleep(BLOCKED)),
}


def script(load: Load, calls: int, shares: list[float]) -> Script:
    yield from flow(repeat(0.0, WARM_UP), 8)
    durations = load.durations(calls)
    began = time.perf_counter()
    yield from flow(durations, load.in_flight, load.react)
    shares.append(sum(durations) / (WORKERS * (time.perf_counter() - began)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    shares: list[float] = []
    with TOOLS[given.tool].open(sleep) as drives:
        for drive in drives:
            drive(script(LOADS[given.load], given.calls, shares))
    report(share=max(shares))


if __name__ == "__main__":
    main()
