"""How fast resources are granted among very many waiting calls, and how fast calls that request some are computed."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import US
from benchmarks.table import Better, Line

WITH_RESOURCES = {US.name, "Dask", "Ray"}
"""Tools whose calls can request shares of resources and that have a workload here."""


def measure(setting: Setting) -> list[Line]:
    sizes = ("--waiting", setting.either(100_000, 20_000), "--decisions", setting.either(50_000, 5_000))
    samples = interleave({"ours": Case("admission", sizes)}, setting.either(5, 3))
    decisions = samples.spread("ours", "decisions").show("{:,.0f}")
    line = Line("admission", "decisions/s of CPU time, 100,000 calls of 20 shapes waiting", ">= 50,000", decisions)
    calls = setting.either(10_000, 300)
    cases = setting.on_all("granting", "--calls", calls)
    rates = interleave({name: case for name, case in cases.items() if name in WITH_RESOURCES}, setting.either(3, 1))
    figure = f"no-op calls/s, {calls:,} at once, each with half of one of two"
    return [line, *Versus("admission", figure, Better.MORE).lines(rates, "rate")]
