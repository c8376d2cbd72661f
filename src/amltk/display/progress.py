"""The progress of a run, worked out from successive snapshots of a scheduler."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amltk.display import wording
from amltk.display.pace import Pace
from amltk.scheduling.scheduler_events import STOP_MESSAGE
from amltk.scheduling.snapshot import Counts, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler
from amltk.scheduling.snapshot import RunningCall, TaskSnapshot

KEPT_FAILURES = 5
"""How many of the last failures are kept."""

NOTHING = Counts(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class TaskProgress:
    """The progress of one task.

    Attributes:
        name: Its name.
        counts: Its submissions in this run.
        notes: The status of its plugins, and the events of those plugins in this run.
    """

    name: str
    counts: Counts
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CallProgress:
    """One call that is running in a worker.

    Attributes:
        name: A label of the call, with its arguments.
        where: A description of the worker; empty if unknown.
        seconds: How long it has been running.
    """

    name: str
    where: str
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A failed call.

    Attributes:
        name: A label of the call, with its arguments.
        text: The error, on one line.
        at: Seconds since the start of the run.
    """

    name: str
    text: str
    at: float


@dataclass(frozen=True)
class Progress:
    """The progress of a run at one moment; all times are in seconds.

    Attributes:
        state: `"starting"`, `"running"`, `"finishing"` or `"finished"`, with the reason if there is one.
        active: Whether it is running.
        elapsed: The time since the start.
        timeout: The timeout; None if there is none.
        rate: Computed calls per second.
        counts: All submissions of this run.
        total: How many submissions there will be in total; None if unknown.
        to_go: The time until all known submissions have ended, at the present rate; None if there is no estimate.
        tasks: All tasks, in the order in which they were created.
        calls: The running calls, the earliest first; empty if the executor does not report them.
        failures: The last failed calls, the latest first.
        callback_exceptions: How often a callback or a plugin raised in this run.
        pools: How much of each resource is in use, in words.
        waits: What calls wait for, in words; empty if none waits.
        workers: How many workers of a cluster are up, in words; empty if all are.
        uncounted: How much of `elapsed` does not count for the timeout: the time until the first worker was up.
    """

    state: str
    active: bool
    elapsed: float
    timeout: float | None
    rate: float
    counts: Counts
    total: int | None
    to_go: float | None
    tasks: tuple[TaskProgress, ...]
    calls: tuple[CallProgress, ...]
    failures: tuple[Failure, ...]
    callback_exceptions: int = 0
    pools: tuple[str, ...] = ()
    waits: str = ""
    workers: str = ""
    uncounted: float = 0.0


class Observer:
    """Follows one run of a scheduler, from `open` to `close`.

    Args:
        scheduler: The scheduler to follow.
        timeout: The timeout of the run in seconds; None if it has none.
        clock: Returns the time in seconds.
    """

    def __init__(self, scheduler: Scheduler, timeout: float | None, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._timeout = timeout
        self._clock = clock
        self._begin = clock()
        self._uncounted = 0.0
        self._pace = Pace()
        # A scheduler may run many times: everything from before this run is left out of the numbers.
        before = Snapshot.of(scheduler)
        self._counts_before = before.counts
        self._callback_exceptions_before = before.callback_exceptions
        self._tasks_before = {task.task: task for task in before.tasks}
        self._events_before = scheduler.event_counts
        self._running_since: dict[Future[Any], float] = {}
        self._failures: deque[tuple[Future[Any], BaseException, float]] = deque(maxlen=KEPT_FAILURES)
        self._labels: dict[Future[Any], str] = {}  # of what is shown: the repr of an argument may be slow
        self._reason = ""  # why it was stopped, in the words of what stopped it
        self._subscriptions: list[Subscription] = []

    @property
    def elapsed(self) -> float:
        """Seconds since it was opened."""
        return self._clock() - self._begin

    def open(self) -> None:
        """Start following it."""
        self._begin = self._clock()
        self._subscriptions = [
            self._scheduler.on_future_exception.register(self._note_failure, hidden=True),
            self._scheduler.on_stop.register(self._note_reason, hidden=True),
        ]

    def close(self) -> None:
        """Stop following it. Harmless when repeated."""
        for subscription in self._subscriptions:
            subscription.end()

    def observe(self) -> Progress:
        """The progress now."""
        elapsed = self.elapsed
        snapshot = Snapshot.of(self._scheduler)
        counts = snapshot.counts.since(self._counts_before)
        run = self._scheduler.find_run()
        if run is not None and run.deadline is None:
            self._uncounted = elapsed
        total = self._total(snapshot, counts)
        self._pace.read(elapsed, counts)
        shown = [call.future for call in snapshot.calls] + [future for future, *_ in self._failures]
        self._labels = {future: self._labels.get(future) or future.label for future in shown}
        return Progress(
            state=self._state(active=snapshot.accepting),
            active=snapshot.accepting,
            elapsed=elapsed,
            timeout=self._timeout,
            rate=self._pace.rate(elapsed, counts),
            counts=counts,
            total=total if snapshot.accepting else None,
            to_go=self._pace.to_go(elapsed, counts, total if snapshot.accepting else counts.submitted),
            tasks=tuple(map(self._task, snapshot.tasks)),
            calls=self._calls(snapshot),
            failures=tuple(
                Failure(self._labels[future], wording.error_in_short(error), at) for future, error, at in self._failures
            ),
            callback_exceptions=snapshot.callback_exceptions - self._callback_exceptions_before,
            pools=tuple(map(wording.pool, snapshot.pools)),
            waits=wording.waits(snapshot.waits),
            workers=wording.workers(snapshot.workers),
            uncounted=self._uncounted,
        )

    def _state(self, *, active: bool) -> str:
        scheduler = self._scheduler
        happened = scheduler.event_counts - self._events_before
        if active:
            return "running"
        if not happened[scheduler.STARTED]:
            return "starting"
        state = "finished" if happened[scheduler.FINISHED] else "finishing"
        if happened[scheduler.TIMEOUT]:
            return f"{state}: timeout"
        if not happened[scheduler.STOP]:
            return state
        return f"{state}: stopped ({self._reason})" if self._reason else f"{state}: stopped"

    def _counts_of(self, task: TaskSnapshot) -> Counts:
        before = self._tasks_before.get(task.task)  # None if it was created during the run
        return task.counts.since(NOTHING if before is None else before.counts)

    def _total(self, snapshot: Snapshot, counts: Counts) -> int | None:
        """How many submissions there will be in this run; None unless it is known for every task that has any."""
        total = known = 0
        for task in snapshot.tasks:
            if task.total is not None:
                of_task = self._counts_of(task).submitted
                known += of_task
                total += of_task + task.total - task.counts.submitted
        return total if total and known == counts.submitted else None

    def _task(self, task: TaskSnapshot) -> TaskProgress:
        plugins = [f"{plugin.name}  {plugin.status}".rstrip() for plugin in task.plugins]
        before = self._tasks_before.get(task.task)
        happened = {
            event: count - (0 if before is None else before.events.get(event, 0))
            for event, count in task.events.items()
        }
        events = [f"{event}  {count:,}" for event, count in happened.items() if count]
        return TaskProgress(task.task.name, self._counts_of(task), (*plugins, *events))

    def _calls(self, snapshot: Snapshot) -> tuple[CallProgress, ...]:
        now = self._clock()
        # If the executor does not report when a call began, its start is noticed here: one redraw late is early enough.
        self._running_since = {call.future: self._began(call, snapshot.time, now) for call in snapshot.calls}
        calls = []
        for call in snapshot.calls:
            seconds = now - self._running_since[call.future]
            calls.append(CallProgress(self._labels[call.future], wording.place(call.where, call.devices), seconds))
        return tuple(sorted(calls, key=lambda call: -call.seconds))

    def _began(self, call: RunningCall, wall: float, now: float) -> float:
        if call.since is not None:
            return now - max(0.0, wall - call.since)  # the worker's clock may differ
        return self._running_since.get(call.future, now)

    def _note_reason(self, message: str, _: BaseException | None) -> None:
        self._reason = "" if message == STOP_MESSAGE else wording.printable(message.partition("\n")[0])

    def _note_failure(self, future: Future[Any], error: BaseException) -> None:
        # The error is formatted only when it is drawn: the user's own `__str__` may be slow.
        self._failures.appendleft((future, error, self.elapsed))
