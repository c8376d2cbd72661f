"""What drawing a run costs: no-op tasks through two worker processes, counted after each redraw and after none.

Whole runs, shown and not shown, differ by more from one to the next than drawing costs. So this is one run, in which
every other redraw is left out: what else goes on meets both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import cycle

from _pools import WORKERS
from _report import report
from _terminal import standard_output_in_a_terminal

from amltk.display.live import LiveDisplay
from amltk.scheduling import Limiter, Scheduler

WARM_UP = 8
"""Redraws before which nothing is counted."""

TASKS = 10
"""Tasks that the display shows, beside the one that is busy."""


def no_op(number: int) -> int:
    return number


class Turns:
    """Redraws that are made and left out in turns, and what was computed in the time after each.

    Attributes:
        computed: So many calls have ended.
    """

    def __init__(self) -> None:
        self.computed = 0
        self._draw = LiveDisplay.refresh
        self._order = cycle([True, False, False, True])  # so that what grows slower meets both alike
        self._rates: dict[bool, list[float]] = {True: [], False: []}
        self._shares: list[float] = []
        self._turn = 0
        self._made = False
        self._before = (0, 0.0, 0.0)  # calls, time, and seconds of drawing, at the last redraw

    def refresh(self, display: LiveDisplay) -> None:
        now = time.perf_counter()
        calls, began, drawing = self._before
        if self._turn > WARM_UP:
            self._rates[self._made].append((self.computed - calls) / (now - began))
            if self._made:
                self._shares.append(drawing / (now - began))
        self._turn += 1
        self._made = next(self._order)
        if self._made:
            self._draw(display)
        self._before = (self.computed, now, time.perf_counter() - now)

    def figures(self) -> dict[str, float]:
        """Medians: other programs that come and go are in neither."""
        drawn, left_out = (statistics.median(self._rates[made]) for made in (True, False))
        share = statistics.median(self._shares)
        return {"tasks_per_second": drawn, "without": left_out, "ratio": drawn / left_out, "drawing": share}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    given = parser.parse_args()
    turns = Turns()
    LiveDisplay.refresh = lambda display: turns.refresh(display)  # type: ignore[method-assign]
    scheduler = Scheduler.with_processes(WORKERS)
    busy = scheduler.task(no_op)
    for _ in range(TASKS):
        scheduler.task(no_op, plugins=Limiter(max_calls=10))

    @scheduler.on_start(repeat=given.in_flight)
    def launch() -> None:
        busy.submit(0)

    @busy.on_result(when=scheduler.running)
    def on_result(_future: object, number: int) -> None:
        turns.computed += 1
        busy.submit(number)

    with standard_output_in_a_terminal():
        scheduler.run(timeout=given.seconds, wait=False, display=True)
    report(**turns.figures())


if __name__ == "__main__":
    main()
