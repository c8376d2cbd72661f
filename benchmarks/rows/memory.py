"""The driver's memory for a pending task, over executors that compute nothing. (For whole tools: row `pending`.)"""

from __future__ import annotations

from benchmarks.measure import Case, Samples, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.rows.versus import beside_amltk
from benchmarks.subjects import AMLTK
from benchmarks.table import Better, Line

BYTES = 700


def measure(setting: Setting) -> list[Line]:
    lines: list[Line] = []
    for executor, what in (
        ("futures", "stdlib futures alone"),
        ("slim-futures", "the smallest futures there can be"),
        ("stdlib-pool", "a stdlib ProcessPoolExecutor"),
    ):
        samples = _over(executor, setting)
        if executor == "futures":
            lines += [_added(samples, "resident", "resident"), _added(samples, "allocated", "cross-check: allocated")]
        bounded = executor == "slim-futures"  # the rest belongs to the standard library, and no scheduler can change it
        lines += _total(samples, f"bytes a pending task, total over {what}", bounded=bounded)
    return lines


def _over(executor: str, setting: Setting) -> Samples:
    options = ("--executor", executor, "--tasks", setting.either(200_000, 20_000))
    return interleave(
        {
            "bare": Case("pending_memory", ("bare", *options)),
            "ours": Case("pending_memory", ("scheduler", *options)),
            "amltk": setting.on_amltk("pending_memory", "scheduler", *options),
        },
        setting.rounds(3, 1),
    )


def _added(samples: Samples, key: str, how: str) -> Line:
    added = samples.of_each(lambda of: of["ours"][key] - of["bare"][key])
    theirs, ratio = NO_PEER, None
    if samples.has("amltk"):
        theirs = samples.of_each(lambda of: of["amltk"][key] - of["bare"][key]).show()
        ratio = samples.of_each(lambda of: (of["ours"][key] - of["bare"][key]) / (of["amltk"][key] - of["bare"][key]))
    known = added.median == added.median  # NaN where the C library does not report it
    figure = f"bytes a pending task, added by the scheduler ({how})"
    holds = added.median <= BYTES if known else None
    return Line("memory", figure, f"<= {BYTES}", added.show(), AMLTK.name, theirs, ratio, Better.LESS, holds)


def _total(samples: Samples, figure: str, *, bounded: bool) -> list[Line]:
    total = samples.spread("ours", "resident")
    bound, holds = (f"<= {BYTES}", total.median <= BYTES) if bounded else ("", None)
    theirs, ratio = beside_amltk(samples, "resident", "ours", "amltk")
    bare = samples.spread("bare", "resident").show()
    return [
        Line("memory", figure, bound, total.show(), AMLTK.name, theirs, ratio, Better.LESS, holds),
        Line("memory", figure, "", total.show(), "the executor, bare", bare),
    ]
