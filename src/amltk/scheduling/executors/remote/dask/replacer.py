"""Keeps the number of workers of a Dask cluster that we created."""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

RETURN_SECONDS = 10.0
"""How many seconds a lost worker has to come back before its place is replaced."""


def keep_workers(cluster: Any) -> None:
    """Make a cluster replace the workers that it loses permanently.

    Args:
        cluster: A `SpecCluster`, whose Dask scheduler is in this process.
    """
    replacer = _Replacer(cluster)
    cluster.loop.add_callback(replacer.watch)


def place_of(cluster: Any, worker: Any) -> Any:
    """The place of a worker, as its Dask scheduler knows it; None if it has none in this cluster."""
    name = str(worker.name)
    for said in (name, name.rpartition("-")[0]):  # the latter for one of several in a job
        for place in (said, int(said) if said.isdecimal() else said):
            if place in cluster.worker_spec:
                return place
    return None


async def replace_place(cluster: Any, new: dict[Any, Any], place: Any) -> None:
    """Put new places of a cluster, as `new_worker_spec` makes them, in the stead of another, which is closed."""
    # First, so that the new place gets another name: 15 s after the loss of a worker, `SpecCluster` closes the place of
    # its name if there is no worker then, even if a new job is still starting, or waiting.
    cluster.worker_spec.update(new)
    await cluster.scale_down([place])


class _Replacer(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Replaces a worker's place when no worker has come back to it.

    A place is a job of a batch system or a process with a nanny. The job may be cancelled, preempted, out of time, or
    lost with its machine. Nannies restart their workers, but `SpecCluster` permanently closes a nanny whose worker
    happens to be restarting 15 s after an earlier loss.
    """

    name = "amltk-replacer"

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._places: dict[str, Any] = {}  # by worker address

    def watch(self) -> None:
        """Start, on the loop of the cluster."""
        scheduler = self._cluster.scheduler
        scheduler.add_plugin(self)
        for worker in scheduler.workers:
            self.add_worker(scheduler, worker)

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note the place of a worker."""
        place = place_of(self._cluster, scheduler.workers[worker])
        if place is not None:
            self._places[worker] = place

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Check after a while whether its place has a worker again."""
        place = self._places.pop(worker, None)
        if place is not None and self._is_needed(place):
            self._cluster.loop.call_later(RETURN_SECONDS, self._replace, place)

    def _is_needed(self, place: Any) -> bool:
        return self._cluster.status.name == "running" and place in self._cluster.worker_spec

    async def _replace(self, place: Any) -> None:
        if self._is_needed(place) and place not in self._places.values():
            await replace_place(self._cluster, self._cluster.new_worker_spec(), place)
