"""A record of all events, in order, so that a test can assert the whole sequence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from amltk.scheduling.events import Emitter, Event
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task


class Recorded(NamedTuple):
    """One event that was delivered.

    Attributes:
        source: The task that emitted it, or None for the scheduler.
        event: The event.
        args: The arguments of the callbacks.
        kwargs: The keyword arguments of the callbacks.
    """

    source: Task[..., Any] | None
    event: Event[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """`"future-result"` for an event of the scheduler, `"train:result"` for one of the task `train`."""
        return self.event.name if self.source is None else f"{self.source.name}:{self.event.name}"


class EventRecorder:
    """Records every event of a scheduler and of some tasks, in the order of delivery.

    Create it before the program under test subscribes its callbacks, so that it records each event before they respond.

    Args:
        scheduler: The scheduler whose events are recorded.
        *tasks: Tasks whose events are also recorded.

    Attributes:
        records: The events delivered so far.
    """

    def __init__(self, scheduler: Scheduler, *tasks: Task[..., Any]) -> None:
        self.records: list[Recorded] = []
        self._listen(scheduler.emitter, None)
        for task in tasks:
            self._listen(task, task)

    @property
    def names(self) -> list[str]:
        """The names of the events delivered so far; see `Recorded.name`."""
        return [record.name for record in self.records]

    def _listen(self, emitter: Emitter, source: Task[..., Any] | None) -> None:
        for event in emitter.events:
            emitter.register(event, partial(self._record, source, event), hidden=True)

    def _record(self, source: Task[..., Any] | None, event: Event[..., Any], /, *args: Any, **kwargs: Any) -> None:
        self.records.append(Recorded(source, event, args, kwargs))
