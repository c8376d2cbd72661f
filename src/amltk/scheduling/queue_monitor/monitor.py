"""Monitors the queue of a scheduler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from amltk import _extras
from amltk._checks import check_optional_count
from amltk._process import clock
from amltk.scheduling.executors.execution_info import execution_info
from amltk.scheduling.queue_monitor.history import History

if TYPE_CHECKING:
    from concurrent.futures import Future as Work

    import pandas as pd
    from matplotlib.axes import Axes

    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.scheduler import Scheduler
    from amltk.types import Duration

MAX_POINTS = 4096
"""How many moments are kept apart; they take about 2 MB."""

QUEUE_SIZE, RUNNING, FINISHED, CANCELLED = range(4)


class _Open:
    """A call in the queue."""

    __slots__ = ("done", "submitted", "work")

    def __init__(self) -> None:
        self.work: Work[Any] | None = None  # its latest attempt
        self.submitted: int = 0  # when that was submitted to the executor
        self.done: int | None = None  # when the executor ended it

    def note_done(self, work: Work[Any]) -> None:
        """The executor has ended an attempt. Called on any thread."""
        if work is self.work:
            self.done = clock.now_ns()


class QueueMonitor:
    """Records how many calls are waiting and running in a scheduler, over time.

    ```python
    monitor = QueueMonitor(scheduler)
    scheduler.run()
    monitor.plot(interval=(50, "ms"), n_workers=4)
    ```

    Create it before the run; it records all runs of the scheduler. The cost per event does not depend on the number of
    calls, and memory is bounded: about 4,000 moments are kept apart. Up to that many, everything is exact. After that,
    changes within a span of time are known only by their mean; the span grows with the recorded time, and is at most a
    two-thousandth of it.

    The worker reports when a call began and ended, after its end. If the executor reports nothing (one not created by
    `Scheduler.with_...`), it is unknown which calls are running: `running` is empty then, and `queued` includes them.

    It records until it is closed, for instance by the end of a block: `with QueueMonitor(scheduler) as monitor:`.

    Args:
        scheduler: The scheduler to monitor.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._history = History(4, MAX_POINTS)
        self._open: dict[Future[Any], _Open] = {}
        self._knows_running = scheduler.executor_kind.capabilities.tells_execution
        self._scheduler = scheduler
        scheduler.observers.append(self._submitted)
        register = partial(scheduler.emitter.register, hidden=True)
        self._subscriptions: list[Subscription] = [
            *(register(event, self._mark) for event in (scheduler.STARTED, scheduler.FINISHED)),
            register(scheduler.FUTURE_RESULT, self._ended),
            register(scheduler.FUTURE_EXCEPTION, self._ended),
            register(scheduler.FUTURE_CANCELLED, self._ended),
        ]

    def close(self) -> None:
        """Record no more. What was recorded stays; calls that have not ended leave the queue. Harmless if repeated."""
        if self._submitted in self._scheduler.observers:
            self._scheduler.observers.remove(self._submitted)
        for subscription in self._subscriptions:
            subscription.end()
        while self._open:
            _, call = self._open.popitem()
            call.work = None
            self._history.change(self._now(), QUEUE_SIZE, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def df(self, *, n_workers: int | None = None) -> pd.DataFrame:
        """The recorded numbers as a DataFrame indexed by time in UTC. Needs pandas.

        Each row holds until the next one. The columns are

        - `queue_size`: calls whose end has not been delivered yet; the sum of the next four,
        - `queued`: calls that no worker has begun,
        - `running`: calls that a worker is running; NaN if unknown,
        - `finished`: calls that were computed and whose callbacks have not run yet,
        - `cancelled`: calls that were cancelled and whose callbacks have not run yet,
        - `idle`: idle workers.

        Args:
            n_workers: How many workers there are; None for the most that were ever busy at once.

        Raises:
            MissingExtraError: pandas is not installed.
            ValueError: `n_workers` is below 1.
            TypeError: `n_workers` is not a whole number.
        """
        n_workers = check_optional_count("n_workers", n_workers)
        load = _extras.load("amltk.scheduling.queue_monitor.frame", needs="pandas", extra="monitor")
        frame: pd.DataFrame = load.frame(self._up_to_now(), n_workers=n_workers, knows_running=self._knows_running)
        return frame

    def plot(
        self,
        *,
        ax: Axes | None = None,
        interval: Duration | tuple[float, str] | None = None,
        n_workers: int | None = None,
    ) -> Axes:
        """Draw the recorded numbers as stacked areas over time. Needs matplotlib and pandas.

        Args:
            ax: What to draw on; None for a figure of its own.
            interval: Draw means over intervals of this length: seconds, a text such as `"50 ms"`, a `timedelta`, or a
                number and a unit that pandas knows, as in `(50, "ms")`; None for everything that is known.
            n_workers: As in `df`.

        Returns:
            The axes.

        Raises:
            MissingExtraError: A library is not installed.
            ValueError: `interval` is not a length of time above 0, or `n_workers` is below 1.
            TypeError: `n_workers` is not a whole number.
        """
        frame = self.df(n_workers=n_workers)
        load = _extras.load("amltk.scheduling.queue_monitor.plot", needs="matplotlib", extra="monitor")
        axes: Axes = load.plot(frame, ax, interval)
        return axes

    # ------------------------------------------------------------------ what happens, on the loop's thread

    def _now(self) -> int:
        return clock.now_ns()

    def _mark(self) -> None:
        self._history.change(self._now(), QUEUE_SIZE, 0)

    def _submitted(self, future: Future[Any], *_: Any) -> None:
        now = self._now()
        call = self._open.get(future)
        if call is None:
            call = self._open[future] = _Open()
            self._history.change(now, QUEUE_SIZE, 1)
        else:
            self._count_running(call, now)
        call.work, call.submitted, call.done = future.work, now, None
        if call.work is not None:
            call.work.add_done_callback(call.note_done)

    def _ended(self, future: Future[Any], *_: Any) -> None:
        call = self._open.pop(future, None)
        if call is None:
            return  # submitted before this monitor was created
        now = self._now()
        ended = self._count_running(call, now)
        call.work = None  # which refers to this by its callback
        number = CANCELLED if future.cancelled() else FINISHED
        self._history.change(ended, number, 1)
        self._history.change(now, number, -1)
        self._history.change(now, QUEUE_SIZE, -1)

    def _count_running(self, call: _Open, now: int) -> int:
        """Count an attempt that has ended as running for its time; returns when it ended.

        What runs in other threads may be told a little late: nothing ran before it was submitted, or later than now.
        """
        where = execution_info(call.work)
        done = now if call.done is None else _between(call.submitted, call.done, now)
        if where is None:
            return done  # lost before its worker reported, or its executor never reports
        self._knows_running = True
        ended = done if where.ended is None else _between(call.submitted, round(where.ended * 1e9), done)
        if where.began is not None:
            began = _between(call.submitted, round(where.began * 1e9), ended)
            self._history.change(began, RUNNING, 1)
            self._history.change(ended, RUNNING, -1)
        return ended

    def _up_to_now(self) -> History:
        """The history, including what is running now."""
        history = self._history.copy()
        for call in self._open.values():
            where = execution_info(call.work)
            if where is not None and where.began is not None and call.done is None:
                history.change(max(round(where.began * 1e9), call.submitted), RUNNING, 1)
        return history


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
