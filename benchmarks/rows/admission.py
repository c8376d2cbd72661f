"""How fast it is decided which of very many calls gets what is free."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line


def measure(setting: Setting) -> list[Line]:
    sizes = ("--waiting", setting.either(100_000, 20_000), "--decisions", setting.either(50_000, 5_000))
    samples = interleave({"ours": Case("admission", sizes)}, setting.either(5, 3))
    decisions = samples.spread("ours", "decisions").show("{:,.0f}")
    return [Line("admission", "decisions/s of CPU time, 100,000 calls of 20 shapes waiting", "", decisions)]
