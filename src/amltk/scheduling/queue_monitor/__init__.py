"""How many calls waited and ran, and how many workers had nothing to do, over the time of a run."""

from amltk.scheduling.queue_monitor.monitor import QueueMonitor

__all__ = ["QueueMonitor"]
