"""Event-driven scheduling of expensive functions on any `concurrent.futures.Executor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.scheduling.events import Emitter, Event, Subscriber, Subscription
    from amltk.scheduling.executors.sequential import SequentialExecutor
    from amltk.scheduling.exit_state import ExitState
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugins import Limiter, Plugin
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task

__all__ = [
    "Emitter",
    "Event",
    "ExitState",
    "Future",
    "Limiter",
    "Plugin",
    "Scheduler",
    "SequentialExecutor",
    "Subscriber",
    "Subscription",
    "Task",
]

_HOMES = {
    "Emitter": "amltk.scheduling.events",
    "Event": "amltk.scheduling.events",
    "Subscriber": "amltk.scheduling.events",
    "Subscription": "amltk.scheduling.events",
    "SequentialExecutor": "amltk.scheduling.executors.sequential",
    "ExitState": "amltk.scheduling.exit_state",
    "Future": "amltk.scheduling.future",
    "Limiter": "amltk.scheduling.plugins",
    "Plugin": "amltk.scheduling.plugins",
    "Scheduler": "amltk.scheduling.scheduler",
    "Task": "amltk.scheduling.task",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
