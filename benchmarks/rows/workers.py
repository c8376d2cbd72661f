"""What many workers cost the driver, and whether a call costs more when there are more of them."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import NO_PEER, Setting
from benchmarks.subjects import BESIDE_PEERS, OURS
from benchmarks.table import Line

AT_MOST = 1.5
"""How many times as much a call may cost with the most workers as with the fewest."""

AT_REST = 5.0
"""How many milliseconds of CPU time a second of rest may take, with any number of workers."""

FIGURES = {
    "call": ("CPU time a call, us", "{:,.0f}"),
    "rest": ("CPU time of a second at rest, ms", "{:.1f}"),
    "start": ("CPU time of a worker's start, with its first call, ms", "{:.1f}"),
    "end": ("CPU time of a worker's end, ms", "{:.2f}"),
    "descriptors": ("descriptors a worker", "{:.1f}"),
    "kilobytes": ("kB resident a worker", "{:,.0f}"),
}


def measure(setting: Setting) -> list[Line]:
    lines = _lines(setting, "processes", setting.either((10, 100, 300), (10, 100)), tuple(FIGURES), bound=True)
    if not any(tool.name == "Dask" for tool in setting.tools):
        return [*lines, Line("workers", "CPU time a call, us: with_dask", peer="Dask", theirs=NO_PEER)]
    return lines + _lines(setting, "dask", setting.either((10, 100, 300), (10, 30)), ("call",), bound=False)


def _lines(setting: Setting, kind: str, sizes: tuple[int, ...], figures: tuple[str, ...], *, bound: bool) -> list[Line]:
    subject = BESIDE_PEERS if kind == "dask" else OURS
    cases = {str(n): Case("workers", (kind, "--workers", n), subject) for n in sizes}
    samples = interleave(cases, setting.rounds(3, 1))
    among = f"with_{kind}, " + ", ".join(f"{n:,}" for n in sizes) + " workers"
    lines = []
    for name in figures:
        what, shown = FIGURES[name]
        if samples.failures:
            why = next(iter(samples.failures.values()))
            lines.append(Line("workers", f"{what}: {among}", theirs=f"failed: {why:.40}"))
            continue
        spreads = [samples.spread(str(n), name) for n in sizes]
        limit, ok = "", None
        if bound and name == "call":
            limit = f"the last <= {AT_MOST} x the first"
            ok = spreads[-1].median <= AT_MOST * spreads[0].median
        elif bound and name == "rest":
            limit = f"<= {AT_REST:.0f}"
            ok = max(spread.median for spread in spreads) <= AT_REST
        lines.append(Line("workers", f"{what}: {among}", limit, " | ".join(s.show(shown) for s in spreads), ok=ok))
    return lines
