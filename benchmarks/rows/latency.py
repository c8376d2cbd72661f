"""How soon the callback runs after a call has ended."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.table import Better, Line

LOADS = {"idle": "one call at a time", "loaded": "64 calls of 1 ms in flight"}


def measure(setting: Setting) -> list[Line]:
    samples = interleave(setting.on_all("latency", "--calls", setting.either(400, 100)), setting.rounds(3, 1))
    lines: list[Line] = []
    for load, what in LOADS.items():
        for share in ("p50", "p99"):
            versus = Versus("latency", f"us from a call's end to its callback, {share}, {what}", Better.LESS)
            lines += versus.lines(samples, f"{load} {share}")
    return lines
