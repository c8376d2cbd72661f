"""Calls per second through worker processes when each call requests half of a resource of two units."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from _batches import rate
from _clusters import dask_cluster, start_ray
from _pools import WORKERS, executorlib_pool
from _report import report

SHARE = 0.5


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


@contextmanager
def executorlib() -> Iterator[Callable[[int], int]]:
    with executorlib_pool(max_cores=WORKERS) as pool:  # which counts whole cores, so that each call has one of two
        request = {"cores": 1}

        def run(calls: int) -> int:
            futures = [pool.submit(no_op, n, resource_dict=request) for n in range(calls)]
            return len([future.result() for future in futures])

        yield run


@contextmanager
def hyperqueue() -> Iterator[Callable[[int], int]]:
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig
    from hyperqueue.ffi.protocol import ResourceRequest
    from hyperqueue.task.function import PythonEnv

    request = ResourceRequest(cpus=SHARE)
    with tempfile.TemporaryDirectory() as folder, LocalCluster(folder, WorkerConfig(cores=WORKERS)) as cluster:
        client = cluster.client(python_env=PythonEnv(sys.executable))

        def run(calls: int) -> int:
            job = Job(default_workdir=folder)
            for n in range(calls):
                job.function(no_op, args=(n,), stdout=None, stderr=None, resources=request)
            with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
                client.wait_for_jobs([client.submit(job)])  # which raises if a task has failed
            return calls

        yield run


TOOLS = {"scheduler": us, "executorlib": executorlib, "dask": dask, "ray": ray, "hyperqueue": hyperqueue}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--seconds", type=float, required=True, help="how long to measure, at least")
    parser.add_argument("--most", type=int, required=True, help="calls at most")
    given = parser.parse_args()
    with TOOLS[given.tool]() as run:
        report(rate=rate(run, given.seconds, given.most))


if __name__ == "__main__":
    main()
