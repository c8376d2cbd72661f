"""What it costs not to compute: calls per second stored and found by `Memo` and by `joblib.Memory`.

Nothing runs in processes: the key, the file and the way to the callback are measured. For an array of many
megabytes, the figure is the speed of hashing its content.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from _report import report

Compute = Callable[[Iterable[Any]], None]


def no_op(number: int, values: Any = None) -> int:
    return number


def by_memo(folder: str) -> Compute:
    from amltk.scheduling import Memo, Scheduler

    def compute(arguments: Iterable[Any]) -> None:
        scheduler = Scheduler.with_sequential()
        task = scheduler.task(no_op, plugins=Memo(folder))
        task.map(arguments, unpack="args")
        scheduler.run(display=False)

    return compute


def by_joblib(folder: str) -> Compute:
    from joblib import Memory

    kept = Memory(folder, verbose=0).cache(no_op)

    def compute(arguments: Iterable[Any]) -> None:
        for given in arguments:
            kept(*given)

    return compute


TOOLS = {"memo": by_memo, "joblib": by_joblib}


def seconds(compute: Compute, arguments: Iterable[Any]) -> float:
    began = time.perf_counter()
    compute(arguments)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--megabytes", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compute = TOOLS[given.tool](folder)
        compute([(-1, None)])  # what the first call loads
        calls = [(number, None) for number in range(given.calls)]
        kept, found = seconds(compute, calls), seconds(compute, calls)
        large = [(0, np.random.default_rng(0).random(given.megabytes * 125_000))]
        compute(large)
        rate = given.megabytes / 1e3 / seconds(compute, large)
    report(kept=given.calls / kept, found=given.calls / found, gigabytes=rate)


if __name__ == "__main__":
    main()
