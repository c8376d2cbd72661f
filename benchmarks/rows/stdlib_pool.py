"""What a scheduler costs over a pool of the standard library that is given to it."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Line

SHARE = 0.9
FIGURE = "tasks_per_second"


def measure(setting: Setting) -> list[Line]:
    tasks = setting.either(4_000, 1_000)
    return [
        _line(setting, tasks, in_flight, name)
        for in_flight, name in ((8, "8 in flight"), (64, "64 in flight"), (tasks, "all submitted first"))
    ]


def _line(setting: Setting, tasks: int, in_flight: int, name: str) -> Line:
    options = ("--tasks", tasks, "--in-flight", in_flight)
    samples = interleave(
        {
            "main": Case("throughput", ("bare-main-thread", *options)),
            "ours": Case("throughput", ("scheduler", *options)),
            "callbacks": Case("throughput", ("bare-callbacks", *options)),
            "amltk": setting.on_amltk("throughput", "scheduler", *options),
        },
        setting.either(11, 3),
    )
    rates = {case: samples.spread(case, FIGURE) for case in ("main", "callbacks", "ours")}
    faster = "main" if rates["main"].median >= rates["callbacks"].median else "callbacks"
    share = samples.ratio(FIGURE, "ours", faster)
    theirs = samples.spread("amltk", FIGURE).show() if samples.has("amltk") else NO_PEER
    label = {"main": "by the main thread", "callbacks": "in the callbacks"}[faster]
    return Line(
        "stdlib-pool",
        f"no-op tasks/s, {name}",
        f">= {SHARE} x bare",
        rates["ours"].show(),
        f"bare {label}: {rates[faster].show()}; amltk 1.12.1: {theirs}",
        share.show("{:.2f}"),
        ok=share.median >= SHARE,
    )
