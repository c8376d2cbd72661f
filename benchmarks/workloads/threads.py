"""Calls a second in two threads, or through two worker processes: some do nothing, some compute in pure Python."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import repeat

from _drivers import by_events
from _functions import count
from _report import report
from _scripts import WARM_UP, Script, flow

from amltk.scheduling import Scheduler

WORKERS = 2
IN_FLIGHT = 64
STEPS = 20_000
"""About a millisecond of Python."""

FACTORIES: dict[str, Callable[[int], Scheduler]] = {
    "threads": Scheduler.with_threads,
    "processes": Scheduler.with_processes,
}


def rate(workers: str, steps: int, calls: int) -> float:
    """Calls a second, each end submitting the next."""
    seconds = [0.0]

    def script() -> Script:
        yield from flow(repeat(steps, WARM_UP), IN_FLIGHT)
        began = time.perf_counter()
        yield from flow(repeat(steps, calls), IN_FLIGHT)
        seconds[0] = time.perf_counter() - began

    by_events(lambda: FACTORIES[workers](WORKERS), count)(script())
    return calls / seconds[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workers", choices=FACTORIES)
    parser.add_argument("--calls", type=int, required=True, help="that do nothing; a tenth of them for the others")
    given = parser.parse_args()
    report(
        nothing=rate(given.workers, 0, given.calls),
        millisecond=rate(given.workers, STEPS, given.calls // 10),
        has_gil=getattr(sys, "_is_gil_enabled", lambda: True)(),  # an extension may have enabled it again
    )


if __name__ == "__main__":
    main()
