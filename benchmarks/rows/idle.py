"""Whether an idle run wakes up."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.subjects import AMLTK
from benchmarks.table import Line

HANDFUL = 5
SHORT, LONG = 1.0, 4.0


def measure(setting: Setting) -> list[Line]:
    cases: dict[str, Case | None] = {}
    for name, seconds in (("short", SHORT), ("long", LONG)):
        cases[name] = Case("idle_run", ("--seconds", seconds))
        cases[f"amltk {name}"] = setting.on_amltk("idle_run", "--seconds", seconds)
    samples = interleave(cases, setting.rounds(3, 1))
    lines: list[Line] = []
    for figure, what in (
        ("wakeups", "the loop's returns from its wait"),
        ("context_switches", "sleeps of any thread of the process"),
    ):
        short, long = samples.spread("short", figure), samples.spread("long", figure)
        theirs = NO_PEER
        if samples.has("amltk short"):
            short_theirs, long_theirs = (samples.spread(f"amltk {name}", figure) for name in ("short", "long"))
            theirs = f"{short_theirs.median:.0f}, {long_theirs.median:.0f}"
        lines.append(
            Line(
                "idle",
                f"{what}, in {SHORT:.0f} s and in {LONG:.0f} s",
                f"<= {HANDFUL}, however long",
                f"{short.show()}, {long.show()}",
                AMLTK.name,
                theirs,
                ok=long.median <= HANDFUL and long.median <= short.median + 1,
            )
        )
    return lines
