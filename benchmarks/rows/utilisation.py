"""Whether workers stay busy when calls are uneven or callbacks block."""

from __future__ import annotations

from benchmarks.measure import interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.table import Better, Line


def uneven(setting: Setting) -> list[Line]:
    return _measure(setting, "uneven", "workers busy, log-normal calls of 10 ms on average, 4 in flight")


def blocking(setting: Setting) -> list[Line]:
    return _measure(setting, "blocking", "workers busy, callbacks that block 4 ms, calls of 10 ms, 8 in flight")


def _measure(setting: Setting, load: str, what: str) -> list[Line]:
    options = (load, "--calls", setting.either(250, 100))
    samples = interleave(setting.on_all("utilisation", *options), setting.rounds(3, 1))
    return Versus(load, what, Better.MORE, "{:.1%}").lines(samples, "share")
