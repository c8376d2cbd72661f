"""Calls per second through worker processes: short and longer ones, few and many in flight."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import JOBLIB
from benchmarks.table import Better, Line

TIMES_STDLIB = {"8": 3, "64": 5, "all": 4}
IN_FLIGHT = {"8": "8 in flight", "64": "64 in flight", "all": "all submitted first"}


def measure(setting: Setting) -> list[Line]:
    return [line for milliseconds in setting.either((0, 1, 10), (0, 10)) for line in _lines(setting, milliseconds)]


def _lines(setting: Setting, milliseconds: int) -> list[Line]:
    options = ("--milliseconds", milliseconds, "--seconds", setting.either(0.3, 0.1))
    rounds = setting.rounds(5 if milliseconds == 0 else 3, 1)
    samples = interleave(setting.on_all("throughput", *options, also={JOBLIB.name}), rounds)
    calls = f"calls of {milliseconds} ms" if milliseconds else "no-op calls"
    lines: list[Line] = []
    for key, in_flight in IN_FLIGHT.items():
        versus = Versus("throughput", f"{calls}/s, {in_flight}", Better.MORE)
        lines += versus.lines(samples, key, times_stdlib=None if milliseconds else TIMES_STDLIB[key])
    return lines
