"""A Dask cluster of our own keeps its number of workers."""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

RETURN_TIME = 10.0
"""Seconds within which a worker that died may come back in its place, before the place is given to another."""


def keep_workers(cluster: Any, n_workers: int) -> None:
    """Have a cluster replace the workers that it loses for ever.

    Args:
        cluster: A `SpecCluster`, whose Dask scheduler is in this process.
        n_workers: How many there should be.
    """
    replacer = _Replacer(cluster, n_workers)
    cluster.loop.add_callback(replacer.watch)


class _Replacer(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Gives a worker's place to another when nobody has come back to it.

    A place is a job of a batch system or a process with a nanny. The job may be cancelled, preempted, out of time, or
    gone with its machine. Nannies restart their workers, but `SpecCluster` closes, for ever, one whose worker happens
    to be on its way up again 15 s after it was lost before.
    """

    name = "amltk-replacer"

    def __init__(self, cluster: Any, n_workers: int) -> None:
        self._cluster = cluster
        self._n_workers = n_workers
        self._places: dict[str, Any] = {}  # by address of a worker

    def watch(self) -> None:
        """Begin, on the loop of the cluster."""
        scheduler = self._cluster.scheduler
        scheduler.add_plugin(self)
        for worker in scheduler.workers:
            self.add_worker(scheduler, worker)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note where a worker is."""
        worker_name = str(scheduler.workers[worker].name)
        for place in self._cluster.worker_spec:
            if worker_name == str(place) or worker_name.rpartition("-")[0] == str(place):  # of several in one job
                self._places[worker] = place

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Look after a while whether its place has still a worker."""
        place = self._places.pop(worker, None)
        if place is not None and self._is_needed(place):
            self._cluster.loop.call_later(RETURN_TIME, self._replace, place)

    def _is_needed(self, place: Any) -> bool:
        return self._cluster.status.name == "running" and place in self._cluster.worker_spec

    async def _replace(self, place: Any) -> None:
        if self._is_needed(place) and place not in self._places.values():
            await self._cluster.scale_down([place])  # for itself: the next job may get the same name
            self._cluster.scale(self._n_workers)
