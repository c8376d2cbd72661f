"""The common base of the bridges to experiment trackers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from amltk._process import clock
from amltk.scheduling.events import Event
from amltk.scheduling.executors.execution_info import ExecutionInfo, execution_info
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins._support.background import Background
from amltk.scheduling.plugins.trackers.record import Record, exception_text, metrics, parameters

if TYPE_CHECKING:
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugins.trackers.record import Scalar
    from amltk.scheduling.task import Task

_log = logging.getLogger(__name__)


class Tracker(PassingPlugin):
    """Hands a `Record` of each call of its tasks to an experiment tracker, when the call has ended.

    Arguments and results are read on the loop's thread; everything that may take time runs in another thread, which
    exists only while there is something to write. A run waits at its `@finished` until everything is written; another
    Ctrl-C drops what is left. One tracker may serve several tasks of a scheduler.

    A failing tracker never affects the run: the first failure is logged and emitted as `@tracking-failed`, and nothing
    more is written in this run. The next run tries again.

    Subclasses override `open`, `write` and `close`, which are called one at a time in that thread.
    """

    replayable = False  # a replay would track the same calls again

    TRACKING_FAILED: Event[[Exception], Any] = Event("tracking-failed")
    """Writing failed, and nothing more will be written in this run. Callbacks take the exception of the tracker.

    It may come while `@finished` is delivered, since the run waits there for pending writes.
    """

    def __init__(self) -> None:
        self._background = Background(f"amltk-{self.name}")
        self._tasks: dict[Task[..., Any], list[Subscription]] = {}
        self._end_of_runs: Subscription | None = None
        self._pending: dict[Future[Any], tuple[float, dict[str, Scalar]]] = {}
        self._is_open = False
        self._failed = False
        self._written = 0

    def open(self) -> None:
        """Prepare for writing; called before the first record of a run."""

    def write(self, record: Record) -> None:
        """Write a record."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what `open` has acquired; called at the end of the run, also after a failure."""

    def attach_task(self, task: Task[..., Any]) -> None:
        """Also track the calls of this task.

        Raises:
            ValueError: The tracker already serves tasks of another scheduler, which has other runs.
        """
        if self._tasks and task.scheduler is not next(iter(self._tasks)).scheduler:
            raise ValueError(f"this {type(self).__name__} tracks tasks of another scheduler: create a new one")
        if self._end_of_runs is None:
            self._end_of_runs = task.scheduler.on_finished.register(self._finish, hidden=True)
        self._tasks[task] = [
            task.on_submitted.register(self._submitted, hidden=True),
            task.on_result.register(self._returned, hidden=True),
            task.on_exception.register(self._raised, hidden=True),
            task.on_cancelled.register(self._cancelled, hidden=True),
        ]

    def detach_task(self, task: Task[..., Any]) -> None:
        """Track the calls of this task no more; those that have not ended are not written."""
        for subscription in self._tasks.pop(task):
            subscription.end()
        for future in [future for future in list(self._pending) if future.task is task]:
            self._pending.pop(future, None)
        if not task.scheduler.has_run():
            self._end_with_last_task()

    def _end_with_last_task(self) -> None:
        if not self._tasks and self._end_of_runs is not None:
            self._end_of_runs.end()
            self._end_of_runs = None

    def events(self) -> list[Event[..., Any]]:
        """The event above."""
        return [self.TRACKING_FAILED]

    def status(self) -> str:
        """How many calls have been written."""
        return f"{self._written} written" + (", then it failed" if self._failed else "")

    # ------------------------------------------------------------------ on the loop's thread

    def _submitted(self, future: Any, /, *args: Any, **kwargs: Any) -> None:
        self._pending[future] = clock.now(), parameters(future.function, args, kwargs)

    def _returned(self, future: Any, result: Any) -> None:
        self._ended(future, outcome="result", metrics=metrics(result))

    def _raised(self, future: Any, error: BaseException) -> None:
        self._ended(future, outcome="exception", exception=exception_text(error))

    def _cancelled(self, future: Any) -> None:
        self._ended(future, outcome="cancelled")

    def _ended(self, future: Future[Any], **how: Any) -> None:
        submitted, given = self._pending.pop(future, (None, {}))
        if submitted is None:
            return  # it was submitted before the plugin was attached
        told = execution_info(future.work) or ExecutionInfo()
        if told.began is not None:
            submitted = min(submitted, told.began)  # a worker may be faster than who notes the submission
        record = Record(future.task.name, given, submitted, told.began, told.ended or clock.now(), **how)
        self._background.put(self._write, record)

    async def _finish(self) -> None:
        self._pending.clear()
        self._end_with_last_task()
        try:
            await asyncio.wrap_future(self._background.put(self._close))
        except asyncio.CancelledError:
            self._background.drop()
            raise

    # ------------------------------------------------------------------ in the thread

    def _write(self, record: Record) -> None:
        if self._failed:
            return
        try:
            if not self._is_open:
                self._is_open = True  # also close it if `open` fails halfway
                self.open()
            self.write(record)
            self._written += 1
        except Exception as error:  # noqa: BLE001 - of any library; reported, and must not affect the run
            self._failed = True
            _log.exception("%s failed: calls are not tracked until the end of this run", self.name)
            for task in list(self._tasks):
                task.emit(self.TRACKING_FAILED, error)

    def _close(self) -> None:
        try:
            if self._is_open:
                self.close()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("%s failed to close", self.name)
        self._is_open = self._failed = False
