"""No-op tasks through the scheduler's own processes, next to the standard library's pool on its own."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

FIGURE = "tasks_per_second"


def measure(setting: Setting) -> list[Line]:
    tasks = setting.either(20_000, 4_000)

    def options(in_flight: int) -> tuple[object, ...]:
        return "--tasks", tasks, "--in-flight", in_flight

    return [
        _line(setting, options(8), "8 in flight", times=3, bare="bare-callbacks"),
        _line(setting, options(64), "64 in flight", times=5, bare="bare-callbacks"),
        # A callback that submits nothing is no load: here the standard library is at its fastest on the main thread.
        _line(setting, options(tasks), "all submitted first", times=4, bare="bare-main-thread"),
    ]


def _line(setting: Setting, options: tuple[object, ...], name: str, *, times: int, bare: str) -> Line:
    cases: dict[str, Case | None] = {
        "bare": Case("throughput", (bare, *options)),
        "ours": Case("throughput", ("processes", *options)),
    }
    for pool in setting.pools:
        cases[pool] = setting.on_peer("throughput", "bare-main-thread", "--pool", pool, *options)
    samples = interleave(cases, setting.either(7, 3))
    rates = {"bare ProcessPoolExecutor": samples.spread("bare", FIGURE)}
    rates |= {f"bare {pool}": samples.spread(pool, FIGURE) for pool in setting.pools}
    ratio = samples.ratio(FIGURE, "ours", "bare")
    return Line(
        "processes",
        f"no-op tasks/s, {name}",
        f">= {times} x stdlib",
        samples.spread("ours", FIGURE).show(),
        "; ".join(f"{pool}: {rate.show()}" for pool, rate in rates.items()),
        ratio.show("{:.2f}"),
        ok=ratio.median >= times,
    )
