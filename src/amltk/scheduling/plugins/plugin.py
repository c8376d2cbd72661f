"""The base classes of plugins, under the name by which users import them."""

from amltk.scheduling.plugin import GivingPlugin, HoldingPlugin, PassingPlugin, Plugin

__all__ = ["GivingPlugin", "HoldingPlugin", "PassingPlugin", "Plugin"]
