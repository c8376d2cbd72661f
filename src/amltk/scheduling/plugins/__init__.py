"""Plugins: what may refuse, change or follow the submissions of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.scheduling.plugins.comm import Comm
    from amltk.scheduling.plugins.limiter import Limiter
    from amltk.scheduling.plugins.limits import Limits
    from amltk.scheduling.plugins.plugin import Plugin
    from amltk.scheduling.plugins.retry import Retry

__all__ = [
    "Comm",
    "Limiter",
    "Limits",
    "Plugin",
    "Retry",
]

_HOMES = {
    "Comm": "amltk.scheduling.plugins.comm",
    "Limiter": "amltk.scheduling.plugins.limiter",
    "Limits": "amltk.scheduling.plugins.limits",
    "Plugin": "amltk.scheduling.plugins.plugin",
    "Retry": "amltk.scheduling.plugins.retry",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
