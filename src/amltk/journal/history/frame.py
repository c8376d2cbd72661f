"""Calls as a DataFrame. Loaded only when pandas is installed."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import pandas as pd

from amltk.journal.history.call import FIELDS, TIMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.journal.history.call import Call


def frame(calls: Sequence[Call]) -> pd.DataFrame:
    """One row per call; see `History.df`."""
    table = pd.DataFrame.from_records(list(map(attrgetter(*FIELDS), calls)), columns=list(FIELDS))
    for name in TIMES:
        table[name] = pd.to_datetime(table[name].astype("float64"), unit="s", utc=True).dt.as_unit("us")
    counts = dict.fromkeys(("number", "attempt"), "int64") | dict.fromkeys(("pid", "memory"), "Int64")
    return table.astype(counts | dict.fromkeys(("duration", "cpu", "result"), "float64"))
