"""Watches the jobs of a cluster until their workers connect, and finds out why they were lost."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

from amltk._process import clock
from amltk.exceptions import WorkerLostError
from amltk.scheduling.executors.cluster_workers import ClusterWorkers
from amltk.scheduling.executors.remote.dask.jobs.logs import files_of, quote_logs
from amltk.scheduling.executors.remote.dask.jobs.losses import Loss, find_out
from amltk.scheduling.executors.remote.dask.jobs.queue_state import SlurmQueue
from amltk.scheduling.executors.remote.dask.replacer import place_of, replace_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.remote.dask.jobs.logs import JobLogs
    from amltk.scheduling.executors.remote.dask.jobs.queue_state import Answer, JobQueue, JobState

_log = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
"""How many jobs in succession may fail to start before the cluster is broken, as with processes."""

RETRY_SECONDS = 1.0
"""How many seconds to wait before another job is submitted; twice, three times as many after further failures."""

MOST_RETRY_SECONDS = 60.0

FIRST_LOOK_SECONDS = 1.0
LAST_LOOK_SECONDS = 30.0
"""How often the batch system is asked about jobs whose workers have not connected: at first, and at last."""

UNKNOWN = Loss(WorkerLostError, "the worker was lost")

UNKNOWN_TIMES = 2
"""How many times in a row the batch system has to say that it does not know a job, which then has ended."""


@dataclass(slots=True)
class Awaited:
    """A job whose worker has not connected yet.

    Attributes:
        job: The job.
        submitted: When it was submitted, in seconds since the epoch.
        name: How the batch system calls it; None if it cannot be asked about it.
        state: What the batch system said last; None if it was not asked, or did not answer.
        n_unknown: How many times in a row the batch system has said that it does not know it.
    """

    job: Any
    submitted: float
    name: str | None
    state: JobState | None = None
    n_unknown: int = 0

    def heed(self, answer: Answer) -> None:
        """Take what the batch system says."""
        assert self.name is not None, "it was asked about"
        state = answer.get(self.name)
        self.n_unknown = self.n_unknown + 1 if state is None and self.name in answer else 0
        if state is not None:
            self.state = state


class JobWatch(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Submits another job where one fails to start, and gives up after some.

    Its methods run on the loop of the cluster, except where they say otherwise.

    Args:
        queue: Asks the batch system; None if it cannot be asked.
        logs: Where the jobs write.
        n_workers: How many workers there are to be.
        worker_timeout: How many seconds to wait for the first worker, from the first job on; None for as long as it
            takes.
        adaptive: Whether Dask decides how many of them there are to be now.

    Attributes:
        logs: As above.
        told: How many workers are up, and what the others wait for. May be read from any thread.
    """

    name = "amltk-jobs"

    def __init__(
        self,
        queue: JobQueue | None,
        logs: JobLogs,
        n_workers: int,
        worker_timeout: float | None,
        *,
        adaptive: bool,
    ) -> None:
        self.told: ClusterWorkers = ClusterWorkers(0, 0 if adaptive else n_workers)
        self._queue = queue
        self.logs = logs
        self._n_workers = n_workers
        self._worker_timeout = worker_timeout
        self._adaptive = adaptive
        self._cluster: Any = None
        self._on_broken: Callable[[str], object]
        self._awaited: dict[Any, Awaited] = {}  # by place
        self._jobs: dict[str, Any] = {}  # by the address of a worker that was up once
        self._up: dict[str, Any] = {}  # the places of those that are up now
        self._tries: dict[Any, int] = {}  # of places that took the place of others
        self._last_said = ""
        self._looker: asyncio.Task[None] | None = None
        self._inquiries: dict[str, asyncio.Task[Loss]] = {}  # by the address of a worker
        self._deadline: Any = None
        self._is_over = False

    # ------------------------------------------------------------------ what happens

    async def begin(self, cluster: Any, on_broken: Callable[[str], object]) -> None:
        """Start to watch, before the first job is submitted.

        Args:
            cluster: The cluster.
            on_broken: Called with the reason when there will be no workers.
        """
        self._cluster = cluster
        self._on_broken = on_broken
        self._news = asyncio.Event()
        cluster.scheduler.add_plugin(self)
        if self._worker_timeout is not None:
            self._deadline = cluster.loop.call_later(self._worker_timeout, self._give_up_waiting)

    async def stop(self) -> None:
        """Watch no more."""
        self._is_over = True
        if self._deadline is not None:
            self._cluster.loop.remove_timeout(self._deadline)
        tasks = [task for task in (self._looker, *self._inquiries.values()) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def submitted(self, job: Any) -> None:
        """Wait for the worker of a job."""
        name = None if self._queue is None else self._queue.name_of(job.job_id, job.announced, job.submit_command)
        if name is None:
            _log.debug("the batch system is not asked about the job %s", job.job_id)
        self._awaited[job.name] = Awaited(job, clock.now(), name)
        self._tell()
        self._news.set()
        if name is not None and self._looker is None and not self._is_over:
            self._looker = asyncio.ensure_future(self._look())

    def refused(self, job: Any, words: str, *, is_final: bool) -> None:
        """React to a job that the batch system did not accept.

        Args:
            job: The job.
            words: What the batch system said.
            is_final: Whether another try is of no use.
        """
        self._fail(job.name, words, kind=words, is_final=is_final)

    def closed(self, job: Any) -> None:
        """Wait for a job no more: it was cancelled."""
        if self._awaited.pop(job.name, None) is not None:
            self._tell()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Note that the worker of a job is up."""
        place = place_of(self._cluster, scheduler.workers[worker])
        if place is None:
            return
        awaited = self._awaited.pop(place, None)
        self._jobs[worker] = awaited.job if awaited is not None else self._cluster.workers.get(place)
        self._up[worker] = place
        self._tries.pop(place, None)
        self._last_said = ""
        if self._deadline is not None:
            self._cluster.loop.remove_timeout(self._deadline)
            self._deadline = None
        self._tell()

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Note that a worker is gone."""
        if self._up.pop(worker, None) is not None:
            self._tell()

    async def why_lost(self, worker: str, pid: int | None) -> Loss:
        """Why a worker was lost; this may take some seconds.

        Args:
            worker: Its address.
            pid: Its process; None if unknown.
        """
        job = self._jobs.get(worker)
        if job is None or self._is_over:
            return UNKNOWN
        if worker not in self._inquiries:
            slurm = self._queue if isinstance(self._queue, SlurmQueue) else None
            inquiry = find_out(slurm, job, worker, pid, lambda: job.name in self._up.values())
            self._inquiries[worker] = asyncio.ensure_future(inquiry)
        asked = self._inquiries[worker]
        await asyncio.wait([asked])
        # Whatever came of it: a call without an end would be worse than an unknown reason.
        return UNKNOWN if asked.cancelled() or asked.exception() is not None else asked.result()

    # ------------------------------------------------------------------ jobs that wait

    async def _look(self) -> None:
        """Ask the batch system about jobs whose workers have not connected, as long as there are any."""
        pause = FIRST_LOOK_SECONDS
        try:
            while self._awaited and not self._is_over:
                try:
                    await asyncio.wait_for(self._news.wait(), pause)
                except TimeoutError:
                    pause = min(LAST_LOOK_SECONDS, 1.5 * pause)
                    await self._look_once()
                else:
                    self._news.clear()
                    pause = FIRST_LOOK_SECONDS
        finally:
            self._looker = None

    async def _look_once(self) -> None:
        asked = {place: awaited for place, awaited in self._awaited.items() if awaited.name is not None}
        if not asked or self._queue is None:
            return
        answer = await self._queue.look([awaited.name for awaited in asked.values() if awaited.name is not None])
        for place, awaited in asked.items():
            if self._awaited.get(place) is not awaited:
                continue  # its worker came meanwhile, or it was cancelled
            awaited.heed(answer)
            job_id, state = awaited.job.job_id, awaited.state
            is_gone = awaited.n_unknown == UNKNOWN_TIMES
            if is_gone or (state is not None and state.has_ended):
                how = "" if is_gone or state is None else f" ({state.state})"
                quoted = quote_logs(awaited.job.log_directory, job_id)
                self._fail(
                    place, f"job {job_id} ended{how} before its worker had connected; {quoted}", kind=f"ended{how}"
                )
            elif state is not None and state.waits_forever:
                words = f"job {job_id} waits for what does not come by itself: {state.reason}"
                self._fail(place, words, kind=state.reason)
        self._tell()

    def _fail(self, place: Any, words: str, *, kind: str, is_final: bool = False) -> None:
        """Submit another job for a place, or give up; failures of the same `kind` are logged once."""
        self._awaited.pop(place, None)
        self._tell()
        tries = self._tries.pop(place, 0) + 1
        if not self._is_needed(place):
            return
        if is_final or (tries >= MAX_FAILED_STARTS and not self._has_workers_like(place)):
            times = f"\nThat happened {tries} times in succession." if tries > 1 else ""
            self._break(f"{words}{times}")
            return
        if kind != self._last_said:
            self._last_said = kind
            _log.warning("%s\nAnother job is submitted.", words)
        pause = min(MOST_RETRY_SECONDS, tries * RETRY_SECONDS)
        self._cluster.loop.call_later(pause, self._replace, place, tries)

    async def _replace(self, place: Any, tries: int) -> None:
        if self._is_needed(place):
            new = self._cluster.new_worker_spec()
            self._tries.update(dict.fromkeys(new, tries))
            await replace_place(self._cluster, new, place)

    def _is_needed(self, place: Any) -> bool:
        running = self._cluster.status.name == "running"
        return not self._is_over and running and place in self._cluster.worker_spec

    def _has_workers_like(self, place: Any) -> bool:
        """Whether a worker of the same kind is up: then calls are computed, and it may take time to get more."""
        kinds = self._cluster.worker_spec
        kind = kinds[place].get("of")
        return any(other in kinds and kinds[other].get("of") is kind for other in self._up.values())

    def _give_up_waiting(self) -> None:
        self._deadline = None
        if not self._up and not self._is_over:
            jobs = [awaited.job for awaited in self._awaited.values()]
            logs = (
                quote_logs(job.log_directory, job.job_id) for job in jobs if files_of(job.log_directory, job.job_id)
            )
            said = next(logs, self.logs.said())  # no other log is read
            self._break(f"no worker was up within worker_timeout={self._worker_timeout:g} s: {self.told}; {said}")

    def _break(self, words: str) -> None:
        self._is_over = True
        self._on_broken(words)

    # ------------------------------------------------------------------ for displays

    def _tell(self) -> None:
        """Set `told`."""
        awaited = self._awaited.values()
        waiting = [one for one in awaited if one.state is None or one.state.is_queued]
        first = min(waiting, key=lambda one: one.submitted, default=None)
        self.told = ClusterWorkers(
            len(self._up),
            len(self._cluster.plan) if self._adaptive else self._n_workers,
            len(waiting),
            len(awaited) - len(waiting),
            None if first is None else first.submitted,
            "" if first is None or first.state is None else first.state.reason,
        )
