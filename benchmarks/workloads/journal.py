"""What a journal adds to a call, and how fast recorded calls are replayed: no-op tasks through two worker processes."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import islice

from _pools import WORKERS
from _report import report

from amltk.scheduling import Scheduler


def no_op(number: int) -> int:
    return number


def run(calls: int, in_flight: int, journal: str | None) -> float:
    """Seconds from the first result to the end."""
    scheduler = Scheduler.with_processes(WORKERS)
    task = scheduler.task(no_op)
    numbers: Iterator[int] = iter(range(calls))
    began = [0.0]

    @scheduler.on_start
    def launch() -> None:
        for number in islice(numbers, in_flight):
            task.submit(number)

    @task.on_result
    def on_result(_future: object, _number: int) -> None:
        began[0] = began[0] or time.perf_counter()
        for number in islice(numbers, 1):
            task.submit(number)

    scheduler.run(display=False, journal=journal)
    return time.perf_counter() - began[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    given = parser.parse_args()
    run(min(given.calls, 1000), given.in_flight, None)  # to warm up
    with tempfile.TemporaryDirectory() as folder:
        without, recorded, told = (run(given.calls, given.in_flight, journal) for journal in (None, folder, folder))
    report(
        without=given.calls / without,
        recorded=given.calls / recorded,
        ratio=recorded / without,
        microseconds=1e6 * (recorded - without) / given.calls,
        replayed=given.calls / told,
    )


if __name__ == "__main__":
    main()
