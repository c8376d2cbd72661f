"""Calls as a file that other programs read: CSV, a SQLite database, or Parquet."""

from __future__ import annotations

import contextlib
import csv
import sqlite3
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amltk import _extras
from amltk.journal.history.call import FIELDS, TIMES, Call

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from typing import TextIO

_COLUMN_TYPES = {
    "number": "INTEGER PRIMARY KEY",
    "attempt": "INTEGER",
    "pid": "INTEGER",
    "duration": "REAL",
    "cpu": "REAL",
    "memory": "INTEGER",
    "result": "REAL",
}


def export(calls: Sequence[Call], path: str | os.PathLike[str]) -> None:
    """Write calls to a file, one row each. A file that is there is replaced.

    Args:
        calls: The calls.
        path: The file. Its ending says what it becomes: `.csv`, `.sqlite`, or `.parquet`, which needs pandas and
            pyarrow. Times are texts in UTC, such as `2026-03-01T09:30:00.250000+00:00`; in Parquet they are times.

    Raises:
        ValueError: The path ends with something else.
        MissingExtraError: A library is not installed.
        OSError: The file cannot be written.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix)
    if write is None:
        raise ValueError(f"path={str(path)!r}: must end with {', '.join(_WRITERS)}")
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write(calls, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_csv(calls: Iterable[Call], file: TextIO) -> None:
    """Write calls as CSV, with a line of names above."""
    lines = csv.writer(file)
    lines.writerow(FIELDS)
    lines.writerows(map(_values, calls))


def as_dict(call: Call) -> dict[str, Any]:
    """A call by the names of its fields, with times as texts."""
    return dict(zip(FIELDS, _values(call), strict=True))


def _values(call: Call) -> list[Any]:
    values = list(_fields(call))
    for place in _TIME_PLACES:
        if (time := values[place]) is not None:
            values[place] = datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds")
    return values


_fields = attrgetter(*FIELDS)
_TIME_PLACES = [FIELDS.index(name) for name in TIMES]


def _to_csv(calls: Sequence[Call], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(calls, file)


def _to_sqlite(calls: Sequence[Call], path: Path) -> None:
    columns = ", ".join(f'"{name}" {_COLUMN_TYPES.get(name, "TEXT")}' for name in FIELDS)
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE calls ({columns})")
        places = ", ".join("?" * len(FIELDS))
        database.executemany(f"INSERT INTO calls VALUES ({places})", map(_values, calls))


def _to_parquet(calls: Sequence[Call], path: Path) -> None:
    load: Any = _extras.load("amltk.journal.history.parquet", needs=("pandas", "pyarrow"), extra="parquet")
    load.write(calls, path)


_WRITERS: dict[str, Callable[[Sequence[Call], Path], None]] = {
    ".csv": _to_csv,
    ".sqlite": _to_sqlite,
    ".parquet": _to_parquet,
}
