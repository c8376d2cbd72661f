"""What a journal adds to a run, compared with Optuna's storages, and what reading a long one costs."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.measure import Case, Spread, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Better, Line

MICROSECONDS = 25
REPLAYED = 50_000
BYTES = 200
MILLION = 1_000_000
SECONDS = {"show": 3, "open": 20}
"""The maximum that the design allows for a million recorded calls."""

STORAGES = {"journal-storage": "Optuna's JournalStorage, a file", "sqlite": "Optuna's RDB storage, sqlite"}


def measure(setting: Setting) -> list[Line]:
    return [*_of_calls(setting), *_of_trials(setting), *_of_reading(setting)]


def _of_calls(setting: Setting) -> list[Line]:
    options = ("--calls", setting.either(20_000, 2_000), "--in-flight", 64)
    samples = interleave({"ours": Case("journal", options)}, setting.rounds(5, 1))
    cost, replayed = samples.spread("ours", "microseconds"), samples.spread("ours", "replayed")
    recorded, without = (samples.spread("ours", key).show() for key in ("recorded", "without"))
    bounds = (cost.median <= MICROSECONDS, replayed.median >= REPLAYED) if not setting.quick else (None, None)
    return [
        Line(
            "journal",
            "no-op calls/s with a journal, 64 in flight",
            ours=recorded,
            peer="no journal",
            theirs=without,
            ratio=samples.of_each(lambda of: of["ours"]["recorded"] / of["ours"]["without"]),
        ),
        Line("journal", "µs that it costs a call", f"<= {MICROSECONDS}", cost.show("{:.1f}"), ok=bounds[0]),
        Line("journal", "recorded calls/s at a replay", f">= {REPLAYED:,}", replayed.show(), ok=bounds[1]),
    ]


def _of_trials(setting: Setting) -> list[Line]:
    figure = "µs that it costs an Optuna trial to outlive the program"
    if find_spec("optuna") is None:
        return [Line("journal", figure, peer=storage, theirs=NO_PEER) for storage in STORAGES.values()]
    options = ("--trials", setting.either(300, 100))
    kinds = ("memory", "journal", *STORAGES)
    samples = interleave({kind: Case("trials", (kind, *options)) for kind in kinds}, setting.rounds(3, 1))

    def added(kind: str) -> Spread:
        return samples.of_each(lambda of: of[kind]["microseconds"] - of["memory"]["microseconds"])

    return [
        Line(
            "journal",
            figure,
            ours=added("journal").show(),
            peer=storage,
            theirs=added(kind).show(),
            ratio=Spread(
                [ours / theirs for ours, theirs in zip(added("journal").values, added(kind).values, strict=True)]
            ),
            better=Better.LESS,
        )
        for kind, storage in STORAGES.items()
    ]


def _of_reading(setting: Setting) -> list[Line]:
    calls = setting.either(MILLION, 20_000)
    samples = interleave({"ours": Case("journal_reading", ("--calls", calls))}, 1)
    lines = []
    for key, what in (("show", "`amltk show`"), ("open", "`amltk.journal.open`")):
        taken = samples.spread("ours", key)
        ok = None if setting.quick else taken.median <= SECONDS[key]
        bound = f"<= {SECONDS[key]}" if calls == MILLION else ""
        lines.append(Line("journal", f"seconds of {what}, {calls:,} calls", bound, taken.show("{:.2f}"), ok=ok))
    grown = samples.spread("ours", "bytes")
    ok = None if setting.quick else grown.median <= BYTES
    lines.append(Line("journal", "bytes for a recorded call, at a replay", f"<= {BYTES}", grown.show(), ok=ok))
    return lines
