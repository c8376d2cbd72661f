"""The batch systems of clusters, with dask-jobqueue: Dask workers that run as jobs."""

from __future__ import annotations

import re
from typing import Any

from distributed.core import Status

from amltk._checks import check_count
from amltk.scheduling.executors.remote.dask.executor import ANY_PORT, OwnDaskExecutor
from amltk.scheduling.executors.remote.dask.replacer import keep_workers
from amltk.scheduling.executors.remote.signal_handlers import kept_handlers

with kept_handlers():
    import dask_jobqueue  # importing 0.9 makes Ctrl-C exit at once

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

MARGIN_SECONDS = 60.0
"""How many seconds before its walltime a worker leaves on its own; at most a fifth of the walltime."""


def make(
    name: str,
    *,
    n_workers: int,
    adaptive: bool = False,
    submit_command: str | None = None,
    cancel_command: str | None = None,
    **options: Any,
) -> JobQueueExecutor:
    """Submit jobs to a batch system, and create an executor over the Dask workers in them.

    Args:
        name: The batch system, a key of `CLUSTERS`.
        n_workers: How many workers, at least 1.
        adaptive: Scale between 0 and `n_workers` workers with the amount of work.
        submit_command: Replaces `sbatch`, `qsub`, ...
        cancel_command: Replaces `scancel`, `qdel`, ...
        **options: The options of the class in dask-jobqueue: `queue`, `cores`, `memory`, `walltime`, ...

    Raises:
        ValueError: There is no such batch system, or `n_workers` is below 1, or an option is unknown or missing.
        TypeError: `n_workers` is no whole number.
    """
    if name not in CLUSTERS:
        raise ValueError(f"name={name!r}: must be one of {', '.join(repr(known) for known in CLUSTERS)}")
    n_workers = check_count("n_workers", n_workers)
    cluster_class = getattr(dask_jobqueue, CLUSTERS[name])
    job_class = cluster_class.job_cls
    commands = {"submit_command": submit_command, "cancel_command": cancel_command}
    # A subclass, since dask-jobqueue stores the commands in the class, which others use too.
    job_class = type(job_class.__name__, (job_class,), {k: v for k, v in commands.items() if v is not None})
    extra = list(options.pop("worker_extra_args", ()))
    lifetime = lifetime_below(options.get("walltime"))
    if lifetime is not None and "--lifetime" not in extra:
        extra += ["--lifetime", f"{lifetime:.0f}s"]
    scheduler_options = {"dashboard_address": ANY_PORT, **options.pop("scheduler_options", {})}
    cluster = cluster_class.__new__(cluster_class)
    try:
        cluster.__init__(job_cls=job_class, worker_extra_args=extra, scheduler_options=scheduler_options, **options)
    except BaseException:
        cluster.status = Status.closed  # otherwise it warns, when garbage-collected, that it was not closed
        raise
    return JobQueueExecutor(cluster, n_workers, adaptive=adaptive)


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

    Args:
        cluster: The cluster; at the end it is closed and its jobs are cancelled.
        n_workers: How many workers.
        adaptive: Scale up to that many instead.
    """

    def __init__(self, cluster: Any, n_workers: int, *, adaptive: bool) -> None:
        super().__init__(cluster)
        self._n_workers = n_workers
        if adaptive:
            cluster.adapt(minimum=0, maximum=n_workers)
        else:
            keep_workers(cluster)
            cluster.scale(n_workers)

    @property
    def n_workers(self) -> int:
        """The number of workers wanted; some may still wait for their jobs, which start once there are calls."""
        return max(self._n_workers, super().n_workers)

    def _kill(self) -> bool:
        return True  # by closing the cluster, which cancels its jobs
