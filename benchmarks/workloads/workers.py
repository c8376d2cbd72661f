"""What many workers cost the driver: CPU time for each call, for each worker's start and end, and at rest.

Calls sleep, one on each worker at a time, so long that as many end in a second whatever the number of workers. Only
this process is measured.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _memory import resident
from _report import report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.scheduling import Scheduler

REST_SECONDS = 1.0
LOOK_SECONDS = 0.2
"""How often it is looked whether all workers are up, in seconds."""


@contextmanager
def scheduler_over(kind: str, n_workers: int) -> Iterator[Scheduler]:
    from amltk.scheduling import Scheduler

    if kind == "processes":
        yield Scheduler.with_processes(n_workers)
        return
    script = Path(__file__).with_name("_light_cluster.py")
    words = [sys.executable, str(script), str(n_workers)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdout is not None
        yield Scheduler.with_dask(cluster.stdout.readline().strip())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["processes", "dask"])
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--calls", type=int, default=1000, help="how many are computed when all workers are up")
    parser.add_argument("--rate", type=float, default=300.0, help="how many calls are to end in a second")
    given = parser.parse_args()
    with scheduler_over(given.kind, given.workers) as scheduler:
        report(**measure(scheduler, given.workers, given.calls, given.rate))


def measure(scheduler: Scheduler, n_workers: int, calls: int, rate: float) -> dict[str, Any]:
    marks: dict[str, float] = {}
    task = scheduler.task(time.sleep)
    seconds = max(0.05, n_workers / rate)
    n_ended, n_up, memory = 0, math.inf, resident()

    def mark(name: str) -> None:
        marks[name] = time.process_time()

    def items() -> Iterator[float]:
        while n_ended < n_up + calls:
            yield seconds

    @scheduler.on_start
    def launch() -> None:
        mark("begin")
        task.map(items(), in_flight=n_workers)
        look()

    def look() -> None:
        nonlocal n_up, memory
        if len(scheduler.running_calls() or ()) < n_workers:
            scheduler.call_later(LOOK_SECONDS, look)
            return
        n_up = n_ended
        memory = resident() - memory
        marks["descriptors"] = len(os.listdir("/dev/fd"))
        mark("up")

    @task.on_done
    def count(_: object) -> None:
        nonlocal n_ended
        n_ended += 1

    @scheduler.on_empty
    def rest() -> None:
        mark("idle")
        scheduler.call_later(REST_SECONDS, end)

    def end() -> None:
        mark("end")
        scheduler.stop()

    scheduler.run(end_on_empty=False, display=False)
    mark("over")
    return {
        "start": (marks["up"] - marks["begin"]) / n_workers * 1e3,
        "call": (marks["idle"] - marks["up"]) / (n_ended - n_up) * 1e6,
        "rest": (marks["end"] - marks["idle"]) * 1e3,
        "end": (marks["over"] - marks["end"]) / n_workers * 1e3,
        "descriptors": marks["descriptors"] / n_workers,
        "kilobytes": memory / n_workers / 1e3,
    }


if __name__ == "__main__":
    main()
