"""What the live display costs: no-op tasks through worker processes, shown and not shown."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

BOUND = 0.97


def measure(setting: Setting) -> list[Line]:
    return [_line(setting, in_flight) for in_flight in (8, 10_000)]


def _line(setting: Setting, in_flight: int) -> Line:
    options = ("--seconds", setting.either(30, 10), "--in-flight", in_flight)
    samples = interleave({"shown": Case("display_cost", options)}, setting.either(5, 3))
    rate, without, ratio, drawing = (
        samples.spread("shown", figure) for figure in ("tasks_per_second", "without", "ratio", "drawing")
    )
    return Line(
        "display",
        f"no-op tasks/s with the live display, {in_flight:,} in flight",
        f">= {BOUND} x without",
        rate.show(),
        f"without: {without.show()}; share of the time that is spent drawing: {drawing.show('{:.1%}')}",
        ratio.show("{:.3f}"),
        ok=ratio.median >= BOUND,
    )
