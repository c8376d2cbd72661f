"""CPU microseconds per task, one in and one out, while many others are pending. The garbage collector is left on."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from _executors import Conveyor
from _report import GcClock, report

WARM_UP = 20_000


def no_op() -> None:
    """Never called: the executor computes nothing."""


class Window:
    """Measures the time from the end of the warm-up to the last task."""

    def __init__(self, tasks: int) -> None:
        self.left = WARM_UP + tasks
        self.tasks = tasks
        self.gc = GcClock()
        self.seconds = 0.0
        self._began = 0.0

    def step(self) -> bool:
        """Count a task; False after the last one."""
        if self.left == self.tasks:
            self.gc.reset()
            self._began = time.process_time()
        if self.left == 0:
            self.seconds = time.process_time() - self._began
            return False
        self.left -= 1
        return True

    def report(self, filling: float) -> None:
        report(
            microseconds=self.seconds / self.tasks * 1e6,
            gc_share=self.gc.seconds / self.seconds,
            gc_runs=self.gc.runs,
            microseconds_to_fill=filling * 1e6,
        )
        os._exit(0)  # pending tasks never end, and tearing them down is not measured


def bare(pending: int, window: Window) -> None:
    executor = Conveyor()

    def on_end(_future: Any) -> None:
        executor.submit(no_op).add_done_callback(on_end)

    began = time.process_time()
    for _ in range(pending):
        executor.submit(no_op).add_done_callback(on_end)
    filling = time.process_time() - began
    while window.step():
        executor.end_oldest()
    window.report(filling / pending)


def scheduled(pending: int, window: Window) -> None:
    from amltk.scheduling import Scheduler

    executor = Conveyor()
    scheduler = Scheduler(executor)
    task = scheduler.task(no_op)
    filling = 0.0

    @scheduler.on_start
    def launch() -> None:
        nonlocal filling
        began = time.process_time()
        for _ in range(pending):
            task.submit()
        filling = time.process_time() - began
        executor.end_oldest()

    @task.on_result
    def one_in_one_out(future: Any, result: None) -> None:
        if window.step():
            task.submit()
            executor.end_oldest()
        else:
            window.report(filling / pending)

    scheduler.run(display=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["bare", "scheduler"])
    parser.add_argument("--pending", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    given = parser.parse_args()
    window = Window(given.tasks)
    (bare if given.how == "bare" else scheduled)(given.pending, window)


if __name__ == "__main__":
    main()
