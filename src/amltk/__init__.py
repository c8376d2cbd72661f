"""An event-driven scheduler for expensive Python functions."""

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
