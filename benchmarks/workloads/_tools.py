"""The tools that can compute a function in two worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import _clusters
import _pools
from _drivers import Drive


@dataclass(frozen=True)
class Tool:
    """A tool as its users set it up.

    Attributes:
        open: Creates its workers for a function and returns the ways to drive scripts through them.
        statement: The import statement its users write.
        takes_lists: Whether it takes a whole list of calls, and nothing more until all of them have ended.
    """

    open: Callable[[_pools.Function], AbstractContextManager[Sequence[Drive]]]
    statement: str
    takes_lists: bool = False


SCHEDULER = "from amltk.scheduling import Scheduler"

TOOLS = {
    "scheduler": Tool(_pools.scheduler, SCHEDULER),
    "scheduler-over-stdlib": Tool(_pools.scheduler_over_stdlib, SCHEDULER),
    "stdlib": Tool(_pools.stdlib, "from concurrent.futures import ProcessPoolExecutor"),
    "asyncio-over-stdlib": Tool(_pools.asyncio_over_stdlib, "import asyncio"),
    "loky": Tool(_pools.loky, "from loky import ProcessPoolExecutor"),
    "joblib": Tool(_pools.joblib, "from joblib import Parallel, delayed", takes_lists=True),
    "pebble": Tool(_pools.pebble, "from pebble import ProcessPool"),
    "mpire": Tool(_pools.mpire, "from mpire import WorkerPool"),
    "executorlib": Tool(_pools.executorlib, "from executorlib import SingleNodeExecutor"),
    "parsl": Tool(_clusters.parsl, "import parsl"),
    "dask": Tool(_clusters.dask, "from distributed import Client, LocalCluster"),
    "ray": Tool(_clusters.ray, "import ray"),
}
"""In every environment, `scheduler` is that of the installed `amltk`."""
