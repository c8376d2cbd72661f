"""A rehearsal of a large experiment: ten thousand virtual workers, through the real scheduler."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

WORKERS = 10_000
TASKS = 10_000_000
MINUTES = 10


def measure(setting: Setting) -> list[Line]:
    tasks = setting.either(500_000, 50_000)
    case = Case("simulation", ("--workers", WORKERS, "--tasks", tasks))
    samples = interleave({"simulated": case}, setting.rounds(3, 1))
    rate, megabytes = (samples.spread("simulated", figure) for figure in ("tasks_per_second", "megabytes"))
    minutes = samples.of_each(lambda sample: TASKS / sample["simulated"]["tasks_per_second"] / 60)
    return [
        Line(
            "simulation",
            f"minutes of CPU for {TASKS:,} tasks on {WORKERS:,} virtual workers, by the rate of {tasks:,}",
            f"<= {MINUTES}",
            minutes.show("{:.1f}"),
            ok=minutes.median <= MINUTES,
        ),
        Line("simulation", "tasks/s of CPU time", ours=rate.show()),
        Line("simulation", "MB resident", ours=megabytes.show()),
    ]
