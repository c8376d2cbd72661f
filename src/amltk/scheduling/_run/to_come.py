"""How many submissions of a task are still to come, for displays."""

from __future__ import annotations

from typing import Any


def calls_to_come(task: Any) -> int | None:
    """As many as its plugins still allow, and the remaining items of its maps; None if unknown.

    Args:
        task: The task, from a layer above.
    """
    to_come = [left for plugin in task.plugins if (left := plugin.calls_left()) is not None]
    mapped = [task_map.calls_left() for task_map in task.maps if not task_map.over]
    if mapped and None not in mapped:
        to_come.append(sum(left or 0 for left in mapped))
    return min(to_come) if to_come else None


def calls_so_far(task: Any) -> int:
    """How many submissions of a task there were, over all runs."""
    channels = task.channels
    ended = sum(channel.count for channel in (channels.result, channels.exception, channels.cancelled))
    return int(ended + task.n_pending)
