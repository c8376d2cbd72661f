"""Runs workloads, one process each, in turns, so that a change of the machine's speed meets all of them alike."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.subjects import OURS, Subject

WORKLOADS = Path(__file__).with_name("workloads")
TIME_LIMIT = 900.0
"""Seconds after which a workload counts as hanging."""

Sample = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One workload, on one subject."""

    workload: str
    arguments: tuple[object, ...] = ()
    subject: Subject = OURS

    def run(self) -> Sample:
        """Run it once.

        Raises:
            RuntimeError: It failed, or measured the wrong package.
        subprocess.TimeoutExpired: It hung.
        """
        words = [str(self.subject.python), str(WORKLOADS / f"{self.workload}.py"), *map(str, self.arguments)]
        status, output, errors = _run_in_group(words, self.subject.environment())
        if status != 0:
            raise RuntimeError(f"{self} failed with status {status}:\n{errors}")
        sample: Sample = json.loads(output.splitlines()[-1])
        if self.subject.version is not None and sample["version"] != self.subject.version:
            raise RuntimeError(f"{self} measured amltk {sample['version']}, not {self.subject.version}")
        return sample

    def __str__(self) -> str:
        return " ".join(map(str, (self.subject.name, self.workload, *self.arguments)))


class Samples:
    """What interleaved cases have measured, round by round."""

    def __init__(self, rounds: Sequence[Mapping[str, Sample]]) -> None:
        self._rounds = rounds

    def has(self, case: str) -> bool:
        return case in self._rounds[0]

    def first(self, case: str) -> Sample:
        return self._rounds[0][case]

    def spread(self, case: str, figure: str) -> Spread:
        return Spread([samples[case][figure] for samples in self._rounds])

    def ratio(self, figure: str, case: str, to: str) -> Spread:
        """`case` against `to`, round by round: what the machine did in between is in neither."""
        return self.of_each(lambda samples: samples[case][figure] / samples[to][figure])

    def of_each(self, figure: Callable[[Mapping[str, Sample]], float]) -> Spread:
        return Spread([figure(samples) for samples in self._rounds])


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one figure."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def worst(self) -> float:
        return max(self.values)

    def show(self, form: str = "{:,.0f}") -> str:
        """The median, with the least and the greatest in brackets; `form` is how one number is written."""
        numbers = [form.format(value) for value in (self.median, min(self.values), max(self.values))]
        return numbers[0] if len(self.values) == 1 else f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


def _run_in_group(words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run a program to its end; if that is broken off, end it with all that it has started."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=TIME_LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output, errors


def interleave(cases: Mapping[str, Case | None], rounds: int) -> Samples:
    """Run the cases in turns: A B A B. A case that is None, such as that of a missing peer, is left out."""
    there = {name: case for name, case in cases.items() if case is not None}
    taken: list[dict[str, Sample]] = []
    for number in range(rounds):
        taken.append({})
        for name, case in there.items():
            _show(f"  {number + 1}/{rounds} {case}")
            taken[-1][name] = case.run()
    _show("")
    return Samples(taken)


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
