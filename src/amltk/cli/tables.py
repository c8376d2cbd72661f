"""`calls` and `export`."""

from __future__ import annotations

import json
import shutil
import sys
from operator import attrgetter
from typing import TYPE_CHECKING

from amltk import journal
from amltk.cli.words import seconds, size, where
from amltk.journal.history import export as exporting
from amltk.journal.history.call import FAILED

if TYPE_CHECKING:
    import argparse

    from amltk.journal import Call

_HEADINGS = ("call", "state", "duration", "cpu", "memory", "worker", "result or error", "arguments")
_RIGHT = {0, 2, 3, 4}
"""The columns with numbers."""

_MEASURED = (3, 4)
"""The columns that are left out where nothing was measured."""

_LONGEST = 40
"""How many characters of a worker, a result or an error are shown."""


def calls(options: argparse.Namespace) -> int:
    """Print a table of calls."""
    told = journal.open(options.folder).calls()
    if options.failed:
        told = [call for call in told if call.state in FAILED]
    field = attrgetter(options.sort)
    known = [call for call in told if field(call) is not None]
    unknown = [call for call in told if field(call) is None]
    told = sorted(known, key=field, reverse=options.reverse) + unknown
    if options.json:
        json.dump([exporting.as_dict(call) for call in told], sys.stdout, indent=1)
        print()
    elif options.csv:
        exporting.write_csv(told, sys.stdout)
    else:
        _print_table(told)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write all calls to a file."""
    told = journal.open(options.folder).calls()
    exporting.export(told, options.file)
    print(f"{options.file}: {len(told):,} calls")
    return 0


def _print_table(told: list[Call]) -> None:
    rows = [_HEADINGS, *map(_row, told)]
    shown = [place for place in range(len(_HEADINGS)) if place not in _MEASURED or any(row[place] for row in rows[1:])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        cells = [
            row[place].rjust(widths[place]) if place in _RIGHT else row[place].ljust(widths[place]) for place in shown
        ]
        print("  ".join(cells)[:room].rstrip())


def _row(call: Call) -> tuple[str, ...]:
    told = "" if call.result is None else f"{call.result:.6g}"
    if call.error is not None:
        told = f"{call.error}: {call.message}" if call.message else call.error
    return (
        str(call.number),
        call.state,
        "" if call.duration is None else seconds(call.duration),
        "" if call.cpu is None else seconds(call.cpu),
        "" if call.memory is None else size(call.memory),
        _short(where(call)),
        _short(told),
        f"{call.task}{_one_line(call.arguments)}",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    text = _one_line(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
