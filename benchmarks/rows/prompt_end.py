"""Whether a run ends when it should, and leaves no process behind."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Line

MILLISECONDS = 100
FIGURE = "overrun_milliseconds"


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
        killing = samples.spread("bare", FIGURE)
        theirs, theirs_left = (NO_PEER, NO_PEER) if what == "sleep" else ("amltk 1.12.1 may hang here",) * 2
        if samples.has("amltk"):
            theirs = f"amltk 1.12.1: {samples.spread('amltk', FIGURE).show()}"
            theirs_left = f"amltk 1.12.1: {samples.spread('amltk', 'left_behind').show()}"
        lines += [
            Line(
                "prompt-end",
                f"ms run(timeout=1, wait=False) returns late, {label}",
                f"<= {MILLISECONDS}",
                late.show(),
                f"this machine: killing takes {killing.show()}; {theirs}",
                ok=late.median <= MILLISECONDS,
            ),
            Line("prompt-end", f"processes left, {label}", "0", left.show(), theirs_left, ok=left.worst == 0),
        ]
    return lines
