"""How fast resources are granted among very many waiting calls, and how fast calls that request some are computed."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.table import Better, Line

WITH_RESOURCES = {"executorlib", "Dask", "Ray", "HyperQueue"}
"""Tools whose calls can each request resources."""

DECISIONS = 50_000
"""The least that the design allows, in a second."""


def measure(setting: Setting) -> list[Line]:
    return [_decisions(setting), *_calls(setting)]


def _decisions(setting: Setting) -> Line:
    waiting = setting.either(100_000, 20_000)
    sizes = ("--waiting", waiting, "--decisions", setting.either(50_000, 5_000))
    decisions = interleave({"ours": Case("admission", sizes)}, setting.rounds(5, 3)).spread("ours", "decisions")
    figure = f"decisions/s of CPU time, {waiting:,} calls of 20 shapes waiting"
    ok = None if setting.quick else decisions.median >= DECISIONS
    return Line("admission", figure, f">= {DECISIONS:,}", decisions.show(), ok=ok)


def _calls(setting: Setting) -> list[Line]:
    options = ("--seconds", setting.either(1, 0.2), "--most", setting.either(10_000, 500))
    samples = interleave(setting.on_some(WITH_RESOURCES, "granting", *options), setting.rounds(3, 1))
    figure = "no-op calls/s, all submitted at once, each with half of one of two"
    return Versus("admission", figure, Better.MORE).lines(samples, "rate")
