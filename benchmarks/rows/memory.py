"""The driver's memory for a pending task."""

from __future__ import annotations

from benchmarks.measure import Case, Samples, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Line

BYTES = 700


def measure(setting: Setting) -> list[Line]:
    rounds = setting.either(3, 1)
    lines: list[Line] = []
    for executor, what in (
        ("futures", "stdlib futures alone"),
        ("slim-futures", "the smallest futures there can be"),
        ("stdlib-pool", "a stdlib ProcessPoolExecutor"),
    ):
        samples = _over(executor, setting, rounds)
        if executor == "futures":
            lines += [_added(samples, "resident", "resident"), _added(samples, "allocated", "cross-check: allocated")]
        bounded = executor == "slim-futures"  # the rest is the standard library's, which no scheduler can change
        total = samples.spread("ours", "resident")
        lines.append(
            Line(
                "memory",
                f"bytes a pending task, total over {what}",
                f"<= {BYTES}" if bounded else "",
                total.show(),
                f"bare: {samples.spread('bare', 'resident').show()}; {_amltk(samples, 'resident')}",
                _ratio(samples),
                ok=total.median <= BYTES if bounded else None,
            )
        )
    return lines


def _over(executor: str, setting: Setting, rounds: int) -> Samples:
    options = ("--executor", executor, "--tasks", setting.either(200_000, 20_000))
    return interleave(
        {
            "bare": Case("pending_memory", ("bare", *options)),
            "ours": Case("pending_memory", ("scheduler", *options)),
            "amltk": setting.on_amltk("pending_memory", "scheduler", *options),
        },
        rounds,
    )


def _added(samples: Samples, figure: str, how: str) -> Line:
    added = samples.of_each(lambda of: of["ours"][figure] - of["bare"][figure])
    theirs = NO_PEER
    if samples.has("amltk"):
        spread = samples.of_each(lambda of: of["amltk"][figure] - of["bare"][figure])
        theirs = f"amltk 1.12.1: {spread.show()}"
    known = added.median == added.median  # NaN where the C library does not tell
    return Line(
        "memory",
        f"bytes a pending task, added by the scheduler ({how})",
        f"<= {BYTES}",
        added.show(),
        theirs,
        ok=added.median <= BYTES if known else None,
    )


def _amltk(samples: Samples, figure: str) -> str:
    return f"amltk 1.12.1: {samples.spread('amltk', figure).show()}" if samples.has("amltk") else NO_PEER


def _ratio(samples: Samples) -> str:
    return samples.ratio("resident", "ours", "amltk").show("{:.2f}") if samples.has("amltk") else ""
