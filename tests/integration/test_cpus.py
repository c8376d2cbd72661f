"""The default number of workers: one for each CPU of this process, within its job."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from amltk._process.cpus import usable_cpus
from amltk.scheduling.executors import ProcessPool
from amltk.scheduling.executors.local import threads
from tests.helpers.script import run_script

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has affinities")

WORKERS = """
    import os
    {before}
    from amltk.scheduling import Scheduler

    scheduler = Scheduler.with_{kind}()
    scheduler.on_start(lambda: scheduler.submit(abs, -1))
    scheduler.on_start(lambda: print(scheduler.executor._max_workers))
    if __name__ == "__main__":
        scheduler.run(display=False)
"""


@linux
@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_affinity(kind: str) -> None:
    """A process that may run on one CPU has one worker."""
    ended = run_script(WORKERS.format(kind=kind, before="os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])"))
    assert (ended.code, ended.lines) == (0, ["1"]), ended.errors


@pytest.mark.parametrize("kind", ["processes", "loky"])
def test_a_job_of_slurm(kind: str) -> None:
    """A job with one CPU from Slurm has one worker, even if Slurm does not enforce it."""
    ended = run_script(WORKERS.format(kind=kind, before=""), env={"SLURM_CPUS_PER_TASK": "1"})
    assert (ended.code, ended.lines) == (0, ["1"]), ended.errors


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads wait most of the time: there are four more than CPUs."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    with threads.make() as pool:
        assert pool._max_workers == 5


@pytest.mark.parametrize(
    ("options", "workers"),
    [({}, 1), ({"n_workers": 3}, 3), ({"processes": False}, None), ({"threads_per_worker": 2}, None)],
)
def test_dask(options: dict[str, Any], workers: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local cluster has a worker for each CPU, unless an option that Dask decides by says otherwise."""
    pytest.importorskip("distributed")
    from amltk.scheduling.executors.remote.dask import making

    given: dict[str, Any] = {}

    def make_cluster(**options: Any) -> None:
        given.update(options)
        raise InterruptedError

    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr(making, "LocalCluster", make_cluster)
    with pytest.raises(InterruptedError):
        making.make(**options)
    assert given.get("n_workers") == workers


def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit number wins, whatever CPUs there are."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert usable_cpus() == 1
    with ProcessPool(3) as pool:
        assert pool._max_workers == 3


@pytest.mark.skipif(sys.version_info < (3, 13), reason="CPython knows it from 3.13 on")
@pytest.mark.parametrize(("option", "variable", "least"), [("5", "2", 5), (None, "70", 70), ("default", "70", 1)])
def test_what_the_user_says(option: str | None, variable: str, least: int) -> None:
    """CPython's own setting wins over the machine's CPUs, and the option over the variable."""
    source = "from amltk._process.cpus import usable_cpus\nprint(usable_cpus())"
    options = [] if option is None else ["-X", f"cpu_count={option}"]
    environment = {"PYTHON_CPU_COUNT": variable, "SLURM_CPUS_PER_TASK": "1"}
    ended = run_script(source, *options, env=environment)
    assert (ended.code, ended.lines) == (0, [str(least)]), ended.errors


QUOTAS = "/sys/fs/cgroup/cpu"


@pytest.mark.skipif(not os.access(f"{QUOTAS}/tasks", os.W_OK), reason="needs control groups that can be written")
def test_a_quota() -> None:
    """A process in a control group nested in one with a quota of half a CPU has one worker."""
    name = f"{QUOTAS}/amltk-test-{os.getpid()}"
    os.makedirs(f"{name}/inner")
    try:
        with open(f"{name}/cpu.cfs_quota_us", "w") as file:
            file.write("50000")
        source = f"""
            import os

            with open("{name}/inner/tasks", "w") as file:
                file.write(str(os.getpid()))
            from amltk._process.cpus import usable_cpus

            print(usable_cpus())
            with open("{QUOTAS}/tasks", "w") as file:
                file.write(str(os.getpid()))
        """
        ended = run_script(source)
        assert (ended.code, ended.lines) == (0, ["1"]), ended.errors
    finally:
        for folder in (f"{name}/inner", name):
            os.rmdir(folder)
