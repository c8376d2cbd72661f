"""Plugins: what may refuse, change or follow the submissions of a task."""

from amltk.scheduling.plugins.limiter import Limiter
from amltk.scheduling.plugins.plugin import Plugin

__all__ = ["Limiter", "Plugin"]
