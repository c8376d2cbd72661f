"""What a Dask scheduler is taught, so that no call is begun twice and the loss of a worker is told at once.

Dask repeats what ran on a worker that it has lost, without a word. Here a worker asks the scheduler before it begins a
call, and the scheduler allows each only once; when a worker is gone, the scheduler tells which calls it had begun.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import sync

from amltk.scheduling.executors.remote import compute
from amltk.scheduling.executors.whereabouts import this_host

if TYPE_CHECKING:
    from distributed import Scheduler


class Tracker(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Lives in Dask's scheduler, one for all the executors that use it.

    It keeps the calls that were begun until their client lets go of them: an outcome that is lost with its worker,
    before it was fetched, is lost as well, and not a reason to make the call again.

    Each event goes to the topic of the executor that the call belongs to: `("begun", key, worker, pid, host)` and
    `("lost", key, worker)`.
    """

    name = "amltk-tracker"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Let workers ask."""
        self._scheduler = scheduler
        self._begun: dict[str, tuple[str, str]] = {}  # by key: worker and topic
        scheduler.handlers["amltk_begin"] = self.begin

    def begin(self, key: str, worker: str, pid: int, host: str, topic: str) -> bool:
        """Whether a worker may begin a call: it was not begun before, and is still wanted."""
        if key in self._begun or key not in self._scheduler.tasks:
            return False
        self._begun[key] = (worker, topic)
        self._scheduler.log_event(topic, ("begun", key, worker, pid, host))
        return True

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Let go of a call that nobody wants any more."""
        if finish == "forgotten":
            self._begun.pop(key, None)

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Tell what was lost with a worker."""
        for key, (where, topic) in self._begun.items():
            if where == worker:
                scheduler.log_event(topic, ("lost", key, worker))


def begin_and_compute(key: str, topic: str, parcel: bytes) -> bytes | None:
    """Make a call, in a Dask worker; None if it was begun before."""
    worker = get_worker()
    here = {"worker": worker.address, "pid": os.getpid(), "host": this_host()}
    allowed = sync(worker.loop, worker.scheduler.amltk_begin, key=key, topic=topic, **here)
    return compute(parcel) if allowed else None
