"""Calls per second through two worker processes; each call that ends submits another."""

from __future__ import annotations

import argparse
import time
from itertools import repeat

from _functions import sleep
from _report import report
from _scripts import WARM_UP, Script, flow
from _tools import TOOLS

MOST = 20_000
CALIBRATION = 100
IN_FLIGHT = {"8": 8, "64": 64, "all": MOST}


def script(loads: dict[str, int], duration: float, seconds: float, most: int, rates: dict[str, float]) -> Script:
    """As many calls as take about `seconds` with this tool, with each of these numbers of calls in flight."""
    fewest = min(loads.values())
    yield from flow(repeat(duration, WARM_UP), fewest)
    began = time.perf_counter()
    yield from flow(repeat(duration, min(CALIBRATION, most)), fewest)
    rate = min(CALIBRATION, most) / (time.perf_counter() - began)
    calls = min(most, max(WARM_UP, round(rate * seconds)))
    for name, in_flight in loads.items():
        began = time.perf_counter()
        yield from flow(repeat(duration, calls), in_flight)
        rates[name] = max(calls / (time.perf_counter() - began), rates.get(name, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("--milliseconds", type=float, default=0, help="what a call sleeps")
    parser.add_argument("--seconds", type=float, default=1, help="how long to measure, about")
    parser.add_argument("--most", type=int, default=MOST, help="calls at most")
    given = parser.parse_args()
    rates: dict[str, float] = {}
    tool = TOOLS[given.tool]
    loads = {"all": MOST} if tool.takes_lists else IN_FLIGHT
    with tool.open(sleep) as drives:
        for drive in drives:
            drive(script(loads, given.milliseconds / 1e3, given.seconds, given.most, rates))
    report(**rates)


if __name__ == "__main__":
    main()
