"""The time to the first result."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import JOBLIB
from benchmarks.table import Better, Line


def measure(setting: Setting) -> list[Line]:
    samples = interleave(setting.on_all("first_result", also={JOBLIB.name}), setting.rounds(3, 1))
    what = "ms from making the workers to the first callback, imports done"
    return Versus("first-result", what, Better.LESS, scale=1e3).lines(samples, "seconds")
