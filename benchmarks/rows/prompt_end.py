"""Whether a run ends when it should, and leaves no process behind."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.subjects import AMLTK
from benchmarks.table import Better, Line

MILLISECONDS = 100
FIGURE = "overrun_milliseconds"
LESS = Better.LESS


def measure(setting: Setting) -> list[Line]:
    lines: list[Line] = []
    for what, label in (("sleep", "sleeping workers"), ("spawn", "workers with children")):
        samples = interleave(
            {
                "bare": Case("prompt_end", ("bare", what)),
                "ours": Case("prompt_end", ("scheduler", what)),
                # With children of workers it may never return: it was seen to spin for minutes.
                "amltk": setting.on_amltk("prompt_end", "scheduler", what) if what == "sleep" else None,
            },
            setting.either(5, 2),
        )
        late, left = samples.spread("ours", FIGURE), samples.spread("ours", "left_behind")
        theirs, theirs_left = (NO_PEER, NO_PEER) if what == "sleep" else ("may hang",) * 2
        ratio = None
        if samples.has("amltk"):
            theirs, theirs_left = (samples.spread("amltk", figure).show() for figure in (FIGURE, "left_behind"))
            ratio = samples.ratio(FIGURE, "ours", "amltk")
        figure = f"ms run(timeout=1, wait=False) returns late, {label}"
        in_time = late.median <= MILLISECONDS
        killing = samples.spread("bare", FIGURE).show()
        lines += [
            Line("prompt-end", figure, f"<= {MILLISECONDS}", late.show(), AMLTK.name, theirs, ratio, LESS, in_time),
            Line("prompt-end", figure, "", late.show(), "killing as many processes", killing),
            Line("prompt-end", f"processes left, {label}", "0", left.show(), AMLTK.name, theirs_left, ok=not left.most),
        ]
    return lines
