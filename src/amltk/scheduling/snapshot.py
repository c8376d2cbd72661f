"""The state of a scheduler at one moment, in immutable objects, for displays and monitors.

Taking a snapshot takes time proportional to the number of tasks and workers, not to what is pending, and is possible on
any thread.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from amltk._process import clock
from amltk.scheduling._run.calls.status import in_use, waits_of
from amltk.scheduling._run.to_come import calls_to_come
from amltk.scheduling.executors.execution_info import execution_info, this_host
from amltk.scheduling.future import devices_of, task_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.scheduling.events import Event
    from amltk.scheduling.executors.cluster_workers import ClusterWorkers
    from amltk.scheduling.executors.execution_info import ExecutionInfo
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of submissions in each state.

    Attributes:
        unended: Submissions that have not ended.
        running: Unended submissions that a worker has begun; None if the executor does not report it.
        done: Submissions that ended with a result.
        failed: Submissions that ended with an exception.
        cancelled: Submissions that were cancelled.
    """

    unended: int
    running: int | None
    done: int
    failed: int
    cancelled: int

    @property
    def pending(self) -> int | None:
        """Unended submissions that no worker has begun; None if the executor does not report it."""
        return None if self.running is None else self.unended - self.running

    @property
    def computed(self) -> int:
        """Submissions that ended with a result or an exception."""
        return self.done + self.failed

    @property
    def ended(self) -> int:
        """All submissions that have ended."""
        return self.computed + self.cancelled

    @property
    def submitted(self) -> int:
        """All submissions."""
        return self.unended + self.ended

    def since(self, earlier: Counts) -> Counts:
        """The same counts, without the submissions that had ended in `earlier`."""
        return replace(
            self,
            done=self.done - earlier.done,
            failed=self.failed - earlier.failed,
            cancelled=self.cancelled - earlier.cancelled,
        )


@dataclass(frozen=True, slots=True)
class RunningCall:
    """A call that a worker is running.

    Attributes:
        future: Its future.
        name: The name of its task, or of its function if it has no task.
        where: A description of the worker, such as `process 4711`; empty if unknown.
        since: When the worker began it, in seconds since the epoch; None if unknown.
        devices: The individual things that it has, such as `gpu 0`.
    """

    future: Future[Any]
    name: str
    where: str
    since: float | None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """The status of a plugin.

    Attributes:
        name: Its name.
        status: One short line; empty if there is nothing to show.
    """

    name: str
    status: str


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How much of a resource is in use.

    Attributes:
        name: Its name.
        used: How much of it running calls have.
        total: How much there is.
    """

    name: str
    used: float
    total: float


@dataclass(frozen=True, slots=True)
class Waits:
    """What calls wait for that the executor does not have yet.

    Attributes:
        calls: How many calls wait.
        pools: For each resource that some of them lack, how many lack it; a call may lack several. A call that
            lacks only a worker, or its turn, is not counted.
        dependencies: How many wait for the results of other calls.
    """

    calls: int = 0
    pools: Mapping[str, int] = field(default_factory=dict)
    dependencies: int = 0


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """The state of one task.

    Attributes:
        task: The task.
        counts: Its submissions, over all runs.
        total: How many submissions there will be in total, over all runs; None if no plugin and no map knows.
        plugins: Its plugins, in the order in which they are called.
        events: Counts of its own events, beyond those that every task has.
    """

    task: Task[..., Any]
    counts: Counts
    total: int | None
    plugins: tuple[PluginStatus, ...]
    events: Mapping[Event[..., Any], int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a scheduler at one moment.

    Attributes:
        time: The moment, in seconds since the epoch.
        accepting: Whether it accepts submissions, see `Scheduler.running`.
        counts: Its submissions, over all runs, including those without a task.
        calls: The running calls; empty if the executor does not report them.
        tasks: Its tasks, in the order in which they were created.
        callback_exceptions: How often a callback or a plugin raised, over all runs.
        pools: The resources that are counted in this program; those that Ray counts are not.
        waits: What calls wait for.
        workers: How many workers of a cluster are up, and what the others wait for; None if the executor does not
            report it.
    """

    time: float
    accepting: bool
    counts: Counts
    calls: tuple[RunningCall, ...]
    tasks: tuple[TaskSnapshot, ...]
    callback_exceptions: int = 0
    pools: tuple[PoolUse, ...] = ()
    waits: Waits = field(default_factory=Waits)
    workers: ClusterWorkers | None = None

    @classmethod
    def of(cls, scheduler: Scheduler) -> Snapshot:
        """Take a snapshot now."""
        calls = scheduler.running_calls()
        by_task = None if calls is None else Counter(future.task for future in calls)
        done, failed, cancelled = (
            scheduler.emitter.channel(event).count
            for event in (scheduler.FUTURE_RESULT, scheduler.FUTURE_EXCEPTION, scheduler.FUTURE_CANCELLED)
        )
        return cls(
            time=clock.now(),
            accepting=scheduler.running(),
            counts=_counts(scheduler.n_pending, None if calls is None else len(calls), done, failed, cancelled),
            calls=tuple(map(_running_call, calls or ())),
            tasks=tuple(_task(task, None if by_task is None else by_task[task]) for task in list(scheduler.tasks)),
            callback_exceptions=scheduler.callback_exceptions,
            pools=tuple(PoolUse(*use) for use in in_use(scheduler.pools)),
            waits=_waits(scheduler),
            workers=getattr(scheduler.executor, "cluster_workers", None),
        )


def _waits(scheduler: Scheduler) -> Waits:
    run = scheduler.find_run()
    return Waits() if run is None else Waits(*waits_of(run, scheduler.pools))


def _counts(unended: int, running: int | None, done: int, failed: int, cancelled: int) -> Counts:
    # On a thread other than the loop's, a call that was found running may have ended by now.
    return Counts(unended, None if running is None else min(running, unended), done, failed, cancelled)


def _running_call(future: Future[Any]) -> RunningCall:
    name = task_name(future)
    told = execution_info(future.work)
    where, since = ("", None) if told is None else (_place(told), told.began)
    return RunningCall(future, name, where, since, devices_of(future))


def _place(told: ExecutionInfo) -> str:
    """A description of where it is computed."""
    if told.pid is None:
        return ""
    is_thread = told.thread is not None and told.pid == os.getpid()
    where = f"thread {told.thread}" if is_thread else f"process {told.pid}"
    return where if told.host in (None, this_host()) else f"{where} on {told.host}"


def _task(task: Task[..., Any], running: int | None) -> TaskSnapshot:
    channels = task.channels
    endings = (channels.result, channels.exception, channels.cancelled)
    counts = _counts(task.n_pending, running, *(channel.count for channel in endings))
    everyones = {channel.event for channel in channels}
    return TaskSnapshot(
        task,
        counts,
        _total(counts, task),
        tuple(PluginStatus(plugin.name, plugin.status()) for plugin in task.plugins),
        {event: count for event, count in task.event_counts.items() if event not in everyones},
    )


def _total(counts: Counts, task: Task[..., Any]) -> int | None:
    """Submissions so far and those to come: as many as plugins still allow, and the remaining items of maps."""
    to_come = calls_to_come(task)
    return None if to_come is None else counts.submitted + to_come
