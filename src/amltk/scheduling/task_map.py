"""A task over the items of iterables, a bounded number at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from amltk._checks import check_count
from amltk.exceptions import SchedulerNotRunningError

if TYPE_CHECKING:
    import asyncio

    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.task import Task


class TaskMap:
    """Submits a task for each item, and takes the next item when an earlier one has ended. Made by `Task.map`.

    Attributes:
        total: How many items there are; None if the iterables do not tell.
        n_taken: How many were taken so far.
        exhausted: Whether no further item is taken.
    """

    def __init__(self, task: Task[..., Any], iterables: tuple[Iterable[Any], ...], in_flight: int) -> None:
        if not iterables:
            raise TypeError("map() needs an iterable of arguments; submit() calls a function without any")
        check_count("in_flight", in_flight)
        sizes = [len(items) if isinstance(items, Sized) else None for items in iterables]
        known = [size for size in sizes if size is not None]
        self.total: int | None = min(known) if len(known) == len(sizes) else None
        self.n_taken: int = 0
        self.exhausted: bool = False
        self._task = task
        self._in_flight = in_flight
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._refused: tuple[Any, ...] | None = None  # by a plugin, which may let it pass later
        self._mine: set[asyncio.Future[Any]] = set()
        self._kept: list[Call] = []  # by a plugin, which will submit them
        self._filling = threading.Lock()
        self._wanted = False
        self._subscriptions: list[Subscription] = []

    @property
    def n_ended(self) -> int:
        """How many items have ended, or were dropped by a plugin that had kept them."""
        return self.n_taken - len(self._mine) - len(self._kept) - (self._refused is not None)

    def calls_left(self) -> int | None:
        """How many items are still to be submitted; None if that is not known."""
        kept = sum(call.future is None for call in list(self._kept))  # others were submitted, and are adopted soon
        if self.exhausted:
            return kept
        return None if self.total is None else self.total - self.n_taken + kept + (self._refused is not None)

    @property
    def over(self) -> bool:
        """Whether no further item is taken and all have ended."""
        return self.exhausted and not self._mine and not self._kept

    def start(self) -> None:
        """Submit the first items now if the scheduler is running, else after its next `@start`. For the task alone."""
        task, scheduler = self._task, self._task.scheduler
        self._subscriptions = [
            *(task.register(event, self._note_end, hidden=True) for event in (task.RESULT, task.EXCEPTION)),
            task.register(task.CANCELLED, self._note_end, hidden=True),
            scheduler.on_empty.register(self._fill, hidden=True),  # what was refused has nothing to wait for any more
            scheduler.on_finishing.register(self.cancel, hidden=True),
        ]
        if scheduler.running():
            self._fill()
        else:
            self._subscriptions.append(scheduler.on_start.register(self._fill, hidden=True))

    def cancel(self) -> None:
        """Take no further item. What was submitted goes on; cancel its futures if that is to end as well."""
        self.exhausted = True
        self._unsubscribe_at_the_end()

    def _unsubscribe_at_the_end(self) -> None:
        with self._task.scheduler.submission_lock:
            self._adopt()
        if self.over:
            for subscription in self._subscriptions:
                subscription.end()

    def _note_end(self, future: asyncio.Future[Any], *_: object) -> None:
        with self._task.scheduler.submission_lock:
            self._adopt()
            if future not in self._mine:
                return
            self._mine.discard(future)
        self._fill()
        self._unsubscribe_at_the_end()

    def _adopt(self) -> None:
        """Follow what a plugin had kept and has submitted, or given up, since. Only under the submission lock."""
        for call in [call for call in self._kept if call.future is not None or not call.kept]:
            self._kept.remove(call)
            if call.future is not None:
                self._mine.add(call.future)

    def _fill(self) -> None:
        """Submit as many as there is room for. Whoever is at it already, perhaps on another thread, looks again."""
        self._wanted = True
        while self._wanted:
            if not self._filling.acquire(blocking=False):
                return
            try:
                self._wanted = False
                while not self.exhausted and self._has_room() and self._submit_next():
                    pass
            finally:
                self._filling.release()

    def _has_room(self) -> bool:
        scheduler = self._task.scheduler
        with scheduler.submission_lock:
            self._adopt()
            return len(self._mine) + len(self._kept) < self._in_flight and scheduler.running()

    def _submit_next(self) -> bool:
        """Submit the next item; False if there is none, or it cannot be submitted now."""
        arguments = self._refused if self._refused is not None else self._take()
        if arguments is None:
            self.cancel()
            return False
        self._refused = None
        with self._task.scheduler.submission_lock:  # so that its ending is noted later
            try:
                self._note(self._task.offer(arguments, {}))
            except Exception as error:  # noqa: BLE001 - reported; the items after it are computed all the same
                if isinstance(error, SchedulerNotRunningError) and not self._task.scheduler.running():
                    self._refused = arguments  # an end was asked for meanwhile, by the iterable or on another thread
                else:
                    self._task.scheduler.report(error, f"submission of {self._task.name} by its map")
        return self._refused is None

    def _note(self, call: Call) -> None:
        if call.future is not None:
            self._mine.add(call.future)
        elif call.kept:
            self._kept.append(call)
        else:
            self._refused = call.given[0]

    def _take(self) -> tuple[Any, ...] | None:
        try:
            arguments = next(self._items, None)
        except BaseException:
            self.cancel()  # it is not to be asked again
            raise
        self.n_taken += arguments is not None
        return arguments

    def __repr__(self) -> str:
        total = "" if self.total is None else f" of {self.total}"
        return f"<TaskMap of {self._task.name}: {self.n_ended}{total} ended, {len(self._mine)} in flight>"
