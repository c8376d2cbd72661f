"""Event-driven scheduling of expensive functions on any `concurrent.futures.Executor`."""

from amltk.scheduling.events import Emitter, Event, Subscriber, Subscription
from amltk.scheduling.executors import SequentialExecutor
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
