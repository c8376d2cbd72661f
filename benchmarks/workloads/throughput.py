"""No-op tasks a second through two worker processes, each task submitted because another one has ended."""

from __future__ import annotations

import argparse
import queue
import time
from threading import Event
from typing import TYPE_CHECKING, Any

from _pools import POOLS, WORKERS, Submit, stdlib_pool
from _report import report

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler

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


def bare_in_callbacks(count: Count, submit: Submit) -> None:
    """The callback of a future submits the next one, on the thread that the executor calls it on."""
    over = Event()

    def on_end(_result: Any) -> None:
        send(count.ended())

    def send(number: int) -> None:
        for _ in range(number):
            submit(number, on_end)
        if count.seconds:
            over.set()

    send(count.begin())
    over.wait()


def bare_on_main_thread(count: Count, submit: Submit) -> None:
    """The callback of a future hands it to the main thread, which submits the next one, as a scheduler has to."""
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(number: int) -> None:
        for _ in range(number):
            submit(number, ended.put)

    send(count.begin())
    while not count.seconds:
        ended.get()
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
    parser.add_argument("--pool", choices=POOLS, default="stdlib", help="what is driven bare")
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    given = parser.parse_args()
    count = Count(given.tasks, given.in_flight)
    if given.how.startswith("bare"):
        drive = bare_in_callbacks if given.how == "bare-callbacks" else bare_on_main_thread
        with POOLS[given.pool](no_op) as submit:
            drive(count, submit)
    else:
        from amltk.scheduling import Scheduler

        scheduled(Scheduler(stdlib_pool()) if given.how == "scheduler" else Scheduler.with_processes(WORKERS), count)
    report(tasks_per_second=given.tasks / count.seconds)


if __name__ == "__main__":
    main()
