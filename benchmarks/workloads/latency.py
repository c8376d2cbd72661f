"""Microseconds from the end of a call in its worker to its callback: one call at a time, and under load."""

from __future__ import annotations

import argparse
import time
from itertools import repeat

from _functions import sleep_until_when
from _report import report
from _scripts import WARM_UP, Script, flow
from _tools import TOOLS

DURATION = 0.001
LOADS = {"idle": 1, "loaded": 64}


def script(calls: int, figures: dict[str, float]) -> Script:
    yield from flow(repeat(DURATION, WARM_UP), 8)
    for load, in_flight in LOADS.items():
        late: list[int] = []
        yield from flow(repeat(DURATION, calls), in_flight, lambda end: late.append(time.monotonic_ns() - end))  # noqa: B023
        late.sort()
        for share in (50, 99):
            name = f"{load} p{share}"
            microseconds = late[len(late) * share // 100] / 1e3
            figures[name] = min(microseconds, figures.get(name, microseconds))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--calls", type=int, required=True)
    given = parser.parse_args()
    figures: dict[str, float] = {}
    with TOOLS[given.tool].open(sleep_until_when) as drives:
        for drive in drives:
            drive(script(given.calls, figures))
    report(**figures)


if __name__ == "__main__":
    main()
