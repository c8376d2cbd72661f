"""Small and large arrays, to a worker and back."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import JOBLIB
from benchmarks.table import Better, Line

SHARE = 0.05


def measure(setting: Setting) -> list[Line]:
    samples = interleave(setting.on_all("payload", also={JOBLIB.name}), setting.rounds(3, 1))

    def versus(size: str, form: str) -> Versus:
        return Versus("payload", f"ms for an array of {size} to a worker and back", Better.LESS, form, scale=1e3)

    return [
        *versus("1 kB", "{:.2f}").lines(samples, "1 kB"),
        *versus("1 MB", "{:.1f}").lines(samples, "1 MB"),
        *versus("100 MB", "{:,.0f}").lines(samples, "100 MB", times_stdlib=SHARE),
    ]
