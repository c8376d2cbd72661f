"""A timeout that counts from the first worker on, on real clusters."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Scheduler
from tests.contract import engines
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.slurm import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 3600.0
"""A timeout that is not reached."""

LOOK_SECONDS = 0.05

Code = ExitState.Code


@pytest.fixture(scope="module", autouse=True)
def a_slurm() -> Iterator[None]:
    """A one-node Slurm."""
    with engines.slurm():
        yield


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder; jobs find the functions of the tests all the same."""
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


def jobqueue() -> Scheduler:
    return Scheduler.with_slurm(n_workers=1, **JOBS, job_extra_directives=["--begin=now+1day"])


def slurm_jobs() -> Scheduler:
    return Scheduler.with_slurm_jobs(partition="debug", mem="100M", chdir="/", poll_interval=0.2, begin="now+1day")


@pytest.mark.integration
@pytest.mark.parametrize("make", [jobqueue, slurm_jobs])
def test_the_time_in_slurms_queue_does_not_count(make: Callable[[], Scheduler]) -> None:
    """While the job waits all of the time is left; it counts when the worker is up."""
    scheduler = make()
    left: list[float] = []

    def look() -> None:
        waiting = slurm_helper.jobs()
        if waiting:
            left.append(scheduler.current_run.time_left())
            for job in waiting:
                subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
        else:
            scheduler.call_later(LOOK_SECONDS, look)

    def look_again() -> None:
        left.append(scheduler.current_run.time_left())
        if left[-1] == SECONDS:
            scheduler.call_later(LOOK_SECONDS, look_again)
        else:
            scheduler.stop()

    scheduler.on_start(lambda: (scheduler.submit(abs, -42), look()))
    scheduler.on_future_result(lambda *_: look_again())
    assert scheduler.run(timeout=SECONDS, timeout_from="first-worker", end_on_empty=False).code is Code.STOPPED
    assert left[0] == SECONDS
    assert left[-1] < SECONDS
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_the_timeout_ends_a_run_whose_worker_is_up(gate: Gate) -> None:
    """Then the time is up, as in any run."""
    scheduler = Scheduler.with_slurm(n_workers=1, **JOBS)
    scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
    looks: list[Any] = []
    scheduler.on_timeout(lambda: looks.append(scheduler.executor.cluster_workers.up))  # type: ignore[attr-defined]
    assert scheduler.run(timeout=0.1, timeout_from="first-worker", wait=False).code is Code.TIMEOUT
    assert looks == [1]
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_a_second_run_finds_its_worker_up(gate: Gate) -> None:
    """The workers of a `with` block are up when its next run starts, so the time counts from there."""
    with Scheduler.with_slurm(n_workers=1, **JOBS) as scheduler:
        scheduler.on_start(lambda: scheduler.submit(abs, -42))
        scheduler.run()
        state = scheduler.run(timeout=0.1, timeout_from="first-worker", end_on_empty=False)
    assert state.code is Code.TIMEOUT
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_a_dask_cluster_without_workers() -> None:
    """On a cluster of others the time counts when its first worker comes."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options) as cluster:
        scheduler = Scheduler.with_dask(cluster)
        left: list[float] = []

        def look() -> None:
            left.append(scheduler.current_run.time_left())
            if len(left) == 2:
                cluster.scale(1)
            if left[-1] == SECONDS:
                scheduler.call_later(LOOK_SECONDS, look)
            else:
                scheduler.stop()

        scheduler.on_start(look)
        state = scheduler.run(timeout=SECONDS, timeout_from="first-worker", end_on_empty=False)
    assert state.code is Code.STOPPED
    assert left[:2] == [SECONDS, SECONDS]
