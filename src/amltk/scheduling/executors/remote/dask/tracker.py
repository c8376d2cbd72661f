"""A plugin for Dask's scheduler, so that no call begins twice and the loss of a worker is reported at once.

Dask silently repeats calls that ran on a lost worker. Here a worker asks the scheduler before it begins a call, and the
scheduler allows each call only once; when a worker is lost, the scheduler reports which calls it had begun.

To ask takes longer than a short call. So the worker that a short call is assigned to first gets a *lease* with it: it
may begin the call without asking, and announces that, see `announcer`. Any other worker must ask for that call, and is
answered when all that the first one has announced is known.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from distributed import get_worker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import sync
from tornado.iostream import StreamClosedError

from amltk.scheduling.executors.execution_info import this_host
from amltk.scheduling.executors.remote.dask.announcer import Announcer, announcer_of
from amltk.scheduling.executors.remote.executor import compute_leaving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Scheduler

LEASE_SECONDS = 0.1
"""The average duration of a function's calls up to which they are leased. For longer ones, asking costs little."""

LAST_WORDS_SECONDS = 10.0
"""How long the announcements of a lost worker are awaited. What it was leased then counts as begun."""

OWNER_CHARS = 16
"""The last part of a key: so many characters that name the executor, and so many that number the call."""


def topic_of(key: str) -> str:
    """The topic of the executor that a call belongs to."""
    return f"amltk-{key[-2 * OWNER_CHARS : -OWNER_CHARS]}"


class _Announcements:
    """What arrives from the announcer of a worker.

    Attributes:
        is_lost: Whether Dask has given up the worker.
        ended: Set when nothing arrives any more.
        is_complete: Whether everything that the worker has announced has arrived then.
    """

    def __init__(self, comm: Any) -> None:
        self.comm: Any = comm
        self.is_lost: bool = False
        self.ended: asyncio.Event = asyncio.Event()
        self.is_complete: bool = False


class Tracker(SchedulerPlugin):  # type: ignore[misc] # distributed has no types
    """Lives in Dask's scheduler, one for all executors that use it.

    It remembers a begun call until its client releases it: an outcome that is lost with its worker before it was
    fetched is lost too, and no reason to compute the call again.

    Each event goes to the topic of the executor that owns the call: `("begun", key, worker, pid, host)`,
    `("ended", key, worker, outcome)` where the outcome is small, `("lost", key, worker)`, and
    `("left", key, "", outcome)` where the result stays on its worker. An executor that has asked what workers declare
    is notified when workers come and go: `("workers", "", worker)`.
    """

    name = "amltk-tracker"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Register the handlers that workers and clients call."""
        self._scheduler = scheduler
        self._topics: set[str] = set()  # of all executors
        self._begun: dict[str, tuple[str, str]] = {}  # by key: worker and topic
        self._begun_by: dict[str, dict[str, None]] = {}  # by worker: keys
        self._assigned: dict[str, _Announcements | None] = {}  # by key: who has the lease
        self._announcements: dict[str, _Announcements] = {}  # by worker
        self._watching: set[str] = set()  # topics
        self._waiting: set[asyncio.Task[None]] = set()  # to report what is lost with a worker
        scheduler.handlers["amltk_begin"] = self.begin
        scheduler.handlers["amltk_left"] = self.leave
        scheduler.handlers["amltk_declared"] = self.declared
        scheduler.handlers["amltk_listen"] = self.listen
        scheduler.stream_handlers["amltk-enter"] = self.enter
        scheduler.stream_handlers["amltk-exit"] = self.exit

    def enter(self, topic: str, client: str = "") -> None:  # noqa: ARG002 - the client that says so
        """Know an executor."""
        self._topics.add(topic)

    def exit(self, topic: str, client: str = "") -> None:  # noqa: ARG002 - the client that says so
        """Forget an executor, and report nothing about workers to it."""
        self._topics.discard(topic)
        self._watching.discard(topic)

    # ------------------------------------------------------------------ from workers

    async def begin(self, key: str, worker: str, pid: int, host: str, topic: str) -> bool:
        """Whether a worker may begin a call: it has not begun before, and is not released."""
        lessee = None if key in self._begun else self._assigned.get(key)
        is_known = lessee is None or await self._is_heard_out(lessee)
        if worker not in self._scheduler.workers:
            return False  # It was given up while it was suspended. Another worker has the call, and asks, too.
        if not is_known:
            self._begun.setdefault(key, (worker, topic))
            self._scheduler.log_event(topic, ("lost", key, worker))
            return False
        return self._note_begun(key, worker, pid, host)

    def _note_begun(self, key: str, worker: str, pid: int, host: str) -> bool:
        if key in self._begun or key not in self._scheduler.tasks:
            return False
        topic = topic_of(key)
        self._begun[key] = (worker, topic)
        self._begun_by.setdefault(worker, {})[key] = None
        self._scheduler.log_event(topic, ("begun", key, worker, pid, host))
        return True

    @staticmethod
    async def _is_heard_out(lessee: _Announcements) -> bool:
        """Wait until everything that a lessee has announced is known, if it is lost; False if that cannot be known."""
        if not (lessee.is_lost or lessee.ended.is_set()):
            return True
        try:
            await asyncio.wait_for(lessee.ended.wait(), LAST_WORDS_SECONDS)
        except TimeoutError:
            lessee.comm.abort()
        return lessee.is_complete

    async def listen(self, comm: Any, worker: str, pid: int, host: str) -> None:
        """Take what a worker announces, until it ends. From now on, it is given leases."""
        here = self._announcements[worker] = _Announcements(comm)
        try:
            while True:
                for kind, key, outcome in await comm.read():
                    if kind == "ended":
                        self._scheduler.log_event(topic_of(key), ("ended", key, worker, outcome))
                    else:
                        self._note_begun(key, worker, pid, host)
        except OSError as error:
            # Closed by the system when the process has ended; else the network has failed, and the machine may go on.
            here.is_complete = isinstance(error.__cause__, StreamClosedError)
        finally:
            here.ended.set()
            if self._announcements.get(worker) is here:
                del self._announcements[worker]

    def declared(self, topic: str) -> list[tuple[dict[str, float], int]]:
        """What workers declare, and how many declare that. From now on, `topic` is notified when it changes."""
        self._watching.add(topic)
        counts = Counter(tuple(sorted(worker.resources.items())) for worker in self._scheduler.workers.values())
        return [(dict(resources), count) for resources, count in counts.items()]

    def leave(self, key: str, topic: str, outcome: bytes) -> None:
        """Report the outcome of a call whose result stays on its worker, before Dask reports that it has ended."""
        self._scheduler.log_event(topic, ("left", key, "", outcome))

    # ------------------------------------------------------------------ from the scheduler

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Report that a worker has come."""
        for topic in self._watching:
            scheduler.log_event(topic, ("workers", "", worker))

    def transition(self, key: Any, start: Any, finish: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Lease a call with its first assignment; forget a released call."""
        if finish == "processing":
            if isinstance(key, str) and key not in self._assigned and topic_of(key) in self._topics:
                self._assigned[key] = self._lease(key)
        elif finish == "forgotten":
            self._forget_begun(key)
            self._assigned.pop(key, None)

    def _forget_begun(self, key: Any) -> None:
        worker, _ = self._begun.pop(key, (None, None))
        if worker in self._begun_by:
            self._begun_by[worker].pop(key, None)
            if not self._begun_by[worker]:
                del self._begun_by[worker]

    def _lease(self, key: str) -> _Announcements | None:
        task: Any = self._scheduler.tasks[key]
        lessee = self._announcements.get(task.processing_on.address)
        if lessee is not None and 0 <= task.prefix.duration_average <= LEASE_SECONDS:
            # In the same stream as the call, and before it: Dask sends that when all transitions are done.
            self._scheduler.stream_comms[task.processing_on.address].send({"op": "amltk-lease", "key": key})
            return lessee
        return None

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:  # noqa: ARG002
        """Report that a worker is gone, and the calls lost with it."""
        for topic in self._watching:
            scheduler.log_event(topic, ("workers", "", worker))
        here = self._announcements.get(worker)
        if here is None:
            self._report_losses(worker)
        else:
            here.is_lost = True
            waiting = asyncio.create_task(self._report_losses_soon(here, worker))
            self._waiting.add(waiting)
            waiting.add_done_callback(self._waiting.discard)

    async def _report_losses_soon(self, here: _Announcements, worker: str) -> None:
        """Hear it out before: small outcomes may be on their way, of calls that are not lost then."""
        await self._is_heard_out(here)
        self._report_losses(worker)

    def _report_losses(self, worker: str) -> None:
        for key in self._begun_by.pop(worker, ()):
            _, topic = self._begun[key]
            self._scheduler.log_event(topic, ("lost", key, worker))


def begin_and_compute(key: str, topic: str, payload: bytes, values: Sequence[bytes | None] = ()) -> bytes | None:
    """Compute a call in a Dask worker; None if it has begun before.

    Returns:
        The outcome; or the pickle of the result, if that stays here. Then the outcome goes to the scheduler.

    Raises:
        ConnectionError: The connection to the scheduler was lost just now.
    """
    worker = get_worker()
    announcer = announcer_of(worker)
    announced = None if announcer is None else announcer.take(key)
    if announced is not None:
        announced.result()
    elif not sync(worker.loop, _ask, worker, key, topic):
        return None
    outcome, left = compute_leaving(payload, values)
    if left is not None:
        sync(worker.loop, worker.scheduler.amltk_left, key=key, topic=topic, outcome=outcome)
        return left
    if announcer is not None:
        announcer.end(key, outcome)
    return outcome


async def _ask(worker: Any, key: str, topic: str) -> bool:
    """Ask the scheduler whether a call may begin."""
    if announcer_of(worker) is None:
        await worker.plugin_add(Announcer())
    here = {"worker": worker.address, "pid": os.getpid(), "host": this_host()}
    allowed: bool = await worker.scheduler.amltk_begin(key=key, topic=topic, **here)
    return allowed
