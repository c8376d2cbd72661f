"""Tasks per second over an executor that completes them at once: only the cost of the events remains.

One thread does all the work, so CPU time is measured: other jobs on the machine do not count.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from concurrent.futures import Future
from typing import Any

from _executors import AtOnce
from _report import report

IN_FLIGHT = 8


def no_op(number: int) -> int:
    return number


def bare(tasks: int) -> float:
    """The machine's own speed: the same executor and number of callbacks, without a scheduler."""
    executor = AtOnce()
    ended: deque[Future[Any]] = deque()
    left = tasks
    done = results = 0

    def on_done(future: Future[Any]) -> None:
        nonlocal done
        done += 1

    def on_result(future: Future[Any], result: int) -> None:
        nonlocal results
        results += 1
        submit()

    def submit() -> None:
        nonlocal left
        if left:
            left -= 1
            executor.submit(no_op, left).add_done_callback(ended.append)

    began = time.process_time()
    for _ in range(IN_FLIGHT):
        submit()
    while ended:
        future = ended.popleft()
        on_done(future)
        on_result(future, future.result())
    seconds = time.process_time() - began
    assert done == results == tasks
    return seconds


def scheduled(tasks: int, *, with_task: bool) -> float:
    from amltk.scheduling import Scheduler

    scheduler = Scheduler(AtOnce())
    task = scheduler.task(no_op)
    submit = task.submit if with_task else lambda number: scheduler.submit(no_op, number)
    left = tasks
    done = results = 0
    began = ended = 0.0

    @scheduler.on_start
    def launch() -> None:
        nonlocal began, left
        began = time.process_time()
        for _ in range(IN_FLIGHT):
            left -= 1
            submit(left)

    @scheduler.on_future_done
    def on_done(future: Any) -> None:
        nonlocal done
        done += 1

    def on_result(future: Any, result: int) -> None:
        nonlocal results, left, ended
        results += 1
        if left:
            left -= 1
            submit(left)
        elif results == tasks:
            ended = time.process_time()

    (task.on_result if with_task else scheduler.on_future_result)(on_result)
    scheduler.run(display=False)
    assert done == results == tasks, (done, results, tasks)
    return ended - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["bare", "scheduler", "task"])
    parser.add_argument("--tasks", type=int, required=True)
    given = parser.parse_args()
    seconds = bare(given.tasks) if given.how == "bare" else scheduled(given.tasks, with_task=given.how == "task")
    report(tasks_per_second=given.tasks / seconds)


if __name__ == "__main__":
    main()
