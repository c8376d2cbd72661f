"""Where calls are computed: the executors of this package, and the table of all executors it can handle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.scheduling.executors.capabilities import Capabilities
    from amltk.scheduling.executors.local.sequential import SequentialExecutor
    from amltk.scheduling.executors.process_pool.limits import CallLimits
    from amltk.scheduling.executors.process_pool.pool import ProcessPool
    from amltk.scheduling.executors.registry import KINDS, ExecutorSpec

__all__ = [
    "KINDS",
    "CallLimits",
    "Capabilities",
    "ExecutorSpec",
    "ProcessPool",
    "SequentialExecutor",
]

_HOMES = {
    "CallLimits": "amltk.scheduling.executors.process_pool.limits",
    "ProcessPool": "amltk.scheduling.executors.process_pool.pool",
    "Capabilities": "amltk.scheduling.executors.capabilities",
    "ExecutorSpec": "amltk.scheduling.executors.registry",
    "KINDS": "amltk.scheduling.executors.registry",
    "SequentialExecutor": "amltk.scheduling.executors.local.sequential",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
