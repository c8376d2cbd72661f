"""Plugins, which refuse, change or follow the submissions of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.scheduling.plugin import GivingPlugin, HoldingPlugin, PassingPlugin, Plugin
    from amltk.scheduling.plugins.call_folder import CallFolder
    from amltk.scheduling.plugins.comm import Comm
    from amltk.scheduling.plugins.emissions_tracker_plugin import EmissionsTrackerPlugin
    from amltk.scheduling.plugins.limiter import Limiter
    from amltk.scheduling.plugins.limits import Limits
    from amltk.scheduling.plugins.memo import Memo
    from amltk.scheduling.plugins.pynisher import PynisherPlugin
    from amltk.scheduling.plugins.remote_results import RemoteResult, RemoteResults
    from amltk.scheduling.plugins.resources import Resources
    from amltk.scheduling.plugins.retry import Retry
    from amltk.scheduling.plugins.threadpoolctl import ThreadPoolCTLPlugin
    from amltk.scheduling.plugins.trackers.mlflow import MLflowPlugin
    from amltk.scheduling.plugins.trackers.wandb import WandbPlugin
    from amltk.scheduling.plugins.warning_filter import WarningFilter

__all__ = [
    "CallFolder",
    "Comm",
    "EmissionsTrackerPlugin",
    "GivingPlugin",
    "HoldingPlugin",
    "Limiter",
    "Limits",
    "MLflowPlugin",
    "Memo",
    "PassingPlugin",
    "Plugin",
    "PynisherPlugin",
    "RemoteResult",
    "RemoteResults",
    "Resources",
    "Retry",
    "ThreadPoolCTLPlugin",
    "WandbPlugin",
    "WarningFilter",
]

_HOMES = {
    "CallFolder": "amltk.scheduling.plugins.call_folder",
    "Comm": "amltk.scheduling.plugins.comm",
    "EmissionsTrackerPlugin": "amltk.scheduling.plugins.emissions_tracker_plugin",
    "GivingPlugin": "amltk.scheduling.plugin",
    "HoldingPlugin": "amltk.scheduling.plugin",
    "Limiter": "amltk.scheduling.plugins.limiter",
    "Limits": "amltk.scheduling.plugins.limits",
    "MLflowPlugin": "amltk.scheduling.plugins.trackers.mlflow",
    "Memo": "amltk.scheduling.plugins.memo",
    "PassingPlugin": "amltk.scheduling.plugin",
    "Plugin": "amltk.scheduling.plugin",
    "PynisherPlugin": "amltk.scheduling.plugins.pynisher",
    "RemoteResult": "amltk.scheduling.executors.remote_result",
    "RemoteResults": "amltk.scheduling.plugins.remote_results",
    "Resources": "amltk.scheduling.plugins.resources",
    "Retry": "amltk.scheduling.plugins.retry",
    "ThreadPoolCTLPlugin": "amltk.scheduling.plugins.threadpoolctl",
    "WandbPlugin": "amltk.scheduling.plugins.trackers.wandb",
    "WarningFilter": "amltk.scheduling.plugins.warning_filter",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
