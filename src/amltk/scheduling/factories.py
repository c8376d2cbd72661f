"""Factories of schedulers for each executor that this package knows: one method for each row of the registry."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from amltk._checks import explains_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from multiprocessing.context import BaseContext

    from amltk.types import Duration


_WORKERS = ("n_jobs", "n_workers", "num_workers", "n_processes", "num_processes", "processes", "threads", "workers")
"""Names that other tools use for the number of workers."""

_max_workers = explains_options(**dict.fromkeys(_WORKERS, "max_workers"))

_n_workers = explains_options(n_jobs="n_workers", max_workers="n_workers", num_workers="n_workers", workers="n_workers")

_DIRECTIVE = "write job_extra_directives=['--{option}=...'], as in a job script"

_of_batch_systems = explains_options(
    partition="queue",
    time="walltime",
    time_limit="walltime",
    mem="memory",
    mem_per_cpu="write memory=..., which is that of a job",
    cpus="cores",
    cpus_per_task="cores",
    ntasks="n_workers",
    jobs="n_workers",
    n_jobs="n_workers",
    max_workers="n_workers",
    num_workers="n_workers",
    **{
        option: _DIRECTIVE.format(option=option)
        for option in ("gres", "gpus", "constraint", "qos", "nodelist", "exclude")
    },
)


S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")


class ClusterFactory(Protocol[S_co]):
    """The type of `Scheduler.with_slurm` and the like: `with_dask_jobqueue` for one batch system."""

    def __call__(
        self,
        *,
        n_workers: int | None = None,
        adaptive: bool = False,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> S_co:
        """Make a scheduler. Arguments as in `with_dask_jobqueue`."""
        ...


class _OnCluster:
    """A class method: `with_dask_jobqueue` with its first argument given."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.__doc__ = f"`with_dask_jobqueue({name!r}, ...)`."

    def __get__(self, instance: object, owner: type[S]) -> ClusterFactory[S]:
        made: Any = owner  # `Factories`, defined below
        return partial(made.with_dask_jobqueue, self._name)


class Factories:
    """Makes schedulers that can run any number of times, with a fresh executor for each run."""

    @classmethod
    @abstractmethod
    def _made_by(
        cls,
        kind: str,
        terminate: Callable[[Executor], Any] | bool,
        resources: Mapping[str, Any] | None = None,
        /,
        **options: Any,
    ) -> Self:
        """Make a scheduler for a row of the registry. Errors of the row's factory are raised here."""

    @classmethod
    @_max_workers
    def with_processes(
        cls,
        max_workers: int | None = None,
        mp_context: BaseContext | Literal["fork", "spawn", "forkserver"] | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        preload: Iterable[str] | Literal["auto"] = "auto",
        exit_timeout: Duration = 10.0,
        idle_timeout: Duration | None = None,
        max_worker_memory: float | str | None = None,
        shared_memory: int | str | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Self:
        """A scheduler over local processes: a `ProcessPool`. A lost process costs only the call that it was running.

        In each process BLAS and OpenMP use as many threads as it has CPUs available, see `ProcessPool`.

        Args:
            max_workers: How many processes, at least 1; None for one per CPU that this process may use, as in
                `ProcessPool`.
            mp_context: The start method, as in `ProcessPool`. By default no `if __name__ == "__main__":` is needed.
            initializer: Called in each process before its first call. If it keeps raising, the run ends with
                `ExecutorBrokenError`.
            initargs: The arguments of the initializer, as in `ProcessPool`.
            max_tasks_per_child: Replace a process after this many calls; None for never.
            preload: Modules to import once, before any process is started: `"auto"` for those that calls turn out to
                need, a list of names, or `()` for none; see `ProcessPool`.
            exit_timeout: How long a process may take to shut down before it is killed: seconds, a string such as
                `"1 min"`, or a `timedelta`.
            idle_timeout: After how long without a call a process ends, so that its memory is free; None for never.
            max_worker_memory: How much memory a process may have between two calls before it is replaced, in bytes or
                as a text such as `"4 GB"`; None for any. See `ProcessPool` for both.
            shared_memory: How much shared memory large arrays may cross in: bytes, or a text such as `"4 GB"`; None for
                a quarter of the memory that this process may use, 0 for none; see `ProcessPool`.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.

        Raises:
            ValueError: `max_workers` or `max_tasks_per_child` is below 1, `mp_context` is not a start method,
                `shared_memory` is negative, or `preload` names modules although the start method is not `"forkserver"`.
            TypeError: `initializer` is not callable, it or something in `initargs` cannot be pickled, or `preload` is
                not a list of names.
        """
        return cls._made_by(
            "processes",
            terminate,
            resources,
            max_workers=max_workers,
            mp_context=mp_context,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
            preload=preload,
            exit_timeout=exit_timeout,
            idle_timeout=idle_timeout,
            max_worker_memory=max_worker_memory,
            shared_memory=shared_memory,
        )

    @classmethod
    @_max_workers
    def with_threads(
        cls,
        max_workers: int | None = None,
        thread_name_prefix: str = "amltk-worker",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Self:
        """A scheduler over threads, for work that waits or releases the GIL. Running work cannot be terminated.

        Args:
            max_workers: How many threads, at least 1; None for four more than the CPUs that this process may use, at
                most 32.
            thread_name_prefix: The prefix of the threads' names.
            initializer: Called in each thread before its first call. If it raises, the run ends with
                `ExecutorBrokenError`.
            initargs: The arguments of the initializer.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.

        Raises:
            ValueError: `max_workers` is below 1.
            TypeError: `initializer` is not callable.
        """
        return cls._made_by(
            "threads",
            terminate,
            resources,
            max_workers=max_workers,
            thread_name_prefix=thread_name_prefix,
            initializer=initializer,
            initargs=initargs,
        )

    @classmethod
    def with_sequential(cls, *, resources: Mapping[str, Any] | None = None) -> Self:
        """A scheduler that computes in this process and thread, one call after the other. For debugging.

        Timers, timeouts and signals are handled between two calls.

        Args:
            resources: What calls share, as in `Scheduler(executor, resources=...)`.
        """
        return cls._made_by("sequential", True, resources)

    @classmethod
    @_max_workers
    def with_loky(
        cls,
        max_workers: int | None = None,
        context: BaseContext | Literal["loky", "loky_init_main", "spawn"] | None = None,
        timeout: Duration | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        env: Mapping[str, str] | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Self:
        """A scheduler over processes of loky, joblib's engine. A worker that dies breaks the executor.

        It uses its own pool, not loky's reusable executor, which the end of a run would shut down for other users as
        well.

        Args:
            max_workers: How many processes, at least 1; None for one per CPU that this process may use, as in
                `ProcessPool`.
            context: The start method; see loky.
            timeout: How long a process may be idle before it ends: seconds, a string such as `"5 min"`, or a
                `timedelta`; None for no limit.
            initializer: Called in each process before its first call.
            initargs: The arguments of the initializer.
            env: Environment variables for the processes.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.

        Raises:
            MissingExtraError: loky is not installed.
            ValueError: `max_workers` is below 1.
        """
        return cls._made_by(
            "loky",
            terminate,
            resources,
            max_workers=max_workers,
            context=context,
            timeout=timeout,
            initializer=initializer,
            initargs=initargs,
            env=env,
        )

    @classmethod
    @_n_workers
    def with_dask(
        cls,
        client: Any = None,
        *,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A scheduler over Dask. A lost worker costs the call it was running; Dask alone would silently retry it.

        Args:
            client: A `distributed.Client`, a cluster or the address of a Dask scheduler. It stays open, and its running
                calls cannot be killed. Its workers and its scheduler need this package. Calls with the plugin
                `Resources` wait until a worker has what they ask for, if workers declare it, as by
                `dask worker --resources "gpu=1 cpu=8"`; upper and lower case are the same. None for processes on this
                machine, which end with the run.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share besides, as in `Scheduler(executor, resources=...)`, such as licences.
            **options: Options of `distributed.LocalCluster`, such as `n_workers`. By default there is one worker per
                CPU that this process may use, each with one thread, and the dashboard uses any free port of this
                machine.

        Raises:
            MissingExtraError: Dask is not installed.
            TypeError: `client` is something else, or asynchronous, or options are given for an existing cluster.
        """
        return cls._made_by("dask", terminate, resources, client=client, **options)

    @classmethod
    @_of_batch_systems
    def with_dask_jobqueue(
        cls,
        name: Literal["slurm", "pbs", "sge", "oar", "moab", "lsf", "htcondor"],
        *,
        n_workers: int | None = None,
        adaptive: bool = False,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A scheduler over the jobs of a batch system. They are cancelled at the end of a run.

        A job that is cancelled, preempted or out of time costs the call that it was running, and is replaced. With a
        `walltime`, a worker leaves a minute early, so that it is not killed while it is handing data over.

        A call with the plugin `Resources` waits until a worker has what it asks for: `cpu`, which are the `cores` of a
        job, `memory`, and what the `resources` of its group say.

        Args:
            name: The batch system.
            n_workers: How many workers, at least 1. With `groups`, how many each has that does not say so.
            adaptive: Scale between 0 and `n_workers` with the amount of work.
            submit_command: Replaces `sbatch`, `qsub`, ...
            cancel_command: Replaces `scancel`, `qdel`, ...
            groups: Jobs of several shapes, by names of your choice: the options of each, which take precedence over
                those outside, with `n_workers`, and with `resources`: what a worker of this group has besides `cpu` and
                `memory`. For example `{"cpu": {"cores": 16, "memory": "64GB", "n_workers": 9}, "gpu": {...}}`. None for
                jobs of one shape.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share besides, as in `Scheduler(executor, resources=...)`, such as licences.
            **options: Options of dask-jobqueue: `queue`, `cores`, `memory`, `walltime`, `interface`, `account`, ...

        Raises:
            MissingExtraError: dask-jobqueue is not installed.
            ValueError: `name` is not one of these batch systems, `n_workers` is below 1, an option is missing or
                unknown, or `adaptive` is set with `groups`.
            TypeError: `n_workers` is not an integer, or `groups` is not a dict of dicts.
        """
        return cls._made_by(
            "dask_jobqueue",
            terminate,
            resources,
            name=name,
            n_workers=n_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            groups=groups,
            **options,
        )

    with_slurm: _OnCluster = _OnCluster("slurm")
    with_pbs: _OnCluster = _OnCluster("pbs")
    with_sge: _OnCluster = _OnCluster("sge")
    with_oar: _OnCluster = _OnCluster("oar")
    with_moab: _OnCluster = _OnCluster("moab")
    with_lsf: _OnCluster = _OnCluster("lsf")
    with_htcondor: _OnCluster = _OnCluster("htcondor")

    @classmethod
    @explains_options(**dict.fromkeys(_WORKERS, "num_cpus"), max_workers="num_cpus")
    def with_ray(
        cls,
        task_options: Mapping[str, Any] | None = None,
        *,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **init: Any,
    ) -> Self:
        """A scheduler over Ray tasks. A lost worker costs the call it was running. Running calls can be cancelled.

        Calls with the plugin `Resources` wait in Ray, which grants what they ask for: `cpu`, `gpu` and `memory` are its
        `num_cpus`, `num_gpus` and `memory`, other names are of its own `resources`.

        Args:
            task_options: What each call needs: `num_cpus`, `num_gpus`, `resources`, `runtime_env`, ...; see
                `ray.remote`. None for one CPU each.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What a Ray that is started here has, by name: an amount, as a number or a text such as `"60 GB"`.
                `"gpu"` may also be `"auto"`. Ray finds out for itself what is left out: CPUs, GPUs and memory.
            **init: Arguments of `ray.init`. Ray is shut down at the end of the run, unless it was initialised before
                the scheduler was made: then the existing Ray is used and stays, and no arguments are allowed.

        Raises:
            MissingExtraError: Ray is not installed.
            ValueError: Ray was already initialised, and arguments for `ray.init`, or `resources`, are given.
            TypeError: An amount in `resources` is no number.
        """
        return cls._made_by("ray", terminate, None, task_options=task_options, resources=resources, **init)

    @classmethod
    @_max_workers
    def with_mpi(
        cls,
        max_workers: int | None = None,
        *,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A scheduler over MPI ranks (mpi4py). Running calls cannot be terminated. A rank that dies ends the program.

        The ranks are either started by MPI when they are needed, or those of
        `mpiexec -n 5 python -m mpi4py.futures program.py`.

        Args:
            max_workers: How many ranks compute, at least 1; None for what the environment specifies, see mpi4py.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.
            **options: Other options of `mpi4py.futures.MPIPoolExecutor`.

        Raises:
            MissingExtraError: mpi4py is not installed.
            ValueError: `max_workers` is below 1.
        """
        return cls._made_by("mpi", terminate, resources, max_workers=max_workers, **options)
