"""What it costs to store and look up results, compared with joblib's cache."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Better, Line

PEER = "joblib.Memory"

FIGURES = {
    "kept": ("calls/s that do nothing and are kept", "{:,.0f}"),
    "found": ("calls/s that are not computed, since they are kept", "{:,.0f}"),
    "gigabytes": ("GB/s of an array among the arguments", "{:.2f}"),
}


def measure(setting: Setting) -> list[Line]:
    sizes = ("--calls", setting.either(2_000, 500), "--megabytes", setting.either(200, 50))
    cases = {"ours": Case("memo", ("memo", *sizes))}
    if find_spec("joblib") is not None:
        cases["joblib"] = Case("memo", ("joblib", *sizes))
    samples = interleave(cases, setting.rounds(5, 3))
    lines = []
    for key, (figure, form) in FIGURES.items():
        ours = samples.spread("ours", key).show(form)
        if samples.has("joblib"):
            theirs, ratio = samples.spread("joblib", key).show(form), samples.ratio(key, "ours", "joblib")
            lines.append(Line("memo", figure, "", ours, PEER, theirs, ratio, Better.MORE))
        else:
            lines.append(Line("memo", figure, ours=ours, peer=PEER, theirs=NO_PEER))
    return lines
