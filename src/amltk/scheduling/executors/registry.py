"""The table of back ends: what each executor can do, and how it is ended.

A new back end is one file with a factory and one row here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from amltk import _compat, _extras
from amltk._checks import as_whole
from amltk.scheduling.executors import termination
from amltk.scheduling.executors.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from amltk.scheduling.executors.capabilities import Terminator


@dataclass(frozen=True)
class ExecutorSpec:
    """One row of the table.

    Attributes:
        name: As in `Scheduler.with_<name>`, if there is a factory.
        factory: Creates a new executor; takes the arguments of `Scheduler.with_<name>`. None if users bring their own
            executor.
        type_name: The executor's class as `module.qualname`, so that nothing needs to be imported to recognise it.
        capabilities: What it can do.
        terminate: Ends it without waiting for its calls, as far as possible.
        extra: The extra that installs it, or None if none is needed.
    """

    name: str
    factory: Callable[..., Executor] | None
    type_name: str
    capabilities: Capabilities
    terminate: Terminator
    extra: str | None = None


def _plain(module: str, make: str = "make") -> Callable[..., Executor]:
    """The factory of a back end that needs no optional library, which is imported on the first call."""

    def make_executor(*args: Any, **options: Any) -> Executor:
        loaded = import_module(f"amltk.scheduling.executors.{module}")
        executor: Executor = getattr(loaded, make)(*args, **options)
        return executor

    return make_executor


def _optional(module: str, *needs: str, extra: str) -> Callable[..., Executor]:
    """The factory of a back end over an optional library, which is imported on the first call."""

    def make(*args: Any, **options: Any) -> Executor:
        loaded = _extras.load(f"amltk.scheduling.executors.{module}", needs=needs, extra=extra)
        executor: Executor = loaded.make(*args, **options)
        return executor

    return make


_THREADS = Capabilities(
    kills_running=False,
    isolates_crashes=False,
    remote=False,
    in_process=True,
    shares_objects=True,
    crash_ends_program=True,
    closures=True,
    in_order=True,
)

KINDS: tuple[ExecutorSpec, ...] = (
    ExecutorSpec(
        name="processes",
        factory=_plain("local.processes"),
        type_name="amltk.scheduling.executors.process_pool.pool.ProcessPool",
        capabilities=Capabilities(
            kills_running=True,
            isolates_crashes=True,
            remote=False,
            closures=True,
            cancels_running=True,
            limits_calls=True,
            driven_by_loop=True,
            lists_running=True,
            binds_workers=True,
        ),
        terminate=termination.kill_workers,
    ),
    ExecutorSpec(
        name="process-pool-executor",
        factory=None,
        type_name="concurrent.futures.process.ProcessPoolExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=False, remote=False, tells_execution=False, in_order=True
        ),
        terminate=termination.kill_process_pool,
    ),
    ExecutorSpec(
        name="threads",
        factory=_plain("local.threads"),
        type_name="amltk.scheduling.executors.local.threads.ThreadPool",
        capabilities=_THREADS,
        terminate=termination.shut_down,
    ),
    ExecutorSpec(
        name="interpreter-pool-executor",  # before that of threads, which it is derived from
        factory=None,
        type_name="concurrent.futures.interpreter.InterpreterPoolExecutor",
        capabilities=Capabilities(
            kills_running=False,
            isolates_crashes=False,
            remote=False,
            in_process=True,
            crash_ends_program=True,
            tells_execution=False,
            in_order=True,
        ),
        terminate=termination.shut_down,
    ),
    ExecutorSpec(
        name="thread-pool-executor",
        factory=None,
        type_name="concurrent.futures.thread.ThreadPoolExecutor",
        capabilities=replace(_THREADS, tells_execution=False),
        terminate=termination.shut_down,
    ),
    ExecutorSpec(
        name="sequential",
        factory=_plain("local.sequential", "SequentialExecutor"),
        type_name="amltk.scheduling.executors.local.sequential.SequentialExecutor",
        capabilities=Capabilities(
            kills_running=False,
            isolates_crashes=False,
            remote=False,
            in_loop=True,
            in_process=True,
            shares_objects=True,
            crash_ends_program=True,
            closures=True,
            in_order=True,
        ),
        terminate=termination.shut_down,
    ),
    ExecutorSpec(
        name="loky",
        factory=_optional("remote.loky", "loky", extra="loky"),
        type_name="amltk.scheduling.executors.remote.loky.LokyExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=False, remote=False, closures=True, in_order=True
        ),
        terminate=termination.kill_workers,
        extra="loky",
    ),
    ExecutorSpec(
        name="dask_jobqueue",
        factory=_optional("remote.dask.jobqueue", "dask", "distributed", "dask_jobqueue", extra="cluster"),
        type_name="amltk.scheduling.executors.remote.dask.jobqueue.JobQueueExecutor",
        capabilities=Capabilities(
            kills_running=True,
            isolates_crashes=True,
            remote=True,
            closures=True,
            lists_running=True,
            places_calls=True,
            writes_logs=True,
            workers_come_later=True,
        ),
        terminate=termination.kill_workers,
        extra="cluster",
    ),
    ExecutorSpec(
        name="slurm_jobs",
        factory=_plain("remote.slurm_jobs.executor"),
        type_name="amltk.scheduling.executors.remote.slurm_jobs.executor.SlurmJobsExecutor",
        capabilities=Capabilities(
            kills_running=True,
            isolates_crashes=True,
            remote=True,
            closures=True,
            cancels_running=True,
            lists_running=True,
            places_calls=True,
            holds_calls=True,
            workers_come_later=True,
            adopts_calls=True,
        ),
        terminate=termination.kill_workers,
    ),
    ExecutorSpec(
        name="dask",
        factory=_optional("remote.dask.making", "dask", "distributed", extra="dask"),
        type_name="amltk.scheduling.executors.remote.dask.executor.OwnDaskExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=True, remote=False, closures=True, lists_running=True
        ),
        terminate=termination.kill_workers,
        extra="dask",
    ),
    ExecutorSpec(
        name="dask-client",
        factory=None,
        type_name="amltk.scheduling.executors.remote.dask.executor.DaskExecutor",
        capabilities=Capabilities(
            kills_running=False,
            isolates_crashes=True,
            remote=True,
            closures=True,
            lists_running=True,
            places_calls=True,
            workers_come_later=True,
        ),
        terminate=termination.kill_workers,
        extra="dask",
    ),
    ExecutorSpec(
        name="ray",
        factory=_optional("remote.ray", "ray", extra="ray"),
        type_name="amltk.scheduling.executors.remote.ray.RayExecutor",
        capabilities=Capabilities(
            kills_running=True,
            isolates_crashes=True,
            remote=True,
            closures=True,
            cancels_running=True,
            tells_running=False,
            places_calls=True,
            holds_calls=True,
        ),
        terminate=termination.kill_workers,
        extra="ray",
    ),
    ExecutorSpec(
        name="mpi",
        factory=_optional("remote.mpi", "mpi4py", extra="mpi"),
        type_name="amltk.scheduling.executors.remote.mpi.MPIExecutor",
        capabilities=Capabilities(
            kills_running=False,
            isolates_crashes=False,
            remote=True,
            closures=True,
            crash_ends_program=True,
            in_order=True,
        ),
        terminate=termination.kill_workers,
        extra="mpi",
    ),
)

OTHER = ExecutorSpec(
    name="executor",
    factory=None,
    type_name="concurrent.futures._base.Executor",
    capabilities=Capabilities(
        kills_running=False, isolates_crashes=False, remote=False, tells_execution=False, names_losses=False
    ),
    terminate=termination.shut_down,
)
"""Any other `concurrent.futures.Executor`: nothing is known about it."""


def kind_named(name: str) -> ExecutorSpec:
    """The row of that name.

    Raises:
        ValueError: There is no such row.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise ValueError(f"name={name!r}: must be one of {', '.join(repr(kind.name) for kind in KINDS)}")


def kind_of(executor: Any) -> ExecutorSpec:
    """The row of a user's executor, by its class or a base of it; `OTHER` if there is none."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(executor).__mro__}
    for kind in KINDS:
        if kind.type_name in bases:
            return kind
    return OTHER


SIZES = ("n_workers", "max_workers")
"""The attributes with the number of workers: of this package, and of others."""


def workers_of(executor: Any) -> int | None:
    """How many calls an executor currently computes at once; None if it does not report that."""
    for size in (*(getattr(executor, name, None) for name in SIZES), _compat.max_workers(executor)):
        number = as_whole(size)
        if number is not None and number > 0:
            return number
    return None
