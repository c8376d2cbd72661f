"""Calls as a Parquet file. Loaded only when pandas and pyarrow are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from amltk.journal.history.frame import frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from amltk.journal.history.call import Call


def write(calls: Sequence[Call], path: Path) -> None:
    """Write one row per call."""
    pq.write_table(pa.Table.from_pandas(frame(calls), preserve_index=False), path)
