"""Whether a run ends promptly when asked to and leaves no process behind."""

from __future__ import annotations

from benchmarks.measure import Case, Samples, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import AMLTK, US
from benchmarks.table import Better, Line

MILLISECONDS = 100
FIGURE, LEFT = "overrun_milliseconds", "left_behind"
WITH_AN_END = ("loky", "Pebble", "mpire", "Dask", "Ray")
"""Tools that can be told to end at once."""


def measure(setting: Setting) -> list[Line]:
    return [*_sleeping(setting), *_with_children(setting)]


def _sleeping(setting: Setting) -> list[Line]:
    cases: dict[str, Case | None] = {
        "bare": Case("prompt_end", ("bare", "sleep")),
        US.name: Case("prompt_end", ("scheduler", "sleep")),
        AMLTK.name: setting.on_amltk("prompt_end", "scheduler", "sleep"),
    }
    for tool in setting.tools:
        if tool.name in WITH_AN_END:
            cases[tool.name] = Case("ending", (tool.key,), tool.subject)
    samples = interleave(cases, setting.rounds(5, 1))
    return _lines(samples, "workers sleep")


def _with_children(setting: Setting) -> list[Line]:
    """For this package alone: AMLTK was seen to spin for minutes."""
    cases = {"bare": Case("prompt_end", ("bare", "spawn")), US.name: Case("prompt_end", ("scheduler", "spawn"))}
    return _lines(interleave(cases, setting.rounds(5, 1)), "workers wait for children")


def _lines(samples: Samples, meanwhile: str) -> list[Line]:
    figure = f"ms that an end takes while {meanwhile}: run(timeout=1, wait=False), or the like"
    late, left = samples.spread(US.name, FIGURE), samples.spread(US.name, LEFT)
    killing, in_time = samples.spread("bare", FIGURE).show(), late.median <= MILLISECONDS
    return [
        Line("prompt-end", f"processes left, {meanwhile}", "0", left.show(), ok=not left.most),
        *(
            Line("prompt-end", f"processes left, {meanwhile}", "", left.show(), name, samples.spread(name, LEFT).show())
            for name in (AMLTK.name, *WITH_AN_END)
            if samples.has(name)
        ),
        Line("prompt-end", figure, f"<= {MILLISECONDS}", late.show(), "killing as many processes", killing, ok=in_time),
        *Versus("prompt-end", figure, Better.LESS).lines(samples, FIGURE),
    ]
