"""The calls of an experiment as a table that can be searched, filtered and sorted: a temporary database on disk."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from amltk.journal.history.call import CANCELLED, FAILED, PENDING, STATES, can_end
from amltk.journal.kinds import Kind
from amltk.journal.live.text import real, writable
from amltk.journal.live.workers import worker_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amltk.journal.format import Record

_SUBMISSION = ("number", "task", "arguments", "attempt", "submitted", "submission")
_USE = ("began", "ended", "duration", "cpu", "memory", "worker")
_OUTCOME = ("state", *_USE, "result", "returned", "error", "message", "outcome")

COLUMNS: tuple[str, ...] = _SUBMISSION + _OUTCOME
"""The columns. `submission` and `outcome` say where the records are, in bytes."""

SORTABLE = frozenset(COLUMNS) - {"submission", "outcome"}

LONGEST = 500
"""How many characters of a text are kept; the log has all of it."""

CACHE_KIB = 32 * 1024
"""How much memory the database uses; the rest is on disk."""

Row: TypeAlias = tuple[Any, ...]

_TYPES = {"number": "INTEGER PRIMARY KEY"} | dict.fromkeys(("attempt", "memory", "submission", "outcome"), "INTEGER")
_REALS = frozenset({"submitted", "began", "ended", "duration", "cpu", "result"})
_UNLESS_ENDED = f"WHERE number = ? AND state IS NOT '{CANCELLED}' AND (state IS NULL OR state = '{PENDING}' OR ?)"
"""As `can_end`; the last parameter says whether the record is no request."""
_UNENDED: Row = (PENDING, *[None] * (len(_OUTCOME) - 1))
_SUBMISSION_KIND, _SESSION_KIND = int(Kind.SUBMISSION), int(Kind.SESSION)


@dataclass(frozen=True, slots=True)
class Query:
    """Which calls to show.

    Attributes:
        search: Words that all occur in the call, its error or its number; case does not matter.
        states: The states; empty for all of them.
        task: The task; None for all.
        error: The name of the error; None for all.
        worker: The worker; None for all.
        sort: The column to sort by.
        descending: Whether the greatest come first. Calls without a value come last either way.
        offset: How many to skip.
        limit: How many to give at most.
    """

    search: str = ""
    states: tuple[str, ...] = ()
    task: str | None = None
    error: str | None = None
    worker: str | None = None
    sort: str = "number"
    descending: bool = True
    offset: int = 0
    limit: int = 50

    def __post_init__(self) -> None:
        """Check what becomes part of the text of an SQL query.

        Raises:
            ValueError: There is no such column to sort by.
        """
        if self.sort not in SORTABLE:
            raise ValueError(f"sort={self.sort!r}: must be one of {', '.join(sorted(SORTABLE))}")

    def where(self) -> tuple[str, list[Any]]:
        """The condition, and its values."""
        parts, values = ["1"], list[Any]()
        if self.states:
            parts.append(f"state IN ({', '.join('?' * len(self.states))})")
            values += self.states
        for column in ("task", "error", "worker"):
            if (value := getattr(self, column)) is not None:
                parts.append(f"{column} = ?")
                values.append(value)
        for word in self.search.split():
            pattern = "%" + word.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
            parts.append(
                "(task || arguments LIKE ? ESCAPE '!' OR error || ': ' || message LIKE ? ESCAPE '!'"
                " OR worker LIKE ? ESCAPE '!' OR returned LIKE ? ESCAPE '!' OR number = ?)"
            )
            values += [pattern] * 4 + [int(word) if word.isdecimal() and len(word) < len(str(2**62)) else -1]
        return " AND ".join(parts), values


class CallTable:
    """The calls, by their numbers. On one thread at a time."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # removed when it is closed
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        columns = ", ".join(f"{name} {_TYPES.get(name, 'REAL' if name in _REALS else 'TEXT')}" for name in COLUMNS)
        self._database.execute(f"CREATE TABLE calls ({columns})")
        self._new: dict[int, Row] = {}  # submitted since the last flush
        self._ended: list[Row] = []  # of those that were submitted before

    def close(self) -> None:
        """Remove it."""
        self._database.close()

    # ------------------------------------------------------------------ records

    def take(self, record: Record) -> None:
        """Take a record; queries see it after `flush`."""
        call = record.call
        if call is None:
            if record.kind == _SESSION_KIND and (retried := record.head.get("retried")):
                self._retry(retried)
        elif call > record.number:
            return
        elif record.kind == _SUBMISSION_KIND:
            self._new[call] = _submission(record, call)
        elif record.kind in STATES:
            row = self._new.get(call)
            if row is None:
                self._ended.append((*_outcome(record), call, record.kind != Kind.REQUEST))
            elif len(row) == len(_SUBMISSION) or can_end(row[len(_SUBMISSION)], record.kind):
                self._new[call] = row[: len(_SUBMISSION)] + _outcome(record)

    def flush(self) -> None:
        """Write the records that were taken."""
        execute = self._database.executemany
        self._database.execute("BEGIN")
        if self._ended:
            execute("INSERT OR IGNORE INTO calls (number, task, arguments) VALUES (?, '', '')", _numbers(self._ended))
            execute(f"UPDATE calls SET {', '.join(f'{name} = ?' for name in _OUTCOME)} {_UNLESS_ENDED}", self._ended)
        if self._new:
            places = ", ".join("?" * len(COLUMNS))
            execute(
                f"INSERT OR REPLACE INTO calls VALUES ({places})",
                (row if len(row) == len(COLUMNS) else row + _UNENDED for row in self._new.values()),
            )
        self._database.execute("COMMIT")
        self._new, self._ended = {}, []

    def _retry(self, calls: list[int]) -> None:
        self.flush()
        changes = ", ".join(f"{name} = NULL" for name in _OUTCOME[1:])
        wanted = ((PENDING, call) for call in calls)
        self._database.executemany(f"UPDATE calls SET state = ?, {changes} WHERE number = ?", wanted)

    # ------------------------------------------------------------------ queries

    def count(self, query: Query) -> int:
        """How many calls match."""
        where, values = query.where()
        count: int = self._database.execute(f"SELECT count(*) FROM calls WHERE {where}", values).fetchone()[0]
        return count

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """The matching calls, in the part that the query asks for."""
        where, values = query.where()
        direction = "DESC" if query.descending else "ASC"
        order = f"{query.sort} {direction}"
        if query.sort != "number":
            order = f"{query.sort} IS NULL, {order}, number DESC"
        text = f"SELECT * FROM calls WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        return [_named(row) for row in self._database.execute(text, [*values, query.limit, query.offset])]

    def row(self, number: int) -> dict[str, Any] | None:
        """One call; None if there is none of this number."""
        row = self._database.execute("SELECT * FROM calls WHERE number = ?", [number]).fetchone()
        return None if row is None else _named(row)

    def computed(self, begin: float, end: float, most: int) -> list[tuple[Any, ...]]:
        """Calls that were computed between two times: number, state, worker, when it began, for how many seconds.

        Args:
            begin: The first time, in seconds since the epoch.
            end: The second one.
            most: With more calls than these, some are left out.
        """
        text = (
            "SELECT number, state, worker, began, duration FROM calls"
            " WHERE began < ? AND began + duration > ? AND worker IS NOT NULL ORDER BY number LIMIT ?"
        )
        return self._database.execute(text, [end, begin, most]).fetchall()


def _numbers(rows: list[Row]) -> Iterator[Row]:
    return ((row[-2],) for row in rows)


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))


def _bytes(told: Any) -> int | None:
    """An amount of memory; None if it is not known."""
    return told if type(told) is int and 0 < told < 2**63 else None


def _in_words(numbers: dict[str, Any]) -> str:
    found = ((writable(key), real(value)) for key, value in numbers.items())
    return ", ".join(f"{key}={value:.5g}" for key, value in found if value is not None)


def _submission(record: Record, call: int) -> Row:
    head = record.head
    task, arguments = writable(head.get("task")), writable(head.get("arguments"))[:LONGEST]
    return call, task, arguments, head.get("attempt", 0), record.time, record.offset


def _outcome(record: Record) -> Row:
    head, state = record.head, STATES[record.kind]
    error = writable(head.get("type")) or (state if state in FAILED else None)
    numbers = head.get("numbers")
    returned = _in_words(numbers) if isinstance(numbers, dict) else writable(head.get("returned"))
    return (
        state,
        real(head.get("began")),
        record.time,
        real(head.get("duration")),
        real(head.get("cpu")),
        _bytes(head.get("memory")),
        worker_name(writable(head.get("host")) or None, head.get("pid")) or None,
        real(head.get("number")),
        returned[:LONGEST] or None,
        error,
        None if error is None else writable(head.get("message"))[:LONGEST],
        record.offset,
    )
