"""What a scheduler adds to, or saves of, a cluster's own interface."""

from __future__ import annotations

from benchmarks.measure import Case, Samples, interleave
from benchmarks.rows.setting import Setting
from benchmarks.subjects import BESIDE_PEERS
from benchmarks.table import Better, Line

BOUNDS = {"Dask": ("Client.submit", 1.0), "Ray": ("ray.remote", 0.95)}
IN_FLIGHT = {"8": "8 in flight", "64": "64 in flight"}


def measure(setting: Setting) -> list[Line]:
    tools = [tool for tool in setting.tools if tool.name in BOUNDS]
    options = ("--calls", setting.either(300, 100))
    cases = {tool.name: Case("over_clusters", (tool.key, *options), BESIDE_PEERS) for tool in tools}
    samples = interleave(cases, setting.rounds(3, 1))
    return [_line(samples, name, key) for name in cases for key in IN_FLIGHT]


def _line(samples: Samples, cluster: str, key: str) -> Line:
    peer, least = BOUNDS[cluster]
    figure, bound = f"no-op calls/s on {cluster}, {IN_FLIGHT[key]}", f">= {least} x {peer}"
    if not samples.has(cluster):
        return Line("over-clusters", figure, bound, peer=peer, theirs=f"failed: {samples.failures[cluster]:.40}")
    ours, bare = f"{key} ours", f"{key} bare"
    ratio = samples.of_each(lambda of: of[cluster][ours] / of[cluster][bare])
    shown = [samples.spread(cluster, rate).show() for rate in (ours, bare)]
    return Line("over-clusters", figure, bound, shown[0], peer, shown[1], ratio, Better.MORE, ratio.median >= least)
