"""Bytes of driver memory per pending task, as counted by the operating system and, with glibc, by the allocators.

The figure is the growth over a first batch, so that one-time costs (modules, the loop, the pool) are excluded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from functools import partial

from _executors import Conveyor, SlimFuture
from _leaving import leave
from _memory import Growth

FIRST_BATCH = 1_000


def measure(submit: Callable[[], object], tasks: int) -> None:
    for _ in range(FIRST_BATCH):
        submit()
    growth = Growth()
    for _ in range(tasks):
        submit()
    growth.report(tasks)


def sleep_long() -> None:
    time.sleep(600)


def ignore(_future: Future[None]) -> None:
    """An existing done-callback: it costs only its slot in the future's list."""


def scheduled(executor: Executor, tasks: int) -> None:
    from amltk.scheduling import Scheduler

    scheduler = Scheduler(executor)
    task = scheduler.task(sleep_long)
    task.on_result(lambda *_: None)

    @scheduler.on_start
    def launch() -> None:
        measure(task.submit, tasks)
        leave()

    scheduler.run(display=False)


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "futures": Conveyor,
    "slim-futures": partial(Conveyor, SlimFuture),
    "stdlib-pool": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("fork")),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["bare", "scheduler"])
    parser.add_argument("--executor", choices=EXECUTORS, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    given = parser.parse_args()
    executor = EXECUTORS[given.executor]()
    if given.how == "scheduler":
        scheduled(executor, given.tasks)
    measure(lambda: executor.submit(sleep_long), given.tasks)
    leave()


if __name__ == "__main__":
    main()
