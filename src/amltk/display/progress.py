"""How a run goes: numbers taken from a scheduler a few times a second, at the same cost however much is pending."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from amltk.display import wording

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from amltk.scheduling.events import Emitter, Event, Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task

SHOWN_TASKS = 10
"""How many tasks are shown at most; those with pending work come first."""

LOOKED_AT = 8
"""How many of a task's pending futures are looked at, oldest first, to find the one that has run longest."""

PACE_WINDOW = 60
"""Seconds over which the rate is taken, once enough has ended in them."""

ENOUGH = 10
"""How many computed within the window make a rate; with fewer it is the mean since the start."""

SETTLED_AFTER = 3
"""Endings in a row without a submission in between after which what is pending counts as all that is left."""


@dataclass(frozen=True)
class Counts:
    """How many submissions are in which state."""

    pending: int
    done: int
    failed: int
    cancelled: int

    @property
    def computed(self) -> int:
        """How many were computed to an end, good or bad."""
        return self.done + self.failed

    @property
    def ended(self) -> int:
        """How many have ended, in whichever way."""
        return self.computed + self.cancelled

    @property
    def submitted(self) -> int:
        """How many there were in all."""
        return self.pending + self.ended


@dataclass(frozen=True)
class TaskProgress:
    """How one task goes.

    Attributes:
        name: Its name.
        counts: Its submissions.
        longest: For how many seconds the call that was begun first is running; None if none is.
        notes: What its plugins say of themselves, and events of theirs that happened.
    """

    name: str
    counts: Counts
    longest: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How a run goes at one moment; all times in seconds.

    Attributes:
        state: `"starting"`, `"running"`, `"finishing"` or `"finished"`, with the reason where there is one to tell.
        active: Whether it is running.
        elapsed: Time since the start.
        left: Time until the timeout; None without one, or when the run is ending.
        to_go: Time until all that is pending has ended, at the present rate; None where more seems to be submitted.
        rate: How many are computed a second.
        counts: All submissions.
        tasks: Those that are shown.
        more_tasks: How many are not shown.
        failure: The last error of compute; None if there was none.
    """

    state: str
    active: bool
    elapsed: float
    left: float | None
    to_go: float | None
    rate: float
    counts: Counts
    tasks: tuple[TaskProgress, ...]
    more_tasks: int
    failure: str | None


class Pace:
    """How fast submissions are computed, and whether the end is in sight."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()
        self._submitted = 0
        self._ended_at_submission = 0

    def read(self, elapsed: float, counts: Counts) -> None:
        """Take a reading. Only one a second is kept."""
        if counts.submitted != self._submitted:
            self._submitted = counts.submitted
            self._ended_at_submission = counts.ended
        if not self._readings or elapsed - self._readings[-1][0] >= 1:
            self._readings.append((elapsed, counts.computed))
        while elapsed - self._readings[0][0] > PACE_WINDOW:
            self._readings.popleft()

    def rate(self, elapsed: float, counts: Counts) -> float:
        """How many are computed a second, lately or, where that is little, since the start."""
        since, before = self._readings[0]
        if counts.computed - before < ENOUGH:
            since, before = 0.0, 0
        return (counts.computed - before) / (elapsed - since) if elapsed > since else 0.0

    def to_go(self, elapsed: float, counts: Counts) -> float | None:
        """Seconds until nothing is pending, if what is pending seems to be all."""
        rate = self.rate(elapsed, counts)
        if not counts.pending or not rate or counts.ended - self._ended_at_submission < SETTLED_AFTER:
            return None
        return counts.pending / rate


class Tally:
    """Counts the submissions of a scheduler or of a task by state.

    Args:
        emitter: Whose events are counted.
        pending: How many are pending.
        endings: The events of a result, an exception and a cancellation.
        before: The counts of events to begin at, since a scheduler may run many times.
    """

    def __init__(
        self,
        emitter: Emitter,
        pending: Callable[[], int],
        endings: tuple[Event[..., Any], Event[..., Any], Event[..., Any]],
        *,
        before: Counter[Event[..., Any]],
    ) -> None:
        self._emitter = emitter
        self._pending = pending
        self._endings = endings
        self._before = before

    def since(self, event: Event[..., Any]) -> int:
        """How often an event was delivered since the beginning."""
        return self._emitter.event_counts[event] - self._before[event]

    def counts(self) -> Counts:
        """The counts now. An ending and what is pending change in one step, so that they always add up."""
        done, failed, cancelled = map(self.since, self._endings)
        return Counts(self._pending(), done, failed, cancelled)


class TaskObserver:
    """Follows one task.

    Args:
        task: What is followed.
        before: The counts of its events to begin at.
    """

    def __init__(self, task: Task[..., Any], *, before: Counter[Event[..., Any]]) -> None:
        self.task = task
        self._tally = Tally(task, lambda: task.n_running, (task.RESULT, task.EXCEPTION, task.CANCELLED), before=before)
        self._own_events = {task.SUBMITTED, task.DONE, task.RESULT, task.EXCEPTION, task.CANCELLED}
        self._running_since: dict[asyncio.Future[Any], float] = {}

    def observe(self, now: float) -> TaskProgress:
        """Look at it now."""
        return TaskProgress(self.task.name, self._tally.counts(), self._longest(now), tuple(self._notes()))

    def _longest(self, now: float) -> float | None:
        # That compute has begun is noticed here, so that it costs the run nothing; a redraw late is early enough.
        oldest = list(islice(self.task.pending, LOOKED_AT))  # in one step: other threads may submit meanwhile
        self._running_since = {future: self._running_since.get(future, now) for future in oldest if _is_running(future)}
        return now - min(self._running_since.values()) if self._running_since else None

    def _notes(self) -> list[str]:
        plugins = [f"{plugin.name}  {plugin.status()}".rstrip() for plugin in self.task.plugins]
        happened = ((event, self._tally.since(event)) for event in self.task.events if event not in self._own_events)
        return [*plugins, *(f"{event}  {count:,}" for event, count in happened if count)]


def _is_running(future: Future[Any] | asyncio.Future[Any]) -> bool:
    work = getattr(future, "work", None)
    return work is not None and work.running()


class Observer:
    """Follows one run of a scheduler, from `open` to `close`.

    Args:
        scheduler: What is followed.
        timeout: The timeout of the run in seconds; None if it has none.
        clock: Tells the time in seconds.
    """

    def __init__(self, scheduler: Scheduler, timeout: float | None, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._timeout = timeout
        self._clock = clock
        self._begin = clock()
        self._pace = Pace()
        self._tally = Tally(
            scheduler.emitter,
            lambda: scheduler.n_running,
            (scheduler.FUTURE_RESULT, scheduler.FUTURE_EXCEPTION, scheduler.FUTURE_CANCELLED),
            before=scheduler.event_counts,
        )
        self._tasks = {task: TaskObserver(task, before=task.event_counts) for task in scheduler.tasks}
        self._failure: tuple[asyncio.Future[Any], BaseException, float] | None = None
        self._subscription: Subscription | None = None

    def open(self) -> None:
        """Follow it from now on."""
        self._begin = self._clock()
        self._subscription = self._scheduler.on_future_exception.register(self._note_failure, hidden=True)

    def close(self) -> None:
        """Stop following it. Harmless when repeated."""
        if self._subscription is not None:
            self._subscription.end()

    def observe(self) -> Progress:
        """Look at it now."""
        now = self._clock()
        elapsed = now - self._begin
        counts = self._tally.counts()
        self._pace.read(elapsed, counts)
        active = self._scheduler.running()
        tasks = self._scheduler.tasks
        return Progress(
            state=self._state(active),
            active=active,
            elapsed=elapsed,
            left=max(0.0, self._timeout - elapsed) if active and self._timeout is not None else None,
            to_go=self._pace.to_go(elapsed, counts),
            rate=self._pace.rate(elapsed, counts),
            counts=counts,
            tasks=tuple(self._observer(task).observe(now) for task in _most_active(tasks)),
            more_tasks=max(0, len(tasks) - SHOWN_TASKS),
            failure=self._failure_in_short(now),
        )

    def _observer(self, task: Task[..., Any]) -> TaskObserver:
        observer = self._tasks.get(task)
        if observer is None:  # the task was made during the run: all that it has counted belongs to this run
            observer = self._tasks[task] = TaskObserver(task, before=Counter())
        return observer

    def _state(self, active: bool) -> str:
        happened, scheduler = self._tally.since, self._scheduler
        if active:
            return "running"
        if not happened(scheduler.STARTED):
            return "starting"
        state = "finished" if happened(scheduler.FINISHED) else "finishing"
        if happened(scheduler.TIMEOUT):
            return f"{state}: timeout"
        return f"{state}: stopped" if happened(scheduler.STOP) else state

    def _note_failure(self, future: asyncio.Future[Any], error: BaseException) -> None:
        # Put into words only when it is drawn: a message of the user's own may be slow to make, or raise.
        self._failure = (future, error, self._clock())

    def _failure_in_short(self, now: float) -> str | None:
        if self._failure is None:
            return None
        future, error, when = self._failure
        function = getattr(future, "function", None)
        name = "" if function is None else f" in {wording.function_name(function)}"
        return f"{wording.error_in_short(error)}{name}, {wording.duration(now - when)} ago"


def _most_active(tasks: list[Task[..., Any]]) -> list[Task[..., Any]]:
    """As many as are shown, in the order in which they were made, so that they do not change places."""
    if len(tasks) <= SHOWN_TASKS:
        return tasks
    chosen = sorted(range(len(tasks)), key=lambda n: not tasks[n].running())[:SHOWN_TASKS]
    return [tasks[n] for n in sorted(chosen)]
