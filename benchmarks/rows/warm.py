"""How soon calls that need a heavy module start: the first one, and the next one after workers were killed."""

from __future__ import annotations

from benchmarks.measure import Case, Samples, interleave
from benchmarks.rows.setting import Setting
from benchmarks.subjects import US
from benchmarks.table import Better, Line

MODULES = {"numpy": "numpy", "sklearn.ensemble": "scikit-learn", "heavy_module": "a module like PyTorch"}

FORK, FORK_SERVER = "stdlib, fork", "stdlib, forkserver with preload"
BESIDE = ("loky", "pebble")
MAX_IMPORTS = 1.1
MAX_MILLISECONDS = 50

FIGURES = {
    "first": "to the first call",
    "after_cancel": "to the next call after two workers were killed by cancel()",
    "after_limit": "to the next call after two workers were killed by a limit",
}


def measure(setting: Setting) -> list[Line]:
    return [line for module in MODULES for line in _of_module(setting, module)]


def _of_module(setting: Setting, module: str) -> list[Line]:
    cases = {
        US.name: Case("warm", (US.key, module)),
        FORK: Case("warm", ("fork", module)),
        FORK_SERVER: Case("warm", ("forkserver", module)),
    }
    for tool in setting.tools:
        if tool.key in BESIDE:
            cases[tool.name] = Case("warm", (tool.key, module), tool.subject)
    samples = interleave(cases, setting.rounds(5, 1))
    imports = samples.spread(US.name, "first_ratio")
    figure = f"the first call needs {MODULES[module]}: times one import of it"
    bounded = Line("warm", figure, f"<= {MAX_IMPORTS}", imports.show("{:.2f}"), ok=imports.median <= MAX_IMPORTS)
    peers = [name for name in cases if name != US.name]
    return [bounded, *(_line(samples, module, key, peer) for key in FIGURES for peer in peers)]


def _line(samples: Samples, module: str, key: str, peer: str) -> Line:
    figure = f"ms {FIGURES[key]}, {MODULES[module]}"
    ours = samples.spread(US.name, key)
    shown = f"{1000 * ours.median:,.0f}"
    bound, ok = ("", None) if key == "first" else (f"<= {MAX_MILLISECONDS}", 1000 * ours.median <= MAX_MILLISECONDS)
    if peer in samples.failures:
        return Line("warm", figure, bound, shown, peer, f"failed: {samples.failures[peer]:.40}", ok=ok)
    theirs = f"{1000 * samples.spread(peer, key).median:,.0f}"
    return Line("warm", figure, bound, shown, peer, theirs, samples.ratio(key, US.name, peer), Better.LESS, ok)
