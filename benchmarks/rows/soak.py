"""Whether memory or anything else grows over very many tasks."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

MEGABYTES = 2.0


def measure(setting: Setting) -> list[Line]:
    tasks = setting.either(2_000_000, 100_000)
    gains = interleave({"ours": Case("soak", ("--tasks", tasks))}, 1).first("ours")
    shown = f"{gains['megabytes']:+.2f} MB, {gains['descriptors']:+.0f} descriptors, {gains['threads']:+.0f} threads"
    return [
        Line(
            "soak",
            f"gained by parent and 2 workers in 90 % of {tasks:,} tasks",
            f"< {MEGABYTES:.0f} MB, nothing else",
            shown,
            ok=gains["megabytes"] < MEGABYTES and gains["descriptors"] <= 0 and gains["threads"] <= 0,
        )
    ]
