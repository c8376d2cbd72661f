"""The table of back ends: what each executor is able to do, and how it is ended.

A new back end is one file with a factory and one row here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from amltk import _extras
from amltk.scheduling.executors import processes, sequential, termination, threads

Terminator = Callable[[Executor], None]
"""Ends an executor without waiting for its work; may block, since it is called on a thread of its own."""


@dataclass(frozen=True)
class Capabilities:
    """What an executor can do; the contract tests hold each claim, in both directions."""

    kills_running: bool
    """Work that is running can be ended without waiting for it."""
    isolates_crashes: bool
    """A lost worker costs the work that it ran, and nothing else."""
    remote: bool
    """Work may run on another machine."""
    in_loop: bool = False
    """Work runs on the thread of the run's loop, a call at a time."""
    in_process: bool = False
    """Work runs in this process, and a crash is this process's own; arguments and results are the very objects."""
    in_interpreters: bool = False
    """It runs in other interpreters of this process: what arguments and results are is pickled after all."""
    closures: bool = False
    """Functions that no other process could import, such as lambdas and closures, can be computed."""
    cancels_running: bool = False
    """Cancelling the future of running work ends that work, and nothing else."""
    crash_ends_program: bool = False
    """Work that takes its process down takes this program down as well."""
    tells_running: bool = True
    """`running()` of a future is true from the moment on at which a worker begins it, or shortly before."""
    limits_calls: bool = False
    """It has `submit_limited`, which ends calls that use more than they may."""
    tells_whereabouts: bool = True
    """`whereabouts` of a future tells which process has computed it, and from when to when."""
    lists_running: bool = False
    """It lists what its workers are at, however much waits: it has `running_calls`, as `ProcessPool` has."""
    names_losses: bool = True
    """A call whose worker is killed fails with `BrokenExecutor`, `WorkerLostError` or a subclass."""
    in_order: bool = False
    """Calls are begun in the order of their submission."""
    driven_by_loop: bool = False
    """It lets the loop of a run do its traffic: it has `attach` and `detach`, as `ProcessPool` has."""


@dataclass(frozen=True)
class ExecutorKind:
    """One row of the table.

    Attributes:
        name: As in `Scheduler.with_<name>`, where there is a factory.
        factory: Makes a fresh executor; its arguments are those of `Scheduler.with_<name>`. None where users bring
            their own.
        type_name: The executor's class as `module.qualname`, so that nothing is imported to recognise it.
        capabilities: What it can do.
        terminate: Ends it without waiting for its work, as far as that is possible.
        extra: The extra that installs it, or None where none is needed.
    """

    name: str
    factory: Callable[..., Executor] | None
    type_name: str
    capabilities: Capabilities
    terminate: Terminator
    extra: str | None = None


def _optional(module: str, *needs: str, extra: str) -> Callable[..., Executor]:
    """The factory of a back end over an optional library, which is imported when it is called."""

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
    crash_ends_program=True,
    closures=True,
    in_order=True,
)

KINDS: tuple[ExecutorKind, ...] = (
    ExecutorKind(
        name="processes",
        factory=processes.make,
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
        ),
        terminate=termination.kill_workers,
    ),
    ExecutorKind(
        name="process-pool-executor",
        factory=None,
        type_name="concurrent.futures.process.ProcessPoolExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=False, remote=False, tells_whereabouts=False, in_order=True
        ),
        terminate=termination.kill_process_pool,
    ),
    ExecutorKind(
        name="threads",
        factory=threads.make,
        type_name="amltk.scheduling.executors.threads.ThreadPool",
        capabilities=_THREADS,
        terminate=termination.shut_down,
    ),
    ExecutorKind(
        name="interpreter-pool-executor",  # before that of threads, which it is derived from
        factory=None,
        type_name="concurrent.futures.interpreter.InterpreterPoolExecutor",
        capabilities=Capabilities(
            kills_running=False,
            isolates_crashes=False,
            remote=False,
            in_process=True,
            in_interpreters=True,
            crash_ends_program=True,
            tells_whereabouts=False,
            in_order=True,
        ),
        terminate=termination.shut_down,
    ),
    ExecutorKind(
        name="thread-pool-executor",
        factory=None,
        type_name="concurrent.futures.thread.ThreadPoolExecutor",
        capabilities=replace(_THREADS, tells_whereabouts=False),
        terminate=termination.shut_down,
    ),
    ExecutorKind(
        name="sequential",
        factory=sequential.SequentialExecutor,
        type_name="amltk.scheduling.executors.sequential.SequentialExecutor",
        capabilities=Capabilities(
            kills_running=False,
            isolates_crashes=False,
            remote=False,
            in_loop=True,
            in_process=True,
            crash_ends_program=True,
            closures=True,
            in_order=True,
        ),
        terminate=termination.shut_down,
    ),
    ExecutorKind(
        name="loky",
        factory=_optional("loky", "loky", extra="loky"),
        type_name="amltk.scheduling.executors.loky.LokyExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=False, remote=False, closures=True, in_order=True
        ),
        terminate=termination.kill_workers,
        extra="loky",
    ),
    ExecutorKind(
        name="dask_jobqueue",
        factory=_optional("jobqueue", "dask", "distributed", "dask_jobqueue", extra="cluster"),
        type_name="amltk.scheduling.executors.jobqueue.JobQueueExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=True, remote=True, closures=True, lists_running=True
        ),
        terminate=termination.kill_workers,
        extra="cluster",
    ),
    ExecutorKind(
        name="dask",
        factory=_optional("dask", "dask", "distributed", extra="dask"),
        type_name="amltk.scheduling.executors.dask.OwnDaskExecutor",
        capabilities=Capabilities(
            kills_running=True, isolates_crashes=True, remote=False, closures=True, lists_running=True
        ),
        terminate=termination.kill_workers,
        extra="dask",
    ),
    ExecutorKind(
        name="dask-client",
        factory=None,
        type_name="amltk.scheduling.executors.dask.DaskExecutor",
        capabilities=Capabilities(
            kills_running=False, isolates_crashes=True, remote=True, closures=True, lists_running=True
        ),
        terminate=termination.kill_workers,
        extra="dask",
    ),
    ExecutorKind(
        name="ray",
        factory=_optional("ray", "ray", extra="ray"),
        type_name="amltk.scheduling.executors.ray.RayExecutor",
        capabilities=Capabilities(
            kills_running=True,
            isolates_crashes=True,
            remote=True,
            closures=True,
            cancels_running=True,
            tells_running=False,
        ),
        terminate=termination.kill_workers,
        extra="ray",
    ),
    ExecutorKind(
        name="mpi",
        factory=_optional("mpi", "mpi4py", extra="mpi"),
        type_name="amltk.scheduling.executors.mpi.MPIExecutor",
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

OTHER = ExecutorKind(
    name="executor",
    factory=None,
    type_name="concurrent.futures._base.Executor",
    capabilities=Capabilities(
        kills_running=False, isolates_crashes=False, remote=False, tells_whereabouts=False, names_losses=False
    ),
    terminate=termination.shut_down,
)
"""Any other `concurrent.futures.Executor`: nothing is known about it."""


def kind_named(name: str) -> ExecutorKind:
    """The row of that name.

    Raises:
        ValueError: There is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise ValueError(f"name={name!r}: must be one of {', '.join(repr(kind.name) for kind in KINDS)}")


def kind_of(executor: Any) -> ExecutorKind:
    """The row of an executor that a user brought, by its class or a base of it; `OTHER` where there is none."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(executor).__mro__}
    for kind in KINDS:
        if kind.type_name in bases:
            return kind
    return OTHER


SIZES = ("n_workers", "max_workers", "_max_workers")
"""Where executors have the number of their workers: this package's, others', and those of the standard library."""


def workers_of(executor: Any) -> int | None:
    """How many calls an executor computes at a time, by now; None if it does not tell."""
    for name in SIZES:
        number = getattr(executor, name, None)
        if isinstance(number, int) and not isinstance(number, bool) and number > 0:
            return number
    return None
