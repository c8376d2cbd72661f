"""What drawing a run costs: no-op tasks through two worker processes, counted after each redraw and each skipped one.

Whole runs with and without the display vary by more than drawing costs. So this is one run that skips every other
redraw: the times after two consecutive redraws, one made and one skipped, are compared. Their order is random, so
that nothing periodic is in step with it.
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

WARM_UP = 8  # even: pairs start after it
"""Redraws before counting starts."""

TASKS = 10
"""Tasks that the display shows besides the busy one."""


def no_op(number: int) -> int:
    return number


class Turns:
    """Alternately makes and skips redraws, and counts the calls computed after each.

    Attributes:
        computed: The number of calls that have ended.
    """

    def __init__(self) -> None:
        self.computed = 0
        self._draw = LiveDisplay.refresh
        self._order = in_pairs()
        self._rates: list[tuple[bool, float]] = []
        self._shares: list[float] = []
        self._turn = 0
        self._made = False
        self._before = (0, 0.0, 0.0)  # calls, time, and seconds of drawing at the last redraw

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
        """Rates with and without redraws, their ratio with its standard error, and the share of time spent drawing."""
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
    """One made and one skipped redraw in every pair, in random order."""
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
