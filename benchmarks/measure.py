"""Runs workloads in turns, one process each, so that changes in machine speed affect all of them alike."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.subjects import OURS, PEERS, Subject

WORKLOADS = Path(__file__).with_name("workloads")
TIME_LIMIT = 300.0
"""Seconds after which a workload counts as hung."""

PEERS_TIME_LIMIT = 100.0
"""The same for peers, some of which are known to hang."""

Sample = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One workload on one subject."""

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
        with tempfile.TemporaryDirectory(prefix="b", ignore_cleanup_errors=True) as scratch:
            limit = PEERS_TIME_LIMIT if self.subject is PEERS else TIME_LIMIT
            status, output, errors = _run_in_group(words, self.subject.environment() | {"TMPDIR": scratch}, limit)
        if status != 0:
            raise RuntimeError(f"{self} failed with status {status}:\n{errors}")
        sample: Sample = json.loads(output.splitlines()[-1])
        if self.subject.version is not None and sample["version"] != self.subject.version:
            raise RuntimeError(f"{self} measured amltk {sample['version']}, not {self.subject.version}")
        return sample

    def __str__(self) -> str:
        return " ".join(map(str, (self.subject.name, self.workload, *self.arguments)))


class Samples:
    """Measurements of interleaved cases, round by round.

    Attributes:
        failures: The peers' cases that failed, each with the reason; they count as not measured.
    """

    def __init__(self, rounds: Sequence[Mapping[str, Sample]], failures: Mapping[str, str]) -> None:
        self._rounds = rounds
        self.failures = failures

    def has(self, case: str, figure: str | None = None) -> bool:
        """Whether the case was measured in all rounds, and this figure of it."""
        there = case in self._rounds[0] and case not in self.failures
        return there and (figure is None or figure in self.first(case))

    def first(self, case: str) -> Sample:
        return self._rounds[0][case]

    def spread(self, case: str, figure: str) -> Spread:
        return Spread([samples[case][figure] for samples in self._rounds])

    def ratio(self, figure: str, case: str, to: str) -> Spread:
        """Compare `case` with `to` round by round, so that changes in machine speed between rounds cancel out."""
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
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def show(self, form: str = "{:,.0f}") -> str:
        """The median, with minimum and maximum in brackets; `form` formats one number."""
        numbers = [form.format(value) for value in (self.median, self.least, self.most)]
        return numbers[0] if len(self.values) == 1 else f"{numbers[0]} ({numbers[1]} to {numbers[2]})"


def _run_in_group(words: list[str], environment: dict[str, str], limit: float) -> tuple[int, str, str]:
    """Run a program to its end; if interrupted, kill it and everything it started."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except BaseException:
            for started in psutil.Process(process.pid).children(recursive=True):  # some lead their own groups
                with contextlib.suppress(psutil.NoSuchProcess):
                    started.kill()
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output, errors


def interleave(cases: Mapping[str, Case | None], rounds: int) -> Samples:
    """Run the cases in turns: A B A B. A case that is None, such as that of a missing peer, is skipped.

    When a peer's case fails, it is not run again; the others are still measured.

    Raises:
        RuntimeError: A case of this package failed.
        subprocess.TimeoutExpired: A case of this package hung.
    """
    failures: dict[str, str] = {}
    taken: list[dict[str, Sample]] = []
    for number in range(rounds):
        taken.append({})
        for name, case in cases.items():
            if case is None or name in failures:
                continue
            _show(f"  {number + 1}/{rounds} {case}")
            try:
                taken[-1][name] = case.run()
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                if case.subject is OURS:
                    raise
                failures[name] = _reason(error)
                print(f"\nfailed: {error}", file=sys.stderr)
    _show("")
    return Samples(taken, failures)


def _reason(error: Exception) -> str:
    """Summarise an error in a few words: the last line of a traceback says what was wrong."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no end in {error.timeout:.0f} s"
    return str(error).strip().rpartition("\n")[2]


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
