"""How often an idle run with idle worker processes wakes up."""

from __future__ import annotations

import argparse
import resource
import selectors
import time
from typing import Any

from _report import report

SETTLE = 1.5
"""Seconds after which the run counts as idle: workers are up even on a busy machine."""


def count_selects() -> list[float]:
    """Record each wake-up of any loop created from now on."""
    wakeups: list[float] = []
    select = selectors.DefaultSelector.select

    def counting(self: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        ready = select(self, timeout)
        wakeups.append(time.monotonic())
        return ready

    selectors.DefaultSelector.select = counting  # type: ignore[method-assign]
    return wakeups


def no_op() -> None:
    pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    wakeups = count_selects()

    from amltk.scheduling import Scheduler

    scheduler = Scheduler.with_processes(2)
    marks: list[tuple[int, int, float]] = []

    def mark() -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        marks.append((len(wakeups), usage.ru_nvcsw, usage.ru_utime + usage.ru_stime))

    @scheduler.on_start
    def launch() -> None:
        import asyncio

        for _ in range(2):
            scheduler.submit(no_op)
        loop = asyncio.get_running_loop()
        loop.call_later(SETTLE, mark)
        loop.call_later(SETTLE + given.seconds, mark)

    scheduler.run(timeout=SETTLE + given.seconds + 0.2, end_on_empty=False, display=False)
    first, last = marks
    report(
        wakeups=last[0] - first[0],
        context_switches=last[1] - first[1],
        cpu_milliseconds=(last[2] - first[2]) * 1e3,
    )


if __name__ == "__main__":
    main()
