"""Calls per second of a scheduler on a Dask or Ray cluster, and of the cluster's own interface, in turns."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import repeat
from typing import TYPE_CHECKING, Any

import _clusters
from _drivers import Drive, by_events
from _functions import sleep
from _report import report
from _scripts import WARM_UP, flow

if TYPE_CHECKING:
    from amltk.scheduling import Scheduler

IN_FLIGHT = (8, 64)
ROUNDS = 5


def on_dask() -> Scheduler:
    from distributed import default_client

    from amltk.scheduling import Scheduler

    return Scheduler.with_dask(default_client())


def on_ray() -> Scheduler:
    from amltk.scheduling import Scheduler

    return Scheduler.with_ray()


CLUSTERS: dict[str, tuple[Any, Callable[[], Scheduler]]] = {
    "dask": (_clusters.dask, on_dask),
    "ray": (_clusters.ray, on_ray),
}


def rate(drives: list[Drive], calls: int, in_flight: int) -> float:
    """The rate of the fastest way."""
    best = 0.0
    for drive in drives:
        began = time.perf_counter()
        drive(flow(repeat(0.0, calls), in_flight))
        best = max(best, calls / (time.perf_counter() - began))
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cluster", choices=CLUSTERS)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    start, make = CLUSTERS[given.cluster]
    figures: dict[str, float] = {}
    with start(sleep) as bare:
        ours = [by_events(make, sleep)]
        for drives in (list(bare), ours):
            rate(drives, WARM_UP, 8)
        for in_flight in IN_FLIGHT:
            pairs = [[rate(drives, given.calls, in_flight) for drives in (ours, list(bare))] for _ in range(ROUNDS)]
            mine, theirs = sorted(pairs, key=lambda pair: pair[0] / pair[1])[ROUNDS // 2]
            figures |= {f"{in_flight} ours": mine, f"{in_flight} bare": theirs}
    report(**figures)


if __name__ == "__main__":
    main()
