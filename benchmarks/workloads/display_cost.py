"""What drawing a run costs: no-op tasks through two worker processes, counted after each redraw and after none.

Whole runs, shown and not shown, differ by more from one to the next than drawing costs. So this is one run, in which
every other redraw is left out: the times after two redraws in a row, of which one was made, are compared. Which of the
two is left to chance, so that nothing else that comes and goes is in step with it.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Iterator

from _pools import WORKERS
from _report import report
from _terminal import standard_output_in_a_terminal

from amltk.display.live import LiveDisplay
from amltk.scheduling import Limiter, Scheduler

WARM_UP = 8  # even: pairs begin after it
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
        self._order = in_pairs()
        self._rates: list[tuple[bool, float]] = []
        self._shares: list[float] = []
        self._turn = 0
        self._made = False
        self._before = (0, 0.0, 0.0)  # calls, time, and seconds of drawing, at the last redraw

    def refresh(self, display: LiveDisplay) -> None:
        now = time.perf_counter()
        calls, began, drawing = self._before
        if self._turn > WARM_UP:
            self._rates.append((self._made, (self.computed - calls) / (now - began)))
            if self._made:
                self._shares.append(drawing / (now - began))
        self._turn += 1
        self._made = next(self._order)
        if self._made:
            self._draw(display)
        self._before = (self.computed, now, time.perf_counter() - now)

    def figures(self) -> dict[str, float]:
        """Rates with and without redraws, the ratio and its standard error, and the share of time spent drawing."""
        drawn, left_out = ([rate for made, rate in self._rates if made is wanted] for wanted in (True, False))
        ratios = [math.log(with_it / without) for with_it, without in zip(drawn, left_out, strict=False)]
        return {
            "tasks_per_second": statistics.fmean(drawn),
            "without": statistics.fmean(left_out),
            "ratio": math.exp(statistics.fmean(ratios)),
            "error": statistics.stdev(ratios) / math.sqrt(len(ratios)),
            "drawing": statistics.median(self._shares),
        }


def in_pairs() -> Iterator[bool]:
    """One of each in every two, in an order that is left to chance."""
    while True:
        first = random.random() < 0.5
        yield from (first, not first)


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
