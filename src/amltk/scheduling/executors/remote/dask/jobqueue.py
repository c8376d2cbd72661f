"""The batch systems of clusters, with dask-jobqueue: Dask workers that run as jobs."""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from amltk._checks import check_count, check_optional_seconds, one_given
from amltk.scheduling._admission.amounts import units_of
from amltk.scheduling._admission.cluster import WorkerKind
from amltk.scheduling.executors.remote.dask.executor import OwnDaskExecutor
from amltk.scheduling.executors.remote.dask.groups import Group, Grouped, declared_by, declaring
from amltk.scheduling.executors.remote.dask.jobs.batch_systems import queue_of
from amltk.scheduling.executors.remote.dask.jobs.job import WatchedJob
from amltk.scheduling.executors.remote.dask.jobs.logs import JobLogs
from amltk.scheduling.executors.remote.dask.jobs.slurm_names import merged, names_used, of_slurm, refuse_names
from amltk.scheduling.executors.remote.dask.jobs.watch import JobWatch
from amltk.scheduling.executors.remote.dask.making import ANY_PORT
from amltk.scheduling.executors.remote.dask.replacer import keep_workers
from amltk.scheduling.executors.remote.signal_handlers import kept_handlers

if TYPE_CHECKING:
    from pathlib import Path

    from amltk.scheduling.executors.cluster_workers import ClusterWorkers
    from amltk.scheduling.executors.remote.dask.scattered import Scattered
    from amltk.scheduling.executors.remote.executor import RemoteFuture

with kept_handlers():
    import dask_jobqueue  # importing 0.9 makes Ctrl-C exit at once

_log = logging.getLogger(__name__)

CLUSTERS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
}
"""The classes of dask-jobqueue by name."""

OF_BOTH = frozenset({"interface", "protocol", "security", "config_name"})
"""The options that a cluster of dask-jobqueue passes on to its jobs."""

MARGIN_SECONDS = 60.0
"""How many seconds before its walltime a worker leaves on its own; at most a fifth of the walltime."""


def make(
    name: str,
    *,
    n_workers: int | None = None,
    max_workers: int | None = None,
    adaptive: bool = False,
    submit_command: str | None = None,
    cancel_command: str | None = None,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
    worker_timeout: Any = None,
    **options: Any,
) -> JobQueueExecutor:
    """Create an executor over Dask workers in jobs of a batch system, which are submitted with the first call.

    Args:
        name: The batch system, a key of `CLUSTERS`.
        n_workers: How many workers, at least 1; with `groups`, the number for each that gives none.
        max_workers: The same, where each computes one call at a time; not with `groups`.
        adaptive: Scale between 0 and `n_workers` workers with the amount of work.
        submit_command: Replaces `sbatch`, `qsub`, ...
        cancel_command: Replaces `scancel`, `qdel`, ...
        groups: Jobs of several shapes: for each group of workers the options that differ, `n_workers`, and `resources`,
            which each worker has besides `cpu` and `memory`. None for jobs of one shape.
        worker_timeout: How long to wait for the first worker, from when the jobs are submitted; None for as long as it
            takes.
        **options: The options of the class in dask-jobqueue: `queue`, `cores`, `memory`, `walltime`, ...; for Slurm
            also those of `slurm_names`.

    Raises:
        ValueError: There is no such batch system, or `n_workers` is below 1, or an option is unknown or missing, or
            does not go with another.
        TypeError: `n_workers` is not an integer, or `groups` is not a dict of dicts.
    """
    if name not in CLUSTERS:
        raise ValueError(f"name={name!r}: must be one of {', '.join(repr(known) for known in CLUSTERS)}")
    is_slurm = name == "slurm"
    if not is_slurm:
        refuse_names(name, options)
    n_workers, options = _one_call_each(max_workers, n_workers, groups, options)
    if groups is None:
        n_workers = check_count("n_workers", n_workers)
    elif adaptive:
        raise ValueError("adaptive=True: not with groups=, since Dask does not know of which group a worker is needed")
    worker_timeout = check_optional_seconds("worker_timeout", worker_timeout, above_zero=True)
    cluster_class = getattr(dask_jobqueue, CLUSTERS[name])
    base = cluster_class.job_cls
    given = {"submit_command": submit_command, "cancel_command": cancel_command}
    commands = {name: command for name, command in given.items() if command is not None}
    logs = JobLogs()
    # A subclass, since dask-jobqueue stores the commands in the class, which others use too.
    job_class: Any = type(
        base.__name__,
        (WatchedJob, base),
        {"logs": logs, "written": names_used(options), "commands": commands, **commands},
    )
    made = None if groups is None else _made(groups, n_workers, job_class, options, is_slurm=is_slurm)
    of_worker: dict[str, Any] = {}
    if made is None and is_slurm:
        options = of_slurm(options)
        of_worker = options.pop("resources", {})
        if of_worker and options.setdefault("processes", 1) != 1:
            raise ValueError(f"processes={options['processes']!r}: must be 1 with gpus=, which one worker has")
    elif made is not None:
        options = {**_of_cluster(options), **made[0].options}
        cluster_class = type(cluster_class.__name__, (Grouped, cluster_class), {"groups": made})
    scheduler_options = {"dashboard_address": ANY_PORT, **options.pop("scheduler_options", {})}
    cluster = cluster_class.__new__(cluster_class)
    try:
        cluster.__init__(job_cls=job_class, scheduler_options=scheduler_options, **_leaving_in_time(options))
    except BaseException:
        cluster.status = Status.closed  # otherwise it warns, when garbage-collected, that it was not closed
        raise
    if made is not None:
        declared = tuple(WorkerKind(group.declared, group.n_jobs * group.processes) for group in made)
    else:
        assert n_workers is not None, "it was checked"
        job = cluster._job_kwargs
        has = declared_by(cluster._dummy_job) | {kind: units_of(kind, n) for kind, n in of_worker.items()}
        job["worker_extra_args"], of_a_worker = declaring(job["worker_extra_args"], has)
        declared = (WorkerKind(of_a_worker, n_workers),)
    queue = queue_of(name, cluster._dummy_job.submit_command, cluster.job_script())
    n_planned = sum(kind.n_workers for kind in declared)
    job_class.watch = watch = JobWatch(queue, logs, n_planned, worker_timeout, adaptive=adaptive)
    return JobQueueExecutor(name, cluster, declared, watch, adaptive=adaptive)


def _one_call_each(
    max_workers: int | None, n_workers: int | None, groups: object, options: dict[str, Any]
) -> tuple[int | None, dict[str, Any]]:
    """How many workers there are, and the options of jobs: with `max_workers`, each computes one call at a time."""
    if max_workers is None:
        return n_workers, options
    n: int = one_given(max_workers=check_count("max_workers", max_workers), n_workers=n_workers)
    if groups is not None:
        raise ValueError(f"max_workers={n}: not with groups=; give each group its own n_workers=")
    processes, extra = options.get("processes", 1), list(options.get("worker_extra_args", ()))
    if isinstance(processes, int) and processes > 0 and n % processes:
        raise ValueError(f"max_workers={n}: must be a multiple of processes={processes}, the workers of a job")
    if "--nthreads" in extra:
        raise ValueError(f"max_workers={n}: not with --nthreads in worker_extra_args; give n_workers= instead")
    return n, {**options, "processes": processes, "worker_extra_args": [*extra, "--nthreads", "1"]}


def _made(
    groups: Any, n_workers: int | None, job_class: Any, options: Mapping[str, Any], *, is_slurm: bool
) -> tuple[Group, ...]:
    if not isinstance(groups, Mapping) or not groups or not all(isinstance(own, Mapping) for own in groups.values()):
        raise TypeError(f"groups={groups!r}: must be a dict with the options of each group, and with one at least")
    of_cluster = _of_cluster(options)
    shared = {name: value for name, value in options.items() if name not in of_cluster}
    made = []
    for name, own in groups.items():
        if of_all := _of_cluster(own):
            raise ValueError(f"groups[{name!r}]: {', '.join(of_all)}: this is not of a group; give it outside groups=")
        one = merged(shared, own)
        if is_slurm:
            one = of_slurm(one, f"groups[{name!r}]: ")
        else:
            refuse_names("this batch system", own)
        made.append(Group.of(name, job_class, _leaving_in_time({"n_workers": n_workers, **one})))
    return tuple(made)


def _of_cluster(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that belong to the cluster and not to a job."""
    names = inspect.signature(dask_jobqueue.core.JobQueueCluster.__init__).parameters.keys() - OF_BOTH
    return {name: value for name, value in options.items() if name in names and name != "n_workers"}


def _leaving_in_time(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job whose worker leaves before its walltime."""
    extra = list(options.get("worker_extra_args", ()))
    lifetime = lifetime_below(options.get("walltime"))
    if lifetime is not None and "--lifetime" not in extra:
        extra += ["--lifetime", f"{lifetime:.0f}s"]
    return {**options, "worker_extra_args": extra}


def lifetime_below(walltime: object) -> float | None:
    """How many seconds a worker stays, so that it leaves before its job is killed; None if unknown.

    Args:
        walltime: In the format of batch systems: `"[days-]hours:minutes[:seconds]"`.
    """
    if not isinstance(walltime, str):
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+)(?::(\d+))?", walltime.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    return total - min(MARGIN_SECONDS, total / 5)


class JobQueueExecutor(OwnDaskExecutor):
    """Computes on Dask workers that are jobs of a batch system. A lost job is replaced.

    The jobs are submitted with the first call.

    Args:
        system: The name of the batch system.
        cluster: The cluster; at the end it is closed and its jobs are cancelled.
        declared: What the workers have, once their jobs are there.
        watch: Watches the jobs.
        adaptive: Scale up to that many workers instead.
    """

    place = "the jobs"
    remedy = "ask for larger jobs: cores=, memory=, or groups={...: {'resources': {'gpu': 1}, ...}}"

    def __init__(
        self,
        system: str,
        cluster: Any,
        declared: tuple[WorkerKind, ...],
        watch: JobWatch,
        *,
        adaptive: bool,
    ) -> None:
        super().__init__(cluster)
        self._system = system
        self._planned = declared
        self._n_planned = sum(kind.n_workers for kind in declared)
        self._watch = watch
        self._adaptive = adaptive
        self._starting = threading.Lock()
        self._has_started = False
        self._wanted_folder: Path | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._n_planned} {self._system} workers>"

    def put_logs(self, folder: Path) -> None:
        """Have the jobs write into this folder, unless they were submitted before, or the user's options say where."""
        self._wanted_folder = folder

    def start_jobs(self) -> None:
        """Submit the jobs, unless that was done before."""
        with self._starting:
            if self._has_started:
                return
            self._has_started = True
        cluster = self._cluster
        logs = self._watch.logs
        logs.decide(self._wanted_folder)
        cluster.sync(self._watch.begin, cluster, self.break_down)
        _log.info("jobs are submitted to %s; %s", self._system, logs.said())
        if self._adaptive:
            cluster.adapt(minimum=0, maximum=self._n_planned)
        else:
            keep_workers(cluster)
            cluster.scale(self._n_planned)

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        self.start_jobs()
        super()._send(call, payload)

    def put_shared(self, contents: memoryview) -> Scattered:
        """Give all workers the contents of a shared object."""
        self.start_jobs()
        return super().put_shared(contents)

    def declared(self) -> tuple[WorkerKind, ...]:
        """What the requested workers will have, even while their jobs wait."""
        return self._planned

    def present(self) -> tuple[WorkerKind, ...]:
        """What the workers have whose jobs have started."""
        return super().declared()

    @property
    def n_workers(self) -> int:
        """The number of workers wanted; some may still wait for their jobs, which start once there are calls."""
        return max(self._n_planned, super().n_workers)

    @property
    def cluster_workers(self) -> ClusterWorkers:
        """How many workers are up, and what the others wait for."""
        return self._watch.told

    def why_waiting(self, call: RemoteFuture) -> str | None:
        """Why a call has not begun: also that workers are not up yet."""
        lack = super().why_waiting(call)
        told = self._watch.told
        return lack if lack is not None or told.are_complete else f"waits for a worker: {told}"

    def _note_loss(self, call: RemoteFuture, worker: str) -> None:
        """End a call that was lost with its worker, once it is known why that was lost."""
        loop: Any = self._cluster.loop
        loop.add_callback(self._end_lost, call, worker)

    async def _end_lost(self, call: RemoteFuture, worker: str) -> None:
        pid = None if call.execution_info is None else call.execution_info.pid
        loss = await self._watch.why_lost(worker, pid)
        error = self.lost(call, loss.how, loss.kind)
        error.pid, error.exit_code = pid, loss.exit_code
        self.end(call, error=error)

    def _kill(self) -> bool:
        return True  # by closing the cluster, which cancels its jobs

    def _close_all(self) -> None:
        self._client.close()
        if self._cluster.status == Status.running:
            self._cluster.sync(self._watch.stop)
        self._cluster.close()
        self._watch.logs.release()
