"""Calls per second with futures as arguments: a chain, where each call needs the previous one, and a fan-in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _batches import rate
from _clusters import dask_cluster, start_ray, started_parsl
from _pools import WORKERS, executorlib_pool
from _report import report

Graph = Callable[[Callable[..., Any], int], Any]
"""Submits so many calls by a function that takes another one and its arguments; returns the last future."""


def inc(number: int) -> int:
    return number + 1


def total(*numbers: int) -> int:
    return sum(numbers)


def chain(submit: Callable[..., Any], calls: int) -> Any:
    last = 0
    for _ in range(calls):
        last = submit(inc, last)
    return last


def fan(submit: Callable[..., Any], calls: int) -> Any:
    return submit(total, *[submit(inc, 0) for _ in range(calls - 1)])


@contextmanager
def us() -> Iterator[Callable[[Graph, int], int]]:
    from amltk.scheduling import Scheduler

    with Scheduler.with_processes(WORKERS) as scheduler:

        def run(graph: Graph, calls: int) -> int:
            last: list[Any] = []
            launch = scheduler.emitter.register("start", lambda: last.append(graph(scheduler.submit, calls)))
            scheduler.run(display=False)
            launch.end()
            result: int = last[0].result()
            return result

        yield run


@contextmanager
def dask() -> Iterator[Callable[[Graph, int], int]]:
    from distributed import Client

    with dask_cluster() as cluster, Client(cluster) as client:

        def submit(fn: Callable[..., Any], *args: Any) -> Any:
            return client.submit(fn, *args, pure=False)

        yield lambda graph, calls: graph(submit, calls).result()


@contextmanager
def ray() -> Iterator[Callable[[Graph, int], int]]:
    import ray

    start_ray()
    try:
        remotes = {fn: ray.remote(fn) for fn in (inc, total)}
        yield lambda graph, calls: ray.get(graph(lambda fn, *args: remotes[fn].remote(*args), calls))
    finally:
        ray.shutdown()


@contextmanager
def parsl() -> Iterator[Callable[[Graph, int], int]]:
    import parsl

    with started_parsl():
        apps = {fn: parsl.python_app(fn) for fn in (inc, total)}
        yield lambda graph, calls: graph(lambda fn, *args: apps[fn](*args), calls).result()


@contextmanager
def executorlib() -> Iterator[Callable[[Graph, int], int]]:
    with executorlib_pool(max_workers=WORKERS, block_allocation=True) as pool:
        yield lambda graph, calls: graph(pool.submit, calls).result()


TOOLS = {"scheduler": us, "executorlib": executorlib, "parsl": parsl, "dask": dask, "ray": ray}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--seconds", type=float, required=True, help="how long to measure, at least")
    parser.add_argument("--most", type=int, required=True, help="calls at most")
    given = parser.parse_args()
    with TOOLS[given.tool]() as run:
        report(
            chain=rate(lambda calls: run(chain, calls), given.seconds, given.most),
            fan=rate(lambda calls: run(fan, calls) + 1, given.seconds, given.most),  # one call adds nothing
        )


if __name__ == "__main__":
    main()
