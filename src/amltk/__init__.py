"""An event-driven scheduler for expensive Python functions."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amltk.scheduling import (
        Emitter,
        Event,
        ExitState,
        Future,
        Limiter,
        Plugin,
        Scheduler,
        SequentialExecutor,
        Subscriber,
        Subscription,
        Task,
    )

__version__ = "2.0.0.dev0"

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
    "__version__",
]

_HOMES = {
    "Emitter": "amltk.scheduling",
    "Event": "amltk.scheduling",
    "ExitState": "amltk.scheduling",
    "Future": "amltk.scheduling",
    "Limiter": "amltk.scheduling",
    "Plugin": "amltk.scheduling",
    "Scheduler": "amltk.scheduling",
    "SequentialExecutor": "amltk.scheduling",
    "Subscriber": "amltk.scheduling",
    "Subscription": "amltk.scheduling",
    "Task": "amltk.scheduling",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a worker process imports a small part of this package only."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value
