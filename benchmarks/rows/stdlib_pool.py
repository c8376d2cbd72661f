"""What a scheduler adds to a standard library pool that the user supplies."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.throughput import IN_FLIGHT
from benchmarks.rows.versus import beside_amltk
from benchmarks.subjects import AMLTK
from benchmarks.table import Better, Line

SHARE = 0.9


def measure(setting: Setting) -> list[Line]:
    options = ("--most", setting.either(4_000, 1_000))
    samples = interleave(
        {
            "bare": Case("throughput", ("stdlib", *options)),
            "ours": Case("throughput", ("scheduler-over-stdlib", *options)),
            "asyncio": Case("throughput", ("asyncio-over-stdlib", *options)),
            "amltk": setting.on_amltk("throughput", "scheduler-over-stdlib", *options),
        },
        setting.rounds(5, 2),
    )
    lines: list[Line] = []
    for key, in_flight in IN_FLIGHT.items():
        figure = f"no-op calls/s over a ProcessPoolExecutor, {in_flight}"
        ours, bare, asyncio = (samples.spread(case, key).show() for case in ("ours", "bare", "asyncio"))
        share, of_bare = (samples.ratio(key, "ours", case) for case in ("asyncio", "bare"))
        bound, holds = f">= {SHARE} x asyncio", share.median >= SHARE
        theirs, ratio = beside_amltk(samples, key, "ours", "amltk")
        lines += [
            Line("stdlib-pool", figure, bound, ours, "asyncio's run_in_executor", asyncio, share, Better.MORE, holds),
            Line("stdlib-pool", figure, "", ours, "the pool, bare", bare, of_bare, Better.MORE),
            Line("stdlib-pool", figure, "", ours, AMLTK.name, theirs, ratio, Better.MORE),
        ]
    return lines
