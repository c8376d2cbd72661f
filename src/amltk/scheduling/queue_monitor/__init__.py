"""How many calls were waiting and running, and how many workers were idle, over the time of a run."""

from amltk.scheduling.queue_monitor.monitor import QueueMonitor

__all__ = ["QueueMonitor"]
