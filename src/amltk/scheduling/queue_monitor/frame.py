"""The data of a queue monitor as a DataFrame. Loaded only when pandas is installed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from amltk.scheduling.queue_monitor.history import History

RECORDED = ("queue_size", "running", "finished", "cancelled")
COLUMNS = ("queue_size", "queued", "running", "finished", "cancelled", "idle")


def frame(history: History, *, n_workers: int | None, knows_running: bool) -> pd.DataFrame:
    """One row per moment; see `QueueMonitor.df`."""
    steps = list(history.steps())
    times = pd.to_datetime([time for time, _ in steps], unit="ns")
    table: Any = pd.DataFrame([values for _, values in steps], columns=list(RECORDED), index=times, dtype="float64")
    table.index.name = "time"
    if not knows_running:
        table["running"] = math.nan
    waiting = table["queue_size"] - table["finished"] - table["cancelled"]
    table["queued"] = (waiting - table["running"]).clip(lower=0) if knows_running else waiting
    busy = table["running"] if knows_running else waiting
    workers = n_workers if n_workers is not None else math.ceil(busy.max()) if len(table) else 0
    table["idle"] = (workers - busy).clip(lower=0)
    whole = [name for name in COLUMNS if name != "running" or knows_running]
    found: pd.DataFrame = table[list(COLUMNS)].astype(dict.fromkeys(whole, "int64" if history.span == 1 else "float64"))
    return found
