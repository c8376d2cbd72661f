"""Where compute happens: executors of this package, and the table of all that it knows how to handle."""

from amltk.scheduling.executors.registry import KINDS, Capabilities, ExecutorKind
from amltk.scheduling.executors.sequential import SequentialExecutor

__all__ = ["KINDS", "Capabilities", "ExecutorKind", "SequentialExecutor"]
