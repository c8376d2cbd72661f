"""Calls per second through worker processes when each call requests half of a resource of two units."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _clusters import dask_cluster, start_ray
from _pools import WORKERS
from _report import report

SHARE = 0.5
WARM_UP = 20


def no_op(number: int) -> int:
    return number


@contextmanager
def us() -> Iterator[Callable[[int], int]]:
    from amltk.scheduling import Resources, Scheduler

    with Scheduler.with_processes(WORKERS, resources={"unit": WORKERS}) as scheduler:
        task = scheduler.task(no_op, plugins=Resources(unit=SHARE))

        def run(calls: int) -> int:
            launch = scheduler.emitter.register("start", lambda: [task.submit(n) for n in range(calls)] and None)
            before = task.event_counts[task.RESULT]
            scheduler.run(display=False)
            launch.end()
            return task.event_counts[task.RESULT] - before

        yield run


@contextmanager
def dask() -> Iterator[Callable[[int], int]]:
    from distributed import Client

    with dask_cluster(resources={"unit": 1}) as cluster, Client(cluster) as client:

        def run(calls: int) -> int:
            futures = [client.submit(no_op, n, pure=False, resources={"unit": SHARE}) for n in range(calls)]
            return len(client.gather(futures))

        yield run


@contextmanager
def ray() -> Iterator[Callable[[int], int]]:
    import ray

    start_ray()
    try:
        remote = ray.remote(num_cpus=SHARE)(no_op)
        yield lambda calls: len(ray.get([remote.remote(n) for n in range(calls)]))
    finally:
        ray.shutdown()


TOOLS = {"scheduler": us, "dask": dask, "ray": ray}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    with TOOLS[given.tool]() as run:
        run(WARM_UP)
        began = time.perf_counter()
        done = run(given.calls)
        seconds = time.perf_counter() - began
        assert done == given.calls
    report(rate=given.calls / seconds)


if __name__ == "__main__":
    main()
