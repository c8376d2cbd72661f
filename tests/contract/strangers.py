"""Executors of other libraries, given to a scheduler that knows nothing about them.

Expectations are what was measured, in both directions; `lacks` names the contract tests that an entry fails, and why.
The guide's table says the same in words. Libraries that are not in the lock file run where they are installed:
`pip install executorlib ipyparallel parsl pebble`.
"""

from __future__ import annotations

import atexit
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.registry import OTHER
from tests import leaks
from tests.contract import engines
from tests.contract.backends import ExecutorAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

MODULES = ("test_outcomes", "test_ending", "test_cancelling", "test_capabilities")
"""The capabilities relevant for an executor that is not in the registry."""

_shared: dict[tuple[str, int], Any] = {}


# ---------------------------------------------------------------------------------------------------------------- dask


def dask_executor(workers: int) -> Executor:
    """Dask's own executor, over the shared cluster with this many workers."""
    from distributed import Client

    key = ("dask", max(workers, min(engines.WORKERS)))
    if key not in _shared:
        _shared[key] = Client(engines.dask_address(workers), set_as_default=False)
    executor: Executor = _shared[key].get_executor(pure=False)
    return executor


@contextmanager
def dask_clients() -> Iterator[None]:
    """The shared clusters and a client of each, which has threads."""
    with engines.dask(), ExitStack() as stack:
        for workers in engines.WORKERS:
            dask_executor(workers).submit(abs, -1).result()
            stack.callback(_shared["dask", workers].close)
        leaks.LIBRARIES.append("socket:")  # the clients connect to workers as they join
        yield
        leaks.LIBRARIES.remove("socket:")
    _shared.clear()


# --------------------------------------------------------------------------------------------------------- ipyparallel


def ipyparallel_executor(workers: int) -> Executor:
    """ipyparallel's executor, on this many engines of the shared cluster."""
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
    """Parsl's executor."""
    from parsl.concurrent import ParslPoolExecutor

    key = ("parsl", workers)
    if key not in _shared:
        import parsl
        from parsl.providers import LocalProvider

        provider = LocalProvider(max_blocks=1, worker_init=f"export PYTHONPATH={ROOT}:$PYTHONPATH")
        _shared[key] = parsl.DataFlowKernel(
            parsl.Config(
                executors=[
                    parsl.HighThroughputExecutor(
                        cores_per_worker=0.1, max_workers_per_node=workers, address="127.0.0.1", provider=provider
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
    """Parsl's kernels, which own the workers."""
    for workers in (1, *engines.WORKERS):
        calls = [parsl_executor(workers).submit(abs, -1) for _ in range(30)]  # its number of threads keeps growing
        for call in calls:
            call.result()
    kept = ("socket:", "anon_inode:")  # it opens more over time
    leaks.LIBRARIES.extend(kept)
    yield
    for target in kept:
        leaks.LIBRARIES.remove(target)
    while _shared:
        _shared.popitem()[1].cleanup()


# -------------------------------------------------------------------------------------------------------------- pebble


class PebbleExecutor(Executor):
    """Pebble's pool with the method names of an executor."""

    def __init__(self, workers: int) -> None:
        import pebble

        self.pool: Any = pebble.ProcessPool(max_workers=workers)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Its `schedule`, which would take keyword arguments such as `function` as its own."""
        return self.pool.schedule(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Its `stop` with `join`, which kills running calls, or its `close`."""
        if cancel_futures:
            self.pool.stop()
        else:
            self.pool.close()
        if wait or cancel_futures:
            self.pool.join()


# ---------------------------------------------------------------------------------------------------------------- loky


@contextmanager
def loky() -> Iterator[None]:
    """Only accounts for a leak: loky keeps a pipe open after a crash."""
    leaks.LIBRARIES.append("pipe:")
    yield
    leaks.LIBRARIES.remove("pipe:")


ENGINES = {
    "dask_clients": dask_clients,
    "ipyparallel": ipyparallel_cluster,
    "loky": loky,
    "mpi": engines.mpi,
    "parsl": parsl_kernel,
}

# ---------------------------------------------------------------------------------------------------------- the entries

UNKNOWN = OTHER.capabilities

HELPERS = "from tests.contract.strangers import *\nfrom amltk.scheduling import Scheduler"

UNSEEN = "its futures do not tell that they run"

BARE_NAMES = ("SystemExit", "GeneratorExit", "CancelledError", "StubbornError", "KeyboardInterrupt")
"""Exceptions outside `Exception`, in the names of tests."""


def _of(test: str, why: str, *parameters: str) -> dict[str, str]:
    return {f"{test}[{parameter}]": why for parameter in parameters}


STRANGERS = (
    ExecutorAdapter(
        "given-interpreters",
        "interpreter-pool-executor",
        "Scheduler(InterpreterPoolExecutor(workers))",
        "from concurrent.futures import InterpreterPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
        needs="concurrent.futures.interpreter",
        modules=MODULES,
        lacks={
            "test_what_cannot_be_pickled_travels_or_fails_alone": "the error says that it cannot be shared",
            "test_a_result_that_cannot_be_pickled_is_an_exception": "the error says that it cannot be shared",
            "test_functions_of_the_main_program_are_computed": "it prints that their exceptions cannot be shared",
            "test_an_exception_that_cannot_be_unpickled_costs_what_a_crash_costs": "it costs its call only",
        },
    ),
    ExecutorAdapter(
        "given-loky",
        OTHER.name,
        "Scheduler(get_reusable_executor(workers))",
        "from loky import get_reusable_executor\nfrom amltk.scheduling import Scheduler",
        given=True,
        engine="loky",
        can=replace(UNKNOWN, closures=True),
        modules=MODULES,
        lacks={
            "test_an_exception_that_cannot_be_pickled_is_an_event": "it breaks the executor",
            "test_an_exception_that_cannot_be_unpickled_costs_what_a_crash_costs": "it breaks the executor",
        },
    ),
    ExecutorAdapter(
        "given-dask",
        OTHER.name,
        "Scheduler(dask_executor(workers))",
        HELPERS,
        given=True,
        engine="dask_clients",
        can=replace(UNKNOWN, isolates_crashes=True, remote=True, closures=True),
        modules=MODULES,
        lacks={
            "test_what_runs_is_counted_as_claimed": f"hangs: {UNSEEN}",
            "test_what_cannot_be_pickled_travels_or_fails_alone": "`submit` itself raises",
            "test_a_result_that_cannot_be_pickled_is_an_exception": "hangs: it has no outcome",
            "test_a_crash_costs_as_much_as_claimed": "hangs for long: three more workers are lost before",
            "test_functions_of_the_main_program_are_computed": "hangs: the program has no cluster",
            "test_pending_work_never_starts": "sometimes: a cancellation may reach the worker too late",
            **_of("test_what_is_no_exception_is_an_ordinary_event", "hangs, or loses its worker", *BARE_NAMES),
        },
    ),
    ExecutorAdapter(
        "given-mpi",
        OTHER.name,
        "Scheduler(MPIPoolExecutor(workers))",
        "from mpi4py.futures import MPIPoolExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
        engine="mpi",
        can=replace(UNKNOWN, remote=True, crash_ends_program=True),
        modules=("test_cancelling", "test_capabilities"),  # its workers start slowly
    ),
    ExecutorAdapter(
        "given-pebble",
        OTHER.name,
        "Scheduler(PebbleExecutor(workers))",
        HELPERS,
        given=True,
        needs="pebble",
        can=replace(UNKNOWN, kills_running=True, isolates_crashes=True),
        modules=MODULES,
        lacks={
            "test_an_exception_that_cannot_be_pickled_is_an_event": "the error does not name it",
        },
    ),
    ExecutorAdapter(
        "given-executorlib",
        OTHER.name,
        "Scheduler(SingleNodeExecutor(max_workers=workers))",
        "from executorlib import SingleNodeExecutor\nfrom amltk.scheduling import Scheduler",
        given=True,
        needs="executorlib",
        can=replace(UNKNOWN, isolates_crashes=True, closures=True),
        modules=("test_outcomes", "test_capabilities"),  # cancelled calls that are waiting make it hang
        lacks={
            "test_where_and_when_work_is_done_is_told": "hangs for long: each call has a process of its own",
            "test_everything_callable_is_computed[class]": "`submit` itself raises, since `int` has no signature",
            "test_what_cannot_be_pickled_travels_or_fails_alone": "hangs: the call has no outcome",
            "test_a_result_that_cannot_be_pickled_is_an_exception": "costs the worker",
            "test_an_exception_says_where_it_was_raised": "there is no traceback",
            "test_an_exception_that_cannot_be_pickled_is_an_event": "costs the worker",
            "test_an_exception_that_cannot_be_unpickled_costs_what_a_crash_costs": "hangs: its own thread ends",
            "test_stop_iteration_can_be_raised_by_the_run": "hangs",
            **_of("test_what_is_no_exception_is_an_ordinary_event", "costs the worker", *BARE_NAMES),
        },
    ),
    ExecutorAdapter(
        "given-ipyparallel",
        OTHER.name,
        "Scheduler(ipyparallel_executor(workers))",
        HELPERS,
        given=True,
        engine="ipyparallel",
        needs="ipyparallel",
        can=replace(UNKNOWN, isolates_crashes=True, remote=True, closures=True),
        modules=("test_cancelling", "test_capabilities", "test_ending"),  # every error is a RemoteError
        lacks={
            "test_what_runs_is_counted_as_claimed": f"hangs: {UNSEEN}",
            "test_a_crash_costs_as_much_as_claimed": "its engine is not replaced",
            "test_pending_work_never_starts": "what waits is begun although it was cancelled",
            "test_failed": "every error is a RemoteError",
            "test_no_policy_applies_to_what_the_end_itself_cancels": "hangs",
            "test_the_executor_is_shut_down": "its shutdown leaves it open",
        },
    ),
    ExecutorAdapter(
        "given-parsl",
        OTHER.name,
        "Scheduler(parsl_executor(workers))",
        HELPERS,
        given=True,
        engine="parsl",
        warns="Canceling on-going tasks is not supported in Parsl",
        needs="parsl",
        can=replace(UNKNOWN, isolates_crashes=True, remote=True, closures=True),
        modules=MODULES,
        lacks={
            "test_pending_work_never_starts": "it has no way to cancel",
            "test_what_runs_is_counted_as_claimed": f"hangs: {UNSEEN}",
            "test_a_crash_costs_as_much_as_claimed": "hangs for long: a lost worker is missed after some time only",
            "test_what_cannot_be_pickled_travels_or_fails_alone": "the error does not say pickle",
            "test_a_result_that_cannot_be_pickled_is_an_exception": "the error does not say pickle",
            "test_everything_callable_is_computed[class]": "`submit` itself raises, since `int` has no signature",
            "test_functions_of_the_main_program_are_computed": "hangs: the program has no workers",
            "test_an_exception_that_cannot_be_pickled_is_an_event": "the error does not name it",
            "test_an_exception_that_cannot_be_unpickled_costs_what_a_crash_costs": "hangs",
            "test_a_future_of_stop_iteration_can_be_awaited": "hangs",
            "test_stop_iteration_can_be_raised_by_the_run": "hangs",
            **_of("test_what_is_no_exception_is_an_ordinary_event", "hangs, or costs the worker", *BARE_NAMES),
        },
    ),
)
