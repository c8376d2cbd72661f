"""The records as one self-contained HTML page, with style, script and data embedded."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from amltk.scheduling.timeline.lanes import device_lanes, lanes
from amltk.scheduling.timeline.links import links
from amltk.scheduling.timeline.record import OUTCOMES
from amltk.scheduling.timeline.summary import Total, span, totals, utilisation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amltk.scheduling.timeline.lanes import Lane
    from amltk.scheduling.timeline.record import Record

SCRIPTS = ("data.js", "words.js", "drawing.js", "pointing.js")
"""The parts of the page's script, in order; each uses those before it."""

# Heights of a frame in pixels, so that a notebook shows the whole page without a second scroll bar.
LANE, MOST_FOR_LANES = 26, 330  # the latter is in page.css as well
FUNCTION, MOST_FUNCTIONS = 34, 6
BESIDE = 500


def page(records: Sequence[Record], *, title: str, dropped: int) -> str:
    """Make the page.

    Args:
        records: The records to show.
        title: Its heading.
        dropped: How many further records are not shown.
    """
    parts = {
        "title": html.escape(title),
        "style": _asset("page.css"),
        "data": _embedded(_data(records, dropped)),
        "script": "\n".join(map(_asset, SCRIPTS)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _asset("page.html"))


def frame(records: Sequence[Record], *, title: str, dropped: int) -> str:
    """The page as an element of another one, such as a notebook: in a frame whose script is isolated."""
    functions = min(len({record.function for record in records}), MOST_FUNCTIONS)
    height = BESIDE + min(LANE * len([*lanes(records), *device_lanes(records)]), MOST_FOR_LANES) + FUNCTION * functions
    source = html.escape(page(records, title=title, dropped=dropped))
    style = f"display:block;width:100%;height:{height}px;border:0"
    return f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" style="{style}" srcdoc="{source}"></iframe>'


@cache
def _asset(name: str) -> str:
    return (resources.files("amltk.scheduling.timeline") / "assets" / name).read_text(encoding="utf-8")


def _embedded(data: dict[str, Any]) -> str:
    """JSON that is safe to embed in a page: nothing in it can close the surrounding element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data(records: Sequence[Record], dropped: int) -> dict[str, Any]:
    """The data that the script draws. Times are whole microseconds since the first one; calls are stored in columns."""
    drawn = lanes(records)
    every = [*drawn, *device_lanes(records)]
    computed = [record for lane in drawn for record in lane.records]
    start, end = span(records)
    everything, *functions = totals(records)
    return {
        "start": datetime.fromtimestamp(start, UTC).isoformat() if records else None,
        "span": _microseconds(end - start),
        "dropped": dropped,
        "utilisation": utilisation(drawn, end - start),
        "outcomes": OUTCOMES,
        "total": _counted(everything),
        "functions": [_counted(function) for function in functions],
        "lanes": [
            {"name": lane.name, "known": lane.known, "size": len(lane.records), "device": lane.is_device}
            for lane in every
        ],
        "devices": len({(record.host, device) for record in computed for device in record.devices}),
        "links": [number for pair in links(computed) for number in pair],
        "rows": _rows(every, [function.function for function in functions], start, end),
    }


def _counted(total: Total) -> dict[str, Any]:
    return {
        "function": total.function,
        "calls": total.calls,
        "attempts": [total.attempts[outcome] for outcome in OUTCOMES],
        "computed": total.computed,
        "seconds": total.seconds,
        "longest": total.longest,
    }


def _rows(drawn: Sequence[Lane], functions: Sequence[str], start: float, end: float) -> dict[str, Any]:
    numbers = {name: n for n, name in enumerate(functions)}
    rows = [record for lane in drawn for record in lane.records]
    return {
        "submitted": [_microseconds(row.submitted - start) for row in rows],
        "began": [_microseconds((row.began or start) - start) for row in rows],
        "ended": [_microseconds((row.ended or end) - start) for row in rows],
        "outcome": [OUTCOMES.index(row.outcome) for row in rows],
        "function": [numbers[row.function] for row in rows],
        "arguments": [row.arguments for row in rows],
        # Few rows have an error, and fewer a further attempt: stored by row number.
        "error": {n: row.error for n, row in enumerate(rows) if row.error},
        "attempt": {n: row.attempt for n, row in enumerate(rows) if row.attempt > 1},
        "devices": {n: ", ".join(row.devices) for n, row in enumerate(rows) if row.devices},
        "used": {n: (round(row.cpu, 6), row.memory) for n, row in enumerate(rows) if row.cpu is not None},
    }


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
