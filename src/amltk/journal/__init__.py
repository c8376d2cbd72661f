"""The folder of an experiment, in which a run writes down what it is told, and what can be read there.

`open` reads the calls; `verify`, `repair`, `rewind` and `retry` see to the folder; `Reader` and `Writer` are for
programs that go through the records themselves. Nothing here knows a scheduler, and nothing unpickles a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk._lazy import names_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from amltk.journal.format import Position, Record
    from amltk.journal.history import Call, History, Summary, open  # noqa: A004 - used as `amltk.journal.open`
    from amltk.journal.kinds import OUTCOMES, Kind
    from amltk.journal.reader import Reader
    from amltk.journal.retrying import Retried, retry
    from amltk.journal.upkeep import Cut, Findings, repair, rewind, verify
    from amltk.journal.writer import Writer

__all__ = [
    "OUTCOMES",
    "Call",
    "Cut",
    "Findings",
    "History",
    "Kind",
    "Position",
    "Reader",
    "Record",
    "Retried",
    "Summary",
    "Writer",
    "open",
    "repair",
    "retry",
    "rewind",
    "verify",
]

_HOMES = {
    "OUTCOMES": "amltk.journal.kinds",
    "Call": "amltk.journal.history",
    "Cut": "amltk.journal.upkeep",
    "Findings": "amltk.journal.upkeep",
    "History": "amltk.journal.history",
    "Kind": "amltk.journal.kinds",
    "Position": "amltk.journal.format",
    "Reader": "amltk.journal.reader",
    "Record": "amltk.journal.format",
    "Retried": "amltk.journal.retrying",
    "Summary": "amltk.journal.history",
    "Writer": "amltk.journal.writer",
    "open": "amltk.journal.history",
    "repair": "amltk.journal.upkeep",
    "retry": "amltk.journal.retrying",
    "rewind": "amltk.journal.upkeep",
    "verify": "amltk.journal.upkeep",
}

__getattr__: Callable[[str], Any] = names_from(_HOMES, globals())
