"""An event-driven scheduler for expensive Python functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.scheduling import (
        Comm,
        Emitter,
        Event,
        ExitState,
        Future,
        Limiter,
        Limits,
        Plugin,
        Retry,
        Scheduler,
        SequentialExecutor,
        Subscriber,
        Subscription,
        Task,
        TaskMap,
    )

__version__ = "2.0.0.dev0"

__all__ = [
    "Comm",
    "Emitter",
    "Event",
    "ExitState",
    "Future",
    "Limiter",
    "Limits",
    "Plugin",
    "Retry",
    "Scheduler",
    "SequentialExecutor",
    "Subscriber",
    "Subscription",
    "Task",
    "TaskMap",
    "__version__",
]

_HOMES = {
    "Comm": "amltk.scheduling",
    "Emitter": "amltk.scheduling",
    "Event": "amltk.scheduling",
    "ExitState": "amltk.scheduling",
    "Future": "amltk.scheduling",
    "Limiter": "amltk.scheduling",
    "Limits": "amltk.scheduling",
    "Plugin": "amltk.scheduling",
    "Retry": "amltk.scheduling",
    "Scheduler": "amltk.scheduling",
    "SequentialExecutor": "amltk.scheduling",
    "Subscriber": "amltk.scheduling",
    "Subscription": "amltk.scheduling",
    "Task": "amltk.scheduling",
    "TaskMap": "amltk.scheduling",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
