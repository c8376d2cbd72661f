"""The records as a DataFrame. Loaded only when pandas is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from amltk.scheduling.timeline.lanes import worker_names
from amltk.scheduling.timeline.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = ("submitted", "began", "ended")


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record; see `Timeline.df`."""
    table = pd.DataFrame.from_records(records, columns=list(Record._fields))
    workers = dict.fromkeys((r.host, r.pid, r.thread) for r in records if r.pid is not None)
    names = worker_names(list(workers))
    table["worker"] = pd.Series([names.get((r.host, r.pid, r.thread)) for r in records], dtype=object)
    seconds = table[list(TIMES)].astype("float64")
    table["waited"] = seconds["began"] - seconds["submitted"]
    table["duration"] = seconds["ended"] - seconds["began"]
    for name in TIMES:
        table[name] = pd.to_datetime(seconds[name], unit="s", utc=True)
    for name in ("pid", "memory"):
        table[name] = table[name].astype("Int64")
    table["cpu"] = table["cpu"].astype("float64")
    return table
