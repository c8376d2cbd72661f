"""A rehearsal: tasks of given durations on thousands of virtual workers, through the real scheduler, in virtual time.

One thread does all the work, so CPU time is measured: other jobs on the machine do not count.
"""

from __future__ import annotations

import argparse
import random
import resource
import time

from _report import report

from amltk.scheduling import Scheduler
from amltk.testing import SimulatedExecutor, run_in_virtual_time

MEAN = 60.0
"""Mean seconds per task, drawn from an exponential distribution."""


def train(number: int) -> None:
    """A function that would take a minute."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    given = parser.parse_args()
    draw = random.Random(0).expovariate
    executor = SimulatedExecutor(given.workers, duration=lambda fn, number: draw(1 / MEAN))
    scheduler = Scheduler(executor)
    task = scheduler.task(train)
    results = 0

    @task.on_result
    def note(future: object, result: None) -> None:
        nonlocal results
        results += 1

    task.map(range(given.tasks), in_flight=2 * given.workers)
    began = time.process_time()
    run_in_virtual_time(scheduler.async_run(display=False))
    seconds = time.process_time() - began
    assert results == executor.n_ended == given.tasks, (results, executor.n_ended)
    report(
        tasks_per_second=given.tasks / seconds,
        seconds=seconds,
        makespan=executor.makespan,
        utilisation=executor.utilisation,
        megabytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # in KiB on Linux
    )


if __name__ == "__main__":
    main()
