"""What `from amltk.scheduling import Scheduler` costs: the names of the package are imported when they are used."""

from __future__ import annotations

from benchmarks.measure import Case, Samples, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.table import Line

MILLISECONDS = 60


def measure(setting: Setting) -> list[Line]:
    cases = {"ours": Case("importing"), "amltk": setting.on_amltk("importing")}
    interleave(cases, 1)  # compiles and caches
    samples = interleave(cases, setting.either(15, 5))
    ours = samples.of_each(lambda of: of["ours"]["amltk"] - of["ours"]["nothing"])
    asyncio = samples.of_each(lambda of: of["ours"]["asyncio"] - of["ours"]["nothing"])
    beyond = samples.of_each(lambda of: of["ours"]["amltk"] - of["ours"]["asyncio"])
    foreign = _foreign(samples, "ours")
    ratio, theirs = "", NO_PEER
    if samples.has("amltk"):
        spread = samples.of_each(lambda of: of["amltk"]["amltk"] - of["amltk"]["nothing"])
        theirs = f"amltk 1.12.1: {spread.show()}"
        ratio = samples.of_each(
            lambda of: (of["ours"]["amltk"] - of["ours"]["nothing"]) / (of["amltk"]["amltk"] - of["amltk"]["nothing"])
        ).show("{:.3f}")
    return [
        Line(
            "import",
            "ms for `from amltk.scheduling import Scheduler`, less the interpreter's start",
            f"<= {MILLISECONDS}",
            ours.show(),
            theirs,
            ratio,
            ok=ours.median <= MILLISECONDS,
        ),
        Line(
            "import",
            "ms of that beyond asyncio and concurrent.futures",
            "",
            beyond.show(),
            f"this machine: those two take {asyncio.show()}",
        ),
        Line(
            "import",
            "packages it loads from outside the standard library",
            "none",
            ", ".join(foreign) or "none",
            f"amltk 1.12.1: {len(_foreign(samples, 'amltk'))}" if samples.has("amltk") else NO_PEER,
            ok=not foreign,
        ),
    ]


def _foreign(samples: Samples, case: str) -> list[str]:
    names: list[str] = samples.first(case)["foreign"]
    return names
