"""The plot of a queue. Loaded only when matplotlib is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from amltk._checks import check_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "running": "#2f6fd4",
    "idle": "#dde2e9",
    "queued": "#f0b94a",
    "finished": "#2aa57e",
    "cancelled": "#74808f",
}
"""The areas, from the bottom; running calls and idle workers together are all workers."""


def plot(frame: Any, ax: Axes | None, interval: Any) -> Axes:
    """Draw a DataFrame of `QueueMonitor.df`; see `QueueMonitor.plot`."""
    if interval is not None:
        frame = means(frame, _length(interval))
    beside: dict[str, Any] = {}  # in a figure laid out by the user there is no room beside it
    if ax is None:
        ax = plt.subplots(figsize=(8, 3.6), layout="constrained")[1]
        beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "frameon": False}
    seconds = (frame.index - frame.index[0]).total_seconds() if len(frame) else []
    drawn = [name for name in COLOURS if frame[name].notna().all()]
    areas = [frame[name] for name in drawn]
    ax.stackplot(seconds, areas, labels=drawn, colors=[COLOURS[name] for name in drawn], step="post", linewidth=0)
    ax.set_xlabel("seconds")
    ax.set_ylabel("calls, idle workers")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0)
    ax.set_ylim(bottom=0)
    ax.legend(reverse=True, **beside or {"loc": "upper right"})
    return ax


def means(frame: Any, length: pd.Timedelta) -> Any:
    """The means over intervals, indexed by their beginnings; the last mean is repeated at its end."""
    if frame.empty:
        return frame
    times = (frame.index - frame.index[0]).total_seconds().to_numpy()
    edges: Any = np.append(np.arange(0.0, times[-1], length.total_seconds()), times[-1])
    if len(edges) < 2:  # noqa: PLR2004 - no time has passed
        return frame
    means: dict[str, Any] = {}
    for name, values in frame.items():
        # Each value holds until the next one: between two moments the time integral grows linearly.
        sums: Any = np.append(0.0, np.cumsum(values.to_numpy()[:-1] * np.diff(times)))
        of_each = np.diff(np.interp(edges, times, sums)) / np.diff(edges)
        means[name] = np.append(of_each, of_each[-1])
    return pd.DataFrame(means, index=frame.index[0] + pd.to_timedelta(edges, unit="s"))


def _length(interval: Any) -> pd.Timedelta:
    if not isinstance(interval, tuple):
        seconds: pd.Timedelta = pd.Timedelta(check_seconds("interval", interval, above_zero=True), unit="s")  # pyright: ignore[reportAssignmentType] - it is no NaT
        return seconds
    problem = f"interval={interval!r}: must be a number above 0 and a unit of time, such as (50, 'ms')"
    try:
        number, unit = interval
        length: Any = pd.Timedelta(number + 0.0, unit=unit)  # pandas would accept a string; adding 0.0 rejects it
    except (TypeError, ValueError) as error:
        raise ValueError(problem) from error
    if not length > pd.Timedelta(0):
        raise ValueError(problem)
    found: pd.Timedelta = length
    return found
