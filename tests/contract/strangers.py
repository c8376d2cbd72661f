"""Executors of other libraries, as users give them to a scheduler that knows nothing about them.

What is expected of an entry is what was measured, in both directions; `lacks` names the tests of the contract that it
fails, and why. The table in the guide says the same in words. Those that the lock does not install run where they are
installed: `pip install executorlib ipyparallel parsl pebble`.
"""

from __future__ import annotations

import atexit
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.registry import OTHER
from tests.contract import engines
from tests.contract.backends import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = ("test_outcomes", "test_ending", "test_cancelling", "test_capabilities")
"""What matters to an executor that nothing is known about."""

_shared: dict[tuple[str, int], Any] = {}


# ---------------------------------------------------------------------------------------------------------------- dask


def dask_executor(workers: int) -> Executor:
    """Dask's own executor, over the shared cluster with so many workers."""
    from distributed import Client

    key = ("dask", max(workers, min(engines.WORKERS)))
    if key not in _shared:
        _shared[key] = Client(engines.dask_address(workers), set_as_default=False)
    executor: Executor = _shared[key].get_executor(pure=False)
    return executor


@contextmanager
def dask_clients() -> Iterator[None]:
    """The shared clusters, and a client of each: it has threads."""
    with engines.dask(), ExitStack() as stack:
        for workers in engines.WORKERS:
            dask_executor(workers).submit(abs, -1).result()
            stack.callback(_shared["dask", workers].close)
        yield
    _shared.clear()


# --------------------------------------------------------------------------------------------------------- ipyparallel


def ipyparallel_executor(workers: int) -> Executor:
    """That of ipyparallel, on so many engines of the shared cluster."""
    if ("ipyparallel", 0) not in _shared:
        import ipyparallel

        cluster = ipyparallel.Cluster(n=max(engines.WORKERS))
        _shared["ipyparallel", 0] = cluster.start_and_connect_sync()
        atexit.register(cluster.stop_cluster_sync)
    client = _shared["ipyparallel", 0]
    executor: Executor = client.load_balanced_view(targets=client.ids[:workers]).executor
    return executor


@contextmanager
def ipyparallel_cluster() -> Iterator[None]:
    """A cluster of engines."""
    ipyparallel_executor(2).submit(abs, -1).result()
    yield
    client = _shared.pop(("ipyparallel", 0))
    client.cluster.stop_cluster_sync()


# --------------------------------------------------------------------------------------------------------------- parsl


def parsl_executor(workers: int) -> Executor:
    """That of Parsl."""
    from parsl.concurrent import ParslPoolExecutor

    key = ("parsl", workers)
    if key not in _shared:
        import parsl
        from parsl.providers import LocalProvider

        _shared[key] = parsl.DataFlowKernel(
            parsl.Config(
                executors=[
                    parsl.HighThroughputExecutor(
                        max_workers_per_node=workers, address="127.0.0.1", provider=LocalProvider(max_blocks=1)
                    )
                ],
                run_dir="/tmp/parsl-runs",
                exit_mode="cleanup",
            )
        )
    executor: Executor = ParslPoolExecutor(dfk=_shared[key])
    return executor


@contextmanager
def parsl_kernel() -> Iterator[None]:
    """Its kernels, which have the workers."""
    for workers in (1, *engines.WORKERS):
        parsl_executor(workers).submit(abs, -1).result()
    yield
    while _shared:
        _shared.popitem()[1].cleanup()


# -------------------------------------------------------------------------------------------------------------- pebble


class PebbleExecutor(Executor):
    """Pebble's pool with the names that an executor has."""

    def __init__(self, workers: int) -> None:
        import pebble

        self.pool: Any = pebble.ProcessPool(max_workers=workers)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Its `schedule`, which takes keyword arguments such as `function` for its own."""
        return self.pool.schedule(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Its `stop` with `join`, which end what is running, or its `close`."""
        if cancel_futures:
            self.pool.stop()
        else:
            self.pool.close()
        if wait or cancel_futures:
            self.pool.join()


UNKNOWN = OTHER.capabilities

ENGINES = {"dask_clients": dask_clients, "ipyparallel": ipyparallel_cluster, "parsl": parsl_kernel}

HELPERS = "from tests.contract.strangers import *\nfrom amltk.scheduling import Scheduler"

STRANGERS = (
    Backend(
        "given-dask",
        OTHER.name,
        "Scheduler(dask_executor(workers))",
        HELPERS,
        given=True,
        engine="dask_clients",
        can=replace(UNKNOWN, isolates_crashes=True, remote=True, closures=True),
        modules=MODULES,
    ),
    Backend(
        "given-loky",
        OTHER.name,
        "Scheduler(get_reusable_executor(workers))",
        "from loky import get_reusable_executor\nfrom amltk.scheduling import Scheduler",
        given=True,
        can=replace(UNKNOWN, closures=True),
        modules=MODULES,
    ),
    Backend(
        "given-mpi",
        OTHER.name,
        "Scheduler(MPIPoolExecutor(workers))",
        "from mpi4py.futures import MPIPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
        engine="mpi",
        can=replace(UNKNOWN, remote=True, crash_ends_program=True),
        modules=MODULES,
    ),
    Backend(
        "given-interpreters",
        OTHER.name,
        "Scheduler(InterpreterPoolExecutor(workers))",
        "from concurrent.futures import InterpreterPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
        needs="concurrent.futures.interpreter",
        can=replace(UNKNOWN, crash_ends_program=True),
        modules=MODULES,
    ),
    Backend(
        "given-executorlib",
        OTHER.name,
        "Scheduler(SingleNodeExecutor(max_workers=workers))",
        "from executorlib import SingleNodeExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
        needs="executorlib",
        can=replace(UNKNOWN, isolates_crashes=True, closures=True),
        modules=MODULES,
    ),
    Backend(
        "given-ipyparallel",
        OTHER.name,
        "Scheduler(ipyparallel_executor(workers))",
        HELPERS,
        given=True,
        engine="ipyparallel",
        needs="ipyparallel",
        can=replace(UNKNOWN, isolates_crashes=True, remote=True, closures=True),
        modules=MODULES,
    ),
    Backend(
        "given-parsl",
        OTHER.name,
        "Scheduler(parsl_executor(workers))",
        HELPERS,
        given=True,
        engine="parsl",
        needs="parsl",
        can=replace(UNKNOWN, isolates_crashes=True, remote=True, closures=True),
        modules=MODULES,
    ),
    Backend(
        "given-pebble",
        OTHER.name,
        "Scheduler(PebbleExecutor(workers))",
        HELPERS,
        given=True,
        needs="pebble",
        can=replace(UNKNOWN, kills_running=True, isolates_crashes=True),
        modules=MODULES,
    ),
)
