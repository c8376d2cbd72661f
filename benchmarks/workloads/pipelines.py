"""Calls per second with futures as arguments: a chain, where each call needs the previous one, and a fan-in."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _clusters import dask_cluster, start_ray
from _pools import WORKERS
from _report import report

Graph = Callable[[Callable[..., Any], int], Any]
"""Submits so many calls by a function that takes another one and its arguments; returns the last future."""

WARM_UP = 20


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


TOOLS = {"scheduler": us, "dask": dask, "ray": ray}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    rates: dict[str, float] = {}
    with TOOLS[given.tool]() as run:
        for name, graph in (("chain", chain), ("fan", fan)):
            run(graph, WARM_UP)
            began = time.perf_counter()
            result = run(graph, given.calls)
            rates[name] = given.calls / (time.perf_counter() - began)
            assert result == given.calls - (name == "fan")
    report(**rates)


if __name__ == "__main__":
    main()
