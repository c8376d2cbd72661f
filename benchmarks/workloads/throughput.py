"""No-op tasks a second through two worker processes, each task submitted because another one has ended."""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import time
from concurrent.futures import Future, ProcessPoolExecutor
from threading import Event
from typing import Any

from _report import report

from amltk.scheduling import Scheduler

WORKERS = 2
WARM_UP = 200


def no_op(number: int) -> int:
    return number


class Count:
    """Who submits what: a warm-up first, then so many tasks, so many in flight.

    `begin` gives how many to submit at first, `ended` how many because a task has ended.
    """

    def __init__(self, tasks: int, in_flight: int) -> None:
        self.tasks = tasks
        self.in_flight = min(in_flight, tasks)
        self.unsent = self.warming = WARM_UP
        self.pending = 0
        self.began = self.seconds = 0.0

    def begin(self) -> int:
        return self._send(min(self.in_flight, self.unsent))

    def ended(self) -> int:
        self.pending -= 1
        if self.unsent:
            return self._send(1)
        if self.pending:
            return 0
        if not self.warming:
            self.seconds = time.perf_counter() - self.began
            return 0
        self.warming, self.unsent = 0, self.tasks
        self.began = time.perf_counter()
        return self.begin()

    def _send(self, number: int) -> int:
        self.unsent -= number
        self.pending += number
        return number


def stdlib_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))


def bare_in_callbacks(count: Count) -> None:
    """The callback of a future submits the next one, on the thread that the executor calls it on."""
    over = Event()

    def on_end(future: Future[int]) -> None:
        future.result()
        send(count.ended())

    def send(number: int) -> None:
        for _ in range(number):
            executor.submit(no_op, number).add_done_callback(on_end)
        if count.seconds:
            over.set()

    with stdlib_pool() as executor:
        send(count.begin())
        over.wait()


def bare_on_main_thread(count: Count) -> None:
    """The callback of a future hands it to the main thread, which submits the next one, as a scheduler has to."""
    ended: queue.SimpleQueue[Future[int]] = queue.SimpleQueue()

    def send(number: int) -> None:
        for _ in range(number):
            executor.submit(no_op, number).add_done_callback(ended.put)

    with stdlib_pool() as executor:
        send(count.begin())
        while not count.seconds:
            ended.get().result()
            send(count.ended())


def scheduled(scheduler: Scheduler, count: Count) -> None:
    task = scheduler.task(no_op)

    def send(number: int) -> None:
        for _ in range(number):
            task.submit(number)

    @scheduler.on_start
    def launch() -> None:
        send(count.begin())

    @task.on_result
    def on_result(_future: Any, _result: int) -> None:
        send(count.ended())

    scheduler.run(display=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["bare-callbacks", "bare-main-thread", "scheduler", "processes"])
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    given = parser.parse_args()
    count = Count(given.tasks, given.in_flight)
    if given.how == "bare-callbacks":
        bare_in_callbacks(count)
    elif given.how == "bare-main-thread":
        bare_on_main_thread(count)
    elif given.how == "scheduler":
        scheduled(Scheduler(stdlib_pool()), count)
    else:
        scheduled(Scheduler.with_processes(WORKERS), count)
    report(tasks_per_second=given.tasks / count.seconds)


if __name__ == "__main__":
    main()
