"""One figure of this package compared with that of each tool, one line of the table per tool."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Samples, Spread
from benchmarks.rows.setting import NO_PEER
from benchmarks.subjects import STDLIB, TOOLS, US
from benchmarks.table import Better, Line


@dataclass(frozen=True)
class Versus:
    """A figure by which tools are compared.

    Attributes:
        row: The row of the table.
        figure: The name of the measurement in the table.
        better: Whether higher or lower is better.
        form: How to format one number.
        scale: Factor applied to the workload's number before formatting.
    """

    row: str
    figure: str
    better: Better
    form: str = "{:,.0f}"
    scale: float = 1.0

    def lines(self, samples: Samples, key: str, *, times_stdlib: float | None = None) -> list[Line]:
        """A line for each tool that was measured or has failed, with a bound on the ratio to the standard library."""
        return [
            self._line(samples, key, tool.name, times_stdlib if tool is STDLIB else None)
            for tool in TOOLS
            if tool.name in samples.failures or samples.has(tool.name, key)
        ]

    def _line(self, samples: Samples, key: str, peer: str, times: float | None) -> Line:
        ours = self._show(samples.spread(US.name, key))
        if peer in samples.failures:
            return Line(self.row, self.figure, ours=ours, peer=peer, theirs=f"failed: {samples.failures[peer]:.40}")
        theirs = self._show(samples.spread(peer, key))
        ratio = samples.ratio(key, US.name, peer)
        bound, ok = ("", None) if times is None else self._judge(ratio, times)
        return Line(self.row, self.figure, bound, ours, peer, theirs, ratio, self.better, ok)

    def _judge(self, ratio: Spread, times: float) -> tuple[str, bool]:
        if self.better is Better.MORE:
            return f">= {times} x stdlib", ratio.median >= times
        return f"<= {times} x stdlib", ratio.median <= times

    def _show(self, spread: Spread) -> str:
        return Spread([value * self.scale for value in spread.values]).show(self.form)


def beside_amltk(samples: Samples, key: str, ours: str, theirs: str) -> tuple[str, Spread | None]:
    """AMLTK's figure and the ratio of ours to it, if two cases measured the same thing on both."""
    if theirs in samples.failures:
        return f"failed: {samples.failures[theirs]:.40}", None
    if not samples.has(theirs):
        return NO_PEER, None
    return samples.spread(theirs, key).show(), samples.ratio(key, ours, theirs)
