"""How many CPUs this process may use; in a container or a batch job that is fewer than the machine has."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""CPUs that Slurm gives a job on this machine; the first is set only with `--cpus-per-task`. The first one that is set
counts."""

JOBLIB = "LOKY_MAX_CPU_COUNT"
"""With this variable joblib, loky and scikit-learn limit how many CPUs they use."""


def usable_cpus() -> int:
    """How many CPUs this process may use, at least 1.

    If the user sets `-X cpu_count` or `PYTHON_CPU_COUNT` (CPython 3.13 and later), that counts. Otherwise it is the
    smallest of

    - the CPUs that the process may run on: its affinity (`taskset`, cpusets); those of the machine if the system has no
      affinity,
    - the quotas of its control groups (version 1 or 2) and their ancestors, as containers set them; a fraction of a CPU
      counts as one,
    - `SLURM_CPUS_PER_TASK`, or else `SLURM_CPUS_ON_NODE`,
    - `LOKY_MAX_CPU_COUNT`.

    A variable without a number above 0 is ignored.
    """
    said = _said_by_user()
    return said if said is not None else least(_runs_on(), os.environ, read_text)


def _said_by_user() -> int | None:
    if sys.version_info >= (3, 13):
        variable = None if sys.flags.ignore_environment else os.environ.get("PYTHON_CPU_COUNT")
        if sys._xoptions.get("cpu_count", variable) not in {None, "", "default"}:
            return os.process_cpu_count()
    return None


def _runs_on() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_text(path: str) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def least(runs_on: int, environ: Mapping[str, str], read: Callable[[str], str]) -> int:
    """The smallest limit of a process that may run on `runs_on` CPUs; see `usable_cpus`.

    Args:
        runs_on: How many CPUs its affinity allows.
        environ: Its environment.
        read: Reads a file; returns "" if there is none.
    """
    numbers = [runs_on, *(math.ceil(quota) for quota in _quotas(read))]
    by_slurm = (_number(environ.get(name)) for name in SLURM)
    numbers += [number for number in (next(filter(None, by_slurm), None), _number(environ.get(JOBLIB))) if number]
    return max(1, min(numbers))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else None


def _quotas(read: Callable[[str], str]) -> Iterator[float]:
    """The CPU quotas of this process's control groups and of their ancestors."""
    for version, folder in control_groups("cpu", read):
        number = _quota_of_2(folder, read) if version == 2 else _quota_of_1(folder, read)  # noqa: PLR2004 - the kernel's
        if number is not None:
            yield number


def control_groups(controller: str, read: Callable[[str], str]) -> Iterator[tuple[int, str]]:
    """The control groups of this process and their ancestors, for a controller: versions and folders.

    Args:
        controller: Such as `"cpu"`.
        read: Reads a file; returns "" if there is none.
    """
    group_of: dict[str, str] = {}  # by controller; "" for version 2, which has one group for all controllers
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        group_of.update(dict.fromkeys(controllers.split(","), group))
    for line in read("/proc/self/mountinfo").splitlines():
        place, _, kind = line.partition(" - ")
        *_, root, mounted_at = place.split()[:5]
        kind, *_, options = kind.split()
        if kind == "cgroup2" and "" in group_of:
            yield from ((2, folder) for folder in _folders(mounted_at, root, group_of[""]))
        elif kind == "cgroup" and controller in options.split(",") and controller in group_of:
            yield from ((1, folder) for folder in _folders(mounted_at, root, group_of[controller]))


def _folders(mounted_at: str, root: str, group: str) -> list[str]:
    """The folders of a group and its ancestors, as far as they are mounted: in a container some may be missing."""
    names, hidden = _names(group), _names(root)
    is_inside = names[: len(hidden)] == hidden and ".." not in names
    inside = names[len(hidden) :] if is_inside else []
    top = mounted_at.rstrip("/")
    return ["/".join((top, *inside[:depth])) for depth in range(len(inside), -1, -1)]


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


def _quota_of_2(folder: str, read: Callable[[str], str]) -> float | None:
    return _ratio(*read(f"{folder}/cpu.max").split())


def _quota_of_1(folder: str, read: Callable[[str], str]) -> float | None:
    return _ratio(read(f"{folder}/cpu.cfs_quota_us").strip(), read(f"{folder}/cpu.cfs_period_us").strip())


def _ratio(*parts: str) -> float | None:
    """CPU microseconds per microsecond of time; None if there is no limit."""
    quota, period = (_number(part) for part in parts) if len(parts) == 2 else (None, None)  # noqa: PLR2004
    return quota / period if quota and period else None
