"""Calls that take futures of other calls as arguments: calls per second in a chain and in a fan-in."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.table import Better, Line

WITH_FUTURES = {"executorlib", "Parsl", "Dask", "Ray"}
"""Tools that accept a future, or a reference, as an argument."""

SHAPES = {"chain": "each needs the one before", "fan": "one needs all others"}


def measure(setting: Setting) -> list[Line]:
    options = ("--seconds", setting.either(1, 0.2), "--most", setting.either(10_000, 500))
    samples = interleave(setting.on_some(WITH_FUTURES, "pipelines", *options), setting.rounds(3, 1))
    lines: list[Line] = []
    for key, shape in SHAPES.items():
        lines += Versus("pipelines", f"no-op calls/s, all submitted at once, {shape}", Better.MORE).lines(samples, key)
    return lines
