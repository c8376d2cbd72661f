"""The CPUs that a process may use, on simulated machines; tests/integration covers this one."""

from __future__ import annotations

import pytest

from amltk._process.cpus import least

MOUNT_2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


def cpus(environ: dict[str, str] | None = None, files: dict[str, str] | None = None, runs_on: int = 64) -> int:
    files = files or {}
    return least(runs_on, environ or {}, lambda path: files.get(path, ""))


def version_2(group: str, quotas: dict[str, str], root: str = "/") -> dict[str, str]:
    """The files of a system with control groups version 2, and the quotas of some folders."""
    return {
        "/proc/self/cgroup": f"0::{group}\n",
        "/proc/self/mountinfo": MOUNT_2.format(root=root),
        **{f"/sys/fs/cgroup{folder}/cpu.max": text for folder, text in quotas.items()},
    }


def version_1(group: str, quotas: dict[str, tuple[str, str]], root: str = "/") -> dict[str, str]:
    files = {
        "/proc/self/cgroup": f"5:cpuset:/\n4:cpu,cpuacct:{group}\n0::/\n",
        "/proc/self/mountinfo": MOUNT_1.format(root=root),
    }
    for folder, (quota, period) in quotas.items():
        files[f"/sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_quota_us"] = quota
        files[f"/sys/fs/cgroup/cpu,cpuacct{folder}/cpu.cfs_period_us"] = period
    return files


def test_nothing_else_limits_it() -> None:
    """Without a quota and a batch system, the CPU affinity counts."""
    assert cpus() == 64
    assert cpus(files=version_2("/", {"": "max 100000\n"})) == 64
    assert cpus(files=version_1("/", {"": ("-1\n", "100000\n")})) == 64


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("1000 100000", 1), ("9900000 100000", 64)],
)
def test_a_quota(quota: str, expected: int) -> None:
    """A quota is rounded up to whole CPUs, so there is at least one; a quota above the number of CPUs has no effect."""
    assert cpus(files=version_2("/", {"": quota + "\n"})) == expected
    first, second = quota.split()
    assert cpus(files=version_1("/", {"": (first + "\n", second + "\n")})) == expected


def test_groups_within_groups() -> None:
    """The smallest quota of a group and its ancestors counts, wherever it is."""
    quotas = {"": "max 100000", "/job": "400000 100000", "/job/step": "max 100000", "/other": "100000 100000"}
    assert cpus(files=version_2("/job/step", quotas)) == 4
    assert cpus(files=version_2("/job/step", quotas | {"/job/step": "300000 100000"})) == 3
    nested = {"/docker": ("500000", "100000"), "/docker/ab": ("-1", "100000")}
    assert cpus(files=version_1("/docker/ab", nested)) == 5


@pytest.mark.parametrize(("group", "root"), [("/docker/ab", "/docker/ab"), ("/docker/ab", "/"), ("/../..", "/")])
def test_a_group_that_is_not_mounted_where_it_is_named(group: str, root: str) -> None:
    """In a container the root of the mount may be the group itself, or above the visible part."""
    assert cpus(files=version_2(group, {"": "200000 100000"}, root)) == 2
    assert cpus(files=version_1(group, {"": ("200000", "100000")}, root)) == 2


def test_a_group_within_a_container() -> None:
    """A group below the mounted one is found by its relative path."""
    assert cpus(files=version_1("/docker/ab/child", {"/child": ("100000", "100000")}, "/docker/ab")) == 1


def test_a_batch_system() -> None:
    """Slurm's CPUs per task override those of the job on this machine; both apply only below the affinity."""
    assert cpus({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}) == 4
    assert cpus({"SLURM_CPUS_ON_NODE": "16"}) == 16
    assert cpus({"SLURM_CPUS_ON_NODE": "16"}, runs_on=8) == 8
    assert cpus({"LOKY_MAX_CPU_COUNT": "3", "SLURM_CPUS_ON_NODE": "16"}) == 3


@pytest.mark.parametrize("text", ["", "0", "-2", "many", "4.5", "2(x3)"])
def test_what_is_no_number(text: str) -> None:
    """A variable or a file with other content is ignored."""
    assert cpus({"SLURM_CPUS_PER_TASK": text, "SLURM_CPUS_ON_NODE": "16"}) == 16
    assert cpus({"LOKY_MAX_CPU_COUNT": text}) == 64
    assert cpus(files=version_2("/", {"": f"{text} 100000"})) == 64
    assert cpus(files=version_2("/", {"": text})) == 64
