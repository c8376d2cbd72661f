"""Calls that take futures of other calls as arguments: calls per second in a chain and in a fan-in."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import US
from benchmarks.table import Better, Line

WITH_FUTURES = {US.name, "Dask", "Ray"}
"""Tools that accept a future, or a reference, as an argument and that have a workload here."""

SHAPES = {"chain": "each needs the one before", "fan": "one needs all others"}


def measure(setting: Setting) -> list[Line]:
    calls = setting.either(10_000, 300)
    cases = setting.on_all("pipelines", "--calls", calls)
    samples = interleave({name: case for name, case in cases.items() if name in WITH_FUTURES}, setting.either(3, 1))
    lines: list[Line] = []
    for key, shape in SHAPES.items():
        lines += Versus("pipelines", f"no-op calls/s, {calls:,} at once, {shape}", Better.MORE).lines(samples, key)
    return lines
