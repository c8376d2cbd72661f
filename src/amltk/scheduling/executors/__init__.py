"""Where compute happens: executors of this package, and the table of all that it knows how to handle."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amltk.scheduling.executors.process_pool.limits import Limits
    from amltk.scheduling.executors.process_pool.pool import ProcessPool
    from amltk.scheduling.executors.registry import KINDS, Capabilities, ExecutorKind
    from amltk.scheduling.executors.sequential import SequentialExecutor

__all__ = [
    "KINDS",
    "Capabilities",
    "ExecutorKind",
    "Limits",
    "ProcessPool",
    "SequentialExecutor",
]

_HOMES = {
    "Limits": "amltk.scheduling.executors.process_pool.limits",
    "ProcessPool": "amltk.scheduling.executors.process_pool.pool",
    "Capabilities": "amltk.scheduling.executors.registry",
    "ExecutorKind": "amltk.scheduling.executors.registry",
    "KINDS": "amltk.scheduling.executors.registry",
    "SequentialExecutor": "amltk.scheduling.executors.sequential",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a worker process imports a small part of this package only."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value
