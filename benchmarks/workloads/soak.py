"""Very many tasks through one scheduler: what the parent and its workers gain over time."""

from __future__ import annotations

import argparse
from typing import Any

import psutil
from _report import report

from amltk.scheduling import Scheduler

IN_FLIGHT = 64


def no_op(number: int) -> int:
    return number


def holdings(processes: list[psutil.Process]) -> dict[str, float]:
    return {
        "megabytes": sum(process.memory_info().rss for process in processes) / 1e6,
        "descriptors": sum(process.num_fds() for process in processes),
        "threads": sum(process.num_threads() for process in processes),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, required=True)
    given = parser.parse_args()
    scheduler = Scheduler.with_processes(2)
    task = scheduler.task(no_op)
    unsent, ended = given.tasks, 0
    before: dict[str, float] = {}
    after: dict[str, float] = {}

    def send() -> None:
        nonlocal unsent
        if unsent:
            unsent -= 1
            task.submit(unsent)

    def look() -> dict[str, float]:
        executor: Any = scheduler.executor
        return holdings([psutil.Process(), *map(psutil.Process, executor.worker_pids)])

    scheduler.on_start(repeat=IN_FLIGHT)(send)

    @task.on_result
    def on_result(_future: Any, _result: int) -> None:
        nonlocal ended
        ended += 1
        if ended == given.tasks // 10:  # all processes have warmed up
            before.update(look())
        elif ended == given.tasks - IN_FLIGHT:
            after.update(look())
        send()

    scheduler.run(display=False)
    report(**{name: after[name] - before[name] for name in before})


if __name__ == "__main__":
    main()
