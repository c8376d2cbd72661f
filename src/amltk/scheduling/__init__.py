"""Event-driven scheduling of expensive functions on any `concurrent.futures.Executor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.scheduling._computing.grant import granted
    from amltk.scheduling._computing.place import call_folder
    from amltk.scheduling._journal.options import Journal
    from amltk.scheduling.events import Emitter, Event, Subscriber, Subscription
    from amltk.scheduling.executors.local.sequential import SequentialExecutor
    from amltk.scheduling.executors.shared import Shared
    from amltk.scheduling.exit_state import ExitState
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugin import Plugin
    from amltk.scheduling.plugins.call_folder import CallFolder
    from amltk.scheduling.plugins.comm import Comm
    from amltk.scheduling.plugins.limiter import Limiter
    from amltk.scheduling.plugins.limits import Limits
    from amltk.scheduling.plugins.memo import Memo
    from amltk.scheduling.plugins.remote_results import RemoteResult, RemoteResults
    from amltk.scheduling.plugins.resources import Resources
    from amltk.scheduling.plugins.retry import Retry
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task
    from amltk.scheduling.task_map import TaskMap

__all__ = [
    "CallFolder",
    "Comm",
    "Emitter",
    "Event",
    "ExitState",
    "Future",
    "Journal",
    "Limiter",
    "Limits",
    "Memo",
    "Plugin",
    "RemoteResult",
    "RemoteResults",
    "Resources",
    "Retry",
    "Scheduler",
    "SequentialExecutor",
    "Shared",
    "Subscriber",
    "Subscription",
    "Task",
    "TaskMap",
    "call_folder",
    "granted",
]

_HOMES = {
    "Emitter": "amltk.scheduling.events",
    "Event": "amltk.scheduling.events",
    "Subscriber": "amltk.scheduling.events",
    "Subscription": "amltk.scheduling.events",
    "SequentialExecutor": "amltk.scheduling.executors.local.sequential",
    "Shared": "amltk.scheduling.executors.shared",
    "ExitState": "amltk.scheduling.exit_state",
    "Future": "amltk.scheduling.future",
    "CallFolder": "amltk.scheduling.plugins.call_folder",
    "Journal": "amltk.scheduling._journal.options",
    "Comm": "amltk.scheduling.plugins.comm",
    "Limiter": "amltk.scheduling.plugins.limiter",
    "Limits": "amltk.scheduling.plugins.limits",
    "Memo": "amltk.scheduling.plugins.memo",
    "Plugin": "amltk.scheduling.plugin",
    "RemoteResult": "amltk.scheduling.executors.remote_result",
    "RemoteResults": "amltk.scheduling.plugins.remote_results",
    "Resources": "amltk.scheduling.plugins.resources",
    "Retry": "amltk.scheduling.plugins.retry",
    "Scheduler": "amltk.scheduling.scheduler",
    "Task": "amltk.scheduling.task",
    "TaskMap": "amltk.scheduling.task_map",
    "call_folder": "amltk.scheduling._computing.place",
    "granted": "amltk.scheduling._computing.grant",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
