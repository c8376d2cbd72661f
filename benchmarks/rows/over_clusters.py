"""What a scheduler adds to, or saves of, a cluster's own interface."""

from __future__ import annotations

from benchmarks.measure import Case, interleave
from benchmarks.rows.setting import Setting
from benchmarks.subjects import BESIDE_PEERS
from benchmarks.table import Better, Line

BOUNDS = {"Dask": ("Client.submit", 1.0), "Ray": ("ray.remote", 0.95)}
IN_FLIGHT = {"8": "8 in flight", "64": "64 in flight"}


def measure(setting: Setting) -> list[Line]:
    tools = [tool for tool in setting.tools if tool.name in BOUNDS]
    options = ("--calls", setting.either(1_000, 200))
    cases = {tool.name: Case("over_clusters", (tool.key, *options), BESIDE_PEERS) for tool in tools}
    samples = interleave(cases, setting.either(3, 1))
    lines: list[Line] = []
    for name in cases:
        peer, least = BOUNDS[name]
        for key, in_flight in IN_FLIGHT.items():
            figure = f"no-op calls/s on {name}, {in_flight}"
            if not samples.has(name):
                lines.append(Line("over-clusters", figure, peer=peer, theirs=samples.failures[name]))
                continue
            ratio, theirs = samples.spread(name, f"{key} ratio"), samples.spread(name, f"{key} bare")
            holds = ratio.median >= least
            bound = f">= {least} x {peer}"
            lines.append(Line("over-clusters", figure, bound, "", peer, theirs.show(), ratio, Better.MORE, holds))
    return lines
