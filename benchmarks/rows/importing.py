"""What the import at the top of users' programs costs; here, the modules behind names are imported on first use."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.measure import Samples, interleave
from benchmarks.rows.setting import Setting
from benchmarks.rows.versus import Versus
from benchmarks.subjects import JOBLIB, TOOLS, US
from benchmarks.table import Better, Line

MILLISECONDS = 60
VERSUS = Versus("import", "ms for `from amltk.scheduling import Scheduler`, or the like", Better.LESS)


def measure(setting: Setting) -> list[Line]:
    cases = setting.on_all("importing", also={JOBLIB.name})
    interleave(cases, 1)  # compiles and fills caches
    samples = interleave(cases, setting.rounds(7, 3))
    ours = samples.spread(US.name, "tool")
    first, *others = VERSUS.lines(samples, "tool")
    asyncio = samples.spread(US.name, "asyncio")
    return [
        replace(first, bound=f"<= {MILLISECONDS}", ok=ours.median <= MILLISECONDS),
        *others,
        Line("import", VERSUS.figure, "", ours.show(), "asyncio and concurrent.futures", asyncio.show()),
        *_packages(samples),
    ]


def _packages(samples: Samples) -> list[Line]:
    ours = _foreign(samples, US.name)
    shown = ", ".join(ours) or "none"
    figure = "packages that it loads from outside the standard library"
    lines = [
        Line("import", figure, ours=shown, peer=tool.name, theirs=str(len(_foreign(samples, tool.name))))
        for tool in TOOLS
        if samples.has(tool.name)
    ]
    return [replace(lines[0], bound="none", ok=not ours), *lines[1:]]


def _foreign(samples: Samples, case: str) -> list[str]:
    names: list[str] = samples.first(case)["foreign"]
    return names
