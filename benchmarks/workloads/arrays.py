"""An array of 100 MB to a worker process and back, one after the other."""

from __future__ import annotations

import argparse
import queue
import time
from typing import Any

import numpy as np
from _pools import POOLS, outcome
from _report import report

ROUNDS = 5


def echo(array: Any) -> Any:
    return array


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pool", choices=POOLS)
    parser.add_argument("--megabytes", type=int, required=True)
    given = parser.parse_args()
    array = np.arange(given.megabytes * 125_000, dtype=np.float64)
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    seconds: list[float] = []
    with POOLS[given.pool](echo) as submit:
        for number in range(ROUNDS + 1):  # the first one starts the worker
            began = time.perf_counter()
            submit(array, ended.put)
            back = outcome(ended.get())
            if number:
                seconds.append(time.perf_counter() - began)
            assert back.nbytes == array.nbytes
            assert back[-1] == array[-1]
            del back
    report(seconds=sorted(seconds)[ROUNDS // 2])


if __name__ == "__main__":
    main()
