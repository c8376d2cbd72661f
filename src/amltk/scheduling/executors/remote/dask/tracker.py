"""A plugin for Dask's scheduler, so that no call begins twice and the loss of a worker is reported at once.

Dask silently repeats calls that ran on a lost worker. Here a worker asks the scheduler before it begins a call, and the
scheduler allows each call only once; when a worker is lost, the scheduler reports which calls it had begun.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import sync

from amltk.scheduling.executors.execution_info import this_host
from amltk.scheduling.executors.remote.executor import compute_leaving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Scheduler


class Tracker(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Lives in Dask's scheduler, one for all executors that use it.

    It remembers a begun call until its client releases it: an outcome that is lost with its worker before it was
    fetched is lost too, and no reason to compute the call again.

    Each event goes to the topic of the executor that owns the call: `("begun", key, worker, pid, host)`,
    `("lost", key, worker)`, and `("left", key, "", outcome)` where the result stays on its worker. An executor that has
    asked what workers declare is notified when workers come and go: `("workers", "", worker)`.
    """

    name = "amltk-tracker"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Register the handler that workers call."""
        self._scheduler = scheduler
        self._begun: dict[str, tuple[str, str]] = {}  # by key: worker and topic
        self._watching: set[str] = set()  # topics
        scheduler.handlers["amltk_begin"] = self.begin
        scheduler.handlers["amltk_left"] = self.leave
        scheduler.handlers["amltk_declared"] = self.declared
        scheduler.stream_handlers["amltk-ignore-workers"] = self.ignore_workers

    def begin(self, key: str, worker: str, pid: int, host: str, topic: str) -> bool:
        """Whether a worker may begin a call: it has not begun before, and is not released."""
        if key in self._begun or key not in self._scheduler.tasks:
            return False
        self._begun[key] = (worker, topic)
        self._scheduler.log_event(topic, ("begun", key, worker, pid, host))
        return True

    def declared(self, topic: str) -> list[dict[str, float]]:
        """The resources that each worker declares. From now on, `topic` is notified when they change."""
        self._watching.add(topic)
        return [dict(worker.resources) for worker in self._scheduler.workers.values()]

    def leave(self, key: str, topic: str, outcome: bytes) -> None:
        """Report the outcome of a call whose result stays on its worker, before Dask reports that it has ended."""
        self._scheduler.log_event(topic, ("left", key, "", outcome))

    def ignore_workers(self, topic: str, client: str = "") -> None:  # noqa: ARG002 - the client that says so
        """Stop reporting workers to this topic."""
        self._watching.discard(topic)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Report that a worker has come."""
        for topic in self._watching:
            scheduler.log_event(topic, ("workers", "", worker))

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Forget a released call."""
        if finish == "forgotten":
            self._begun.pop(key, None)

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Report that a worker is gone, and the calls lost with it."""
        for topic in self._watching:
            scheduler.log_event(topic, ("workers", "", worker))
        for key, (where, topic) in self._begun.items():
            if where == worker:
                scheduler.log_event(topic, ("lost", key, worker))


def begin_and_compute(key: str, topic: str, payload: bytes, values: Sequence[bytes | None] = ()) -> bytes | None:
    """Compute a call in a Dask worker; None if it has begun before.

    Returns:
        The outcome; or the pickle of the result, if that stays here. Then the outcome goes to the scheduler.
    """
    worker = get_worker()
    here = {"worker": worker.address, "pid": os.getpid(), "host": this_host()}
    allowed = sync(worker.loop, worker.scheduler.amltk_begin, key=key, topic=topic, **here)
    if not allowed:
        return None
    outcome, left = compute_leaving(payload, values)
    if left is None:
        return outcome
    sync(worker.loop, worker.scheduler.amltk_left, key=key, topic=topic, outcome=outcome)
    return left
