"""Factories of schedulers for the executors that compute on several machines."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from amltk._checks import explains_options

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from amltk.types import Duration

WORKERS = ("n_jobs", "n_workers", "num_workers", "n_processes", "num_processes", "processes", "threads", "workers")
"""Names that other tools use for the number of workers."""

_max_workers = explains_options(**dict.fromkeys(WORKERS, "max_workers"))

_n_workers = explains_options(n_jobs="n_workers", num_workers="n_workers", workers="n_workers")

_DIRECTIVE = "write job_extra_directives=['--{option}=...'], as in a job script"

_of_batch_systems = explains_options(
    time_limit="walltime",
    mem_per_cpu="write memory=..., which is that of a job",
    cpus="cores",
    ntasks="n_workers",
    jobs="n_workers",
    n_jobs="n_workers",
    num_workers="n_workers",
    **{
        option: _DIRECTIVE.format(option=option)
        for option in ("gpus_per_node", "exclusive", "nodes", "ntasks_per_node")
    },
)


_of_jobs = explains_options(
    queue="partition",
    walltime="time",
    time_limit="time",
    memory="mem",
    cores="cpus_per_task",
    cpus="cpus_per_task",
    n_jobs="max_jobs",
    n_workers="max_jobs",
    num_workers="max_jobs",
    job_script_prologue="prologue",
)


S_co = TypeVar("S_co", covariant=True)
S = TypeVar("S")


class ClusterFactory(Protocol[S_co]):
    """The type of `Scheduler.with_slurm` and the like: `with_dask_jobqueue` for one batch system."""

    def __call__(
        self,
        *,
        n_workers: int | None = None,
        max_workers: int | None = None,
        adaptive: bool = False,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        worker_timeout: Duration | None = None,
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
        made: Any = owner  # `ClusterFactories`, defined below
        return partial(made.with_dask_jobqueue, self._name)


class ClusterFactories:
    """Makes schedulers over several machines, see `Factories`."""

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
    @_n_workers
    def with_dask(
        cls,
        client: Any = None,
        *,
        max_workers: int | None = None,
        worker_timeout: Duration | None = None,
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
            max_workers: How many calls are computed at the same time, by as many processes on this machine; None for
                one per CPU that this process may use, or for what `options` say. Not with a client.
            worker_timeout: How long to wait for the first worker of an existing cluster, from the first call on:
                seconds, a text such as `"10 min"`, or a `timedelta`. Then the run ends with `ExecutorBrokenError`. None
                for as long as it takes.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What else calls share, as in `Scheduler(executor, resources=...)`, such as licences.
            **options: Options of `distributed.LocalCluster`, such as `n_workers`. By default there is one worker per
                CPU that this process may use, each with one thread, and the dashboard uses any free port of this
                machine.

        Raises:
            MissingExtraError: Dask is not installed.
            TypeError: `client` is something else, or asynchronous, or options are given for an existing cluster.
            ValueError: `max_workers` is below 1, or given with `n_workers` or `threads_per_worker`.
            ExecutorBrokenError: Nothing answers at that address.
        """
        return cls._made_by(
            "dask",
            terminate,
            resources,
            client=client,
            max_workers=max_workers,
            worker_timeout=worker_timeout,
            **options,
        )

    @classmethod
    @_of_batch_systems
    def with_dask_jobqueue(
        cls,
        name: Literal["slurm", "pbs", "sge", "oar", "moab", "lsf", "htcondor"],
        *,
        n_workers: int | None = None,
        max_workers: int | None = None,
        adaptive: bool = False,
        submit_command: str | None = None,
        cancel_command: str | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        worker_timeout: Duration | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A scheduler over the jobs of a batch system: submitted with the first call, cancelled at the end of a run.

        A job that the batch system refuses, or that ends before its worker has connected, is submitted again. If that
        happens three times in succession, and no worker is up, the run ends with an `ExecutorBrokenError` that shows
        what the batch system said, or the end of the job's log.

        A job that is cancelled, preempted or out of time costs the call that it was running, and is replaced. With a
        `walltime`, a worker leaves a minute early, so that it is not killed while it is handing data over.

        A call with the plugin `Resources` waits until a worker has what it asks for: `cpu`, which are the `cores` of a
        job, `memory`, and what the `resources` of its group say.

        Args:
            name: The batch system.
            n_workers: How many workers, at least 1. With `groups`, the number for each that gives none. A worker
                computes as many calls at a time as it has CPUs: its share of the `cores` of its job.
            max_workers: How many calls are computed at the same time: as many workers, each of which computes one call
                at a time, whatever `cores` its job has. Each has a job of its own, unless `processes` is given. Not
                with `n_workers` or `groups`.
            adaptive: Scale between 0 and `n_workers` with the amount of work.
            submit_command: Replaces `sbatch`, `qsub`, ...
            cancel_command: Replaces `scancel`, `qdel`, ...
            groups: Jobs of several shapes, by names of your choice: the options of each, which take precedence over
                those outside, with `n_workers`, and with `resources`: what a worker of this group has besides `cpu` and
                `memory`. For example `{"cpu": {"cores": 16, "memory": "64GB", "n_workers": 9}, "gpu": {...}}`. None for
                jobs of one shape.
            worker_timeout: How long to wait for the first worker, from when the jobs are submitted: seconds, a text
                such as `"2 h"`, or a `timedelta`. Then the run ends with `ExecutorBrokenError`. None for as long as it
                takes.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What else calls share, as in `Scheduler(executor, resources=...)`, such as licences.
            **options: Options of dask-jobqueue: `queue`, `cores`, `memory`, `walltime`, `interface`, `account`, ...
                For Slurm its own names do as well: `partition`, `time`, `mem`, `cpus_per_task`, `gpus`, and
                `constraint`, `exclude`, `gres`, `licenses`, `nodelist`, `qos`, `reservation`.
                Without `log_directory`, jobs write their logs into `jobs` in the folder of the run's journal, or into a
                new folder in `amltk-jobs` in the working directory if it has no journal.

        Raises:
            MissingExtraError: dask-jobqueue is not installed.
            ValueError: `name` is not one of these batch systems, `n_workers` or `max_workers` is below 1, both are
                given, an option is missing or unknown, or `adaptive` is set with `groups`.
            TypeError: `n_workers` is not an integer, or `groups` is not a dict of dicts.
        """
        return cls._made_by(
            "dask_jobqueue",
            terminate,
            resources,
            name=name,
            n_workers=n_workers,
            max_workers=max_workers,
            adaptive=adaptive,
            submit_command=submit_command,
            cancel_command=cancel_command,
            groups=groups,
            worker_timeout=worker_timeout,
            **options,
        )

    @classmethod
    @_of_jobs
    def with_slurm_jobs(
        cls,
        *,
        max_jobs: int | None = None,
        max_workers: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        prologue: Sequence[str] = (),
        poll_interval: Duration = 5.0,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A scheduler over plain batch jobs of Slurm, one for each call. For long calls; nothing connects to anything.

        ```python
        scheduler = Scheduler.with_slurm_jobs(partition="gpu", time="04:00:00", mem="8G")
        train = scheduler.task(fit, plugins=Resources(cpu=8, gpu=1, memory="32 GB", needs_time="12 hours"))
        ```

        Jobs go on when this program dies. A run with a `journal=` that is started again finds them: it waits for those
        that run, takes the outcomes of those that have ended, and submits nothing twice. A run with a journal that is
        suspended, by Ctrl-C for instance or before the end of its own batch job, leaves its jobs to the next one, and
        logs their numbers; without a journal they are cancelled.

        A job that is cancelled, preempted or out of time, or that loses its node, costs its call, which fails with
        `WorkerLostError`. It is not repeated, unless by `Retry`; or by Slurm, with `requeue=True`. If Slurm refuses a
        job, its call fails with `JobRefusedError`.

        What a call asks for by the plugin `Resources` becomes options of its job, in place of those below: `cpu`,
        `memory`, `gpu`, `needs_time` for its `time`, and other names as licences. Which of them are free is up to
        Slurm.

        Args:
            max_jobs: How many jobs there are at a time, at most; None for one for each call that was submitted.
                Those that wait in the queue are counted as well.
            max_workers: The same: no more calls than that are computed at the same time.
            folder: Where the files of jobs are, such as what they print, in a run without a journal: on a file system
                that compute nodes share with this machine. None for `amltk-jobs` in the working directory. With a
                journal they are in its folder `jobs`.
            prologue: Lines of shell that each job begins with, such as `["module load cuda"]`.
            poll_interval: How long to wait between two questions to Slurm about all jobs: seconds, a text such as
                `"1 min"`, or a `timedelta`.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What else calls share, as in `Scheduler(executor, resources=...)`.
            **options: Options of `sbatch` for each job, with `_` for each `-`: `partition`, `account`, `time`, `mem`,
                `cpus_per_task`, `gpus`, `constraint`, `requeue=True`, ...

        Raises:
            FileNotFoundError: This machine has no `sbatch`, `squeue` or `scancel`.
            ValueError: `max_jobs` is below 1, both names of it are given, or an option cannot be given.
            TypeError: An argument has a wrong type.
        """
        return cls._made_by(
            "slurm_jobs",
            terminate,
            resources,
            max_jobs=max_jobs,
            max_workers=max_workers,
            folder=folder,
            prologue=prologue,
            poll_interval=poll_interval,
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
    @explains_options(**dict.fromkeys(WORKERS, "max_workers"))
    def with_ray(
        cls,
        task_options: Mapping[str, Any] | None = None,
        *,
        max_workers: int | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
        **init: Any,
    ) -> Self:
        """A scheduler over Ray tasks. A lost worker costs the call it was running. Running calls can be cancelled.

        Calls with the plugin `Resources` wait in Ray, which grants what they ask for: `cpu`, `gpu` and `memory` are its
        `num_cpus`, `num_gpus` and `memory`, other names are entries of its `resources`.

        Args:
            task_options: What each call needs: `num_cpus`, `num_gpus`, `resources`, `runtime_env`, ...; see
                `ray.remote`. None for one CPU each.
            max_workers: How many calls are computed at the same time on a Ray that is started here: it has as many CPUs
                as they need. None for the CPUs that Ray detects. Not for another Ray, and not with `num_cpus`.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What a Ray that is started here has, by name: an amount, as a number or a text such as `"60 GB"`.
                `"gpu"` may also be `"auto"`. Ray detects what is left out: CPUs, GPUs and memory.
            **init: Arguments of `ray.init`. Ray is shut down at the end of the run, unless it was initialised before
                the scheduler was made: then the existing Ray is used and stays, and no arguments are allowed.

        Raises:
            MissingExtraError: Ray is not installed.
            ValueError: Ray was already initialised, and arguments for `ray.init`, `resources` or `max_workers` are
                given; or `max_workers` is below 1, or cannot be kept.
            TypeError: An amount in `resources` is not a number.
            ExecutorBrokenError: No Ray answers at the address in `init`.
        """
        return cls._made_by(
            "ray", terminate, None, task_options=task_options, resources=resources, max_workers=max_workers, **init
        )

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
