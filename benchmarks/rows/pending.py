"""Whether a task costs more while a million others are pending, and how much driver memory pending tasks take."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import STDLIB, US
from benchmarks.table import Better, Line

TIMES = 1.25
FEW = 1_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST = {
    US.name: 1_000_000,
    STDLIB.name: 1_000_000,
    "executorlib": 10_000,
    "Parsl": 10_000,
    "Ray": 10_000,
    "Dask": 1_000,
}
"""How many can be pending before it takes minutes or all of the memory; 100,000 for the other tools."""

SLOW = ("Parsl", "Dask", "Ray")

MEMORY_AT = 10_000
"""Fewer than this are lost in the noise."""


def measure(setting: Setting) -> list[Line]:
    sizes = setting.either(SIZES, (FEW, 100_000))
    return [*_engine(setting, sizes), *(line for size in sizes for line in _tools(setting, size))]


def _engine(setting: Setting, sizes: tuple[int, ...]) -> list[Line]:
    """Over an executor that computes nothing, in CPU time; the ratio to a small backlog has a bound."""
    tasks = setting.either(50_000, 20_000)
    cases = {
        f"{how} {size}": Case("pending_cost", (how, "--pending", size, "--tasks", tasks))
        for size in sizes
        for how in ("bare", "scheduler")
    }
    samples = interleave(cases, setting.rounds(3, 1))
    lines: list[Line] = []
    for key, what in (("microseconds", "one in, one out"), ("microseconds_to_fill", "to submit until there are")):
        few = samples.spread(f"scheduler {FEW}", key).show("{:.1f}")
        for size in sizes[1:]:
            figure = f"us of CPU a task, {what}, {size:,} pending"
            ratio = samples.ratio(key, f"scheduler {size}", f"scheduler {FEW}")
            bounded = key == "microseconds" and size == sizes[-1]
            bound, holds = (f"<= {TIMES}", ratio.median <= TIMES) if bounded else ("", None)
            ours, bare = (samples.spread(f"{how} {size}", key).show("{:.1f}") for how in ("scheduler", "bare"))
            lines += [
                Line("pending", figure, bound, ours, f"ours, {FEW:,} pending", few, ratio, Better.LESS, holds),
                Line("pending", figure, "", ours, "the executor, bare", bare),
            ]
    return lines


def _tools(setting: Setting, size: int) -> list[Line]:
    """Through worker processes, in wall-clock time."""
    cases = {
        name: setting.on_all("pool_pending", "--pending", size, "--calls", calls)[name]
        for name, calls in _calls(setting).items()
        if size <= MOST.get(name, 100_000)
    }
    samples = interleave(cases, setting.rounds(3 if size <= MEMORY_AT else 1, 1))
    time = Versus("pending", f"us a call through workers, one in, one out, {size:,} pending", Better.LESS)
    memory = Versus("pending", f"bytes of the driver's memory a pending call, {size:,} pending", Better.LESS)
    return [
        *time.lines(samples, "microseconds"),
        *(memory.lines(samples, "bytes") if size == MEMORY_AT else ()),
    ]


def _calls(setting: Setting) -> dict[str, int]:
    """How many calls are timed, by tool."""
    return {
        tool.name: setting.either(300, 100) if tool.name in SLOW else setting.either(2_000, 1_000)
        for tool in (US, *setting.tools)
        if not tool.for_few
    }
