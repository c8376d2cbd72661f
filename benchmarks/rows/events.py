"""The event engine alone: an executor that completes every call at once, and two callbacks."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import beside_amltk
from benchmarks.subjects import AMLTK
from benchmarks.table import Better, Line

TASKS_A_SECOND = 150_000
TIMES_AMLTK = 4


def measure(setting: Setting) -> list[Line]:
    tasks = setting.either(100_000, 20_000)
    peers_tasks = tasks // 2  # a rate, so fewer tasks will do
    samples = interleave(
        {
            "bare": Case("event_engine", ("bare", "--tasks", tasks)),
            "ours scheduler": Case("event_engine", ("scheduler", "--tasks", tasks)),
            "amltk scheduler": setting.on_amltk("event_engine", "scheduler", "--tasks", peers_tasks),
            "ours task": Case("event_engine", ("task", "--tasks", tasks)),
            "amltk task": setting.on_amltk("event_engine", "task", "--tasks", peers_tasks),
        },
        setting.rounds(5, 3),
    )
    figure = "tasks_per_second"
    lines: list[Line] = []
    for how, callbacks in (
        ("scheduler", "Scheduler.submit, 2 callbacks of the scheduler"),
        ("task", "Task.submit, 1 of the scheduler, 1 of the task"),
    ):
        ours, theirs = f"ours {how}", f"amltk {how}"
        shown, ratio = beside_amltk(samples, figure, ours, theirs)
        rate = samples.spread(ours, figure)
        fast_enough = rate.median >= TASKS_A_SECOND or (ratio is not None and ratio.median >= TIMES_AMLTK)
        lines.append(
            Line(
                "events",
                f"tasks/s of CPU time: {callbacks}",
                f">= {TASKS_A_SECOND:,}, or {TIMES_AMLTK} x amltk",
                rate.show(),
                AMLTK.name,
                shown,
                ratio,
                Better.MORE,
                ok=fast_enough if ratio or fast_enough else None,
            )
        )
    lines.append(
        Line(
            "events",
            "tasks/s of CPU time: Scheduler.submit, 2 callbacks of the scheduler",
            "",
            samples.spread("ours scheduler", figure).show(),
            "a plain loop over that executor",
            samples.spread("bare", figure).show(),
            samples.ratio(figure, "ours scheduler", "bare"),
        )
    )
    return lines
