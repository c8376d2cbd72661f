"""What the live display costs: no-op tasks through worker processes, with and without the display."""

from __future__ import annotations

import math

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

BOUND = 0.97


def measure(setting: Setting) -> list[Line]:
    return [_line(setting, in_flight) for in_flight in (8, 10_000)]


def _line(setting: Setting, in_flight: int) -> Line:
    options = ("--seconds", setting.either(20, 10), "--in-flight", in_flight)
    samples = interleave({"shown": Case("display_cost", options)}, setting.rounds(3, 1))
    rate, without, ratio, error, drawing = (
        samples.spread("shown", figure) for figure in ("tasks_per_second", "without", "ratio", "error", "drawing")
    )
    mean = math.prod(ratio.values) ** (1 / len(ratio.values))
    uncertainty = 2 * math.hypot(*error.values) / len(error.values)
    told = uncertainty <= 1 - BOUND  # otherwise the machine is too noisy for the effect
    return Line(
        "display",
        f"no-op tasks/s with the live display, {in_flight:,} in flight",
        f">= {BOUND} x without",
        rate.show(),
        f"without, drawing being {drawing.median:.1%} of the time; mean ratio {mean:.3f} ± {uncertainty:.3f}",
        without.show(),
        ratio,
        ok=mean >= BOUND if told else None,
    )
