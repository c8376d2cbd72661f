"""Large arrays to a worker and back, next to the standard library's pool and others."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.table import Line

SHARE = 0.4
FIGURE = "seconds"


def measure(setting: Setting) -> list[Line]:
    size = ("--megabytes", 100)
    cases: dict[str, Case | None] = {name: Case("arrays", (name, *size)) for name in ("stdlib", "ours")}
    cases |= {name: setting.on_peer("arrays", name, *size) for name in setting.pools}
    samples = interleave(cases, setting.either(7, 2))
    share = samples.ratio(FIGURE, "ours", "stdlib")
    others = (f"{name}: {samples.spread(name, FIGURE).show('{:.2f}')}" for name in ("stdlib", *setting.pools))
    return [
        Line(
            "arrays",
            "seconds for 100 MB to a worker and back",
            f"<= {SHARE} x stdlib",
            samples.spread("ours", FIGURE).show("{:.2f}"),
            "; ".join(others),
            share.show("{:.2f}"),
            ok=share.median <= SHARE,
        )
    ]
