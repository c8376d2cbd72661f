"""Whether a task costs more when a million others are pending."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Line

RATIO = 1.25
FEW = 1_000
PEERS_MANY = 100_000  # a million would take amltk some 4 GB and minutes


def measure(setting: Setting) -> list[Line]:
    many = setting.either(1_000_000, 100_000)
    tasks = setting.either(50_000, 20_000)
    cases: dict[str, Case | None] = {}
    for how in ("bare", "scheduler"):
        for size, pending in (("few", FEW), ("many", many)):
            cases[f"{how} {size}"] = Case("pending_cost", (how, "--pending", pending, "--tasks", tasks))
    if not setting.quick:
        for size, pending in (("few", FEW), ("many", PEERS_MANY)):
            cases[f"amltk {size}"] = setting.on_amltk(
                "pending_cost", "scheduler", "--pending", pending, "--tasks", tasks // 10
            )
    samples = interleave(cases, setting.either(3, 1))

    def show(who: str, figure: str = "microseconds") -> str:
        few, most = (samples.spread(f"{who} {size}", figure).median for size in ("few", "many"))
        return f"{few:.1f} -> {most:.1f}"

    cost = samples.ratio("microseconds", "scheduler many", "scheduler few")
    collector = samples.spread("scheduler many", "gc_share")
    lines = [
        Line(
            "pending",
            f"us of CPU, one in, one out, {FEW:,} -> {many:,} pending (gc on, {collector.median:.0%})",
            f"<= {RATIO}",
            show("scheduler"),
            f"bare: {show('bare')}, {samples.ratio('microseconds', 'bare many', 'bare few').show('{:.2f}')}",
            cost.show("{:.2f}"),
            ok=cost.median <= RATIO,
        ),
        Line(
            "pending",
            f"us of CPU to submit until {FEW:,} -> {many:,} are pending (gc on)",
            "",
            show("scheduler", "microseconds_to_fill"),
            f"bare: {show('bare', 'microseconds_to_fill')}",
            samples.ratio("microseconds_to_fill", "scheduler many", "scheduler few").show("{:.2f}"),
        ),
    ]
    if not setting.quick:
        there = samples.has("amltk few")
        lines.append(
            Line(
                "pending",
                f"us of CPU, one in, one out, {FEW:,} -> {PEERS_MANY:,} pending: the peer",
                "",
                "",
                f"amltk 1.12.1: {show('amltk')}" if there else NO_PEER,
                samples.ratio("microseconds", "amltk many", "amltk few").show("{:.2f}") if there else "",
            )
        )
    return lines
