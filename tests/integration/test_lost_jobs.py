"""Calls that were lost with a job of a batch system fail with an error that says why the job ended."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import (
    WorkerLostError,
    WorkerNodeFailedError,
    WorkerOutOfMemoryError,
    WorkerOutOfTimeError,
    WorkerPreemptedError,
)
from amltk.scheduling import ExitState, Scheduler
from tests.contract import engines, work
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import Gate, pass_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A one-node Slurm."""
    with engines.slurm():
        yield


@pytest.fixture
def job(slurm: None, tmp_path: Path) -> dict[str, Any]:
    """The options of a scheduler with one job."""
    return {**slurm_helper.JOBS, "n_workers": 1, "log_directory": str(tmp_path)}


def lose(job: dict[str, Any], call: Callable[..., Any], *args: Any) -> WorkerLostError:
    """Run a call that is lost; returns the error."""
    scheduler = Scheduler.with_slurm(**job)
    errors: list[BaseException] = []
    scheduler.on_start(lambda: scheduler.submit(call, *args))
    scheduler.on_future_exception(lambda _, error: errors.append(error))
    scheduler.on_future_exception(lambda *_: scheduler.stop())
    assert scheduler.run(on_exception="continue").code is ExitState.Code.STOPPED
    slurm_helper.wait_until_empty()
    (error,) = errors
    assert isinstance(error, WorkerLostError)
    return error


def scontrol(*words: str) -> None:
    subprocess.run(["scontrol", *words], check=True)


def lose_by(job: dict[str, Any], act: Callable[[str], Any]) -> WorkerLostError:
    """Run a call until `act`, which is given the id of its job, has ended that."""
    with Gate() as gate:
        gate.when_begun(1, lambda: act(slurm_helper.jobs()[0]))
        return lose(job, pass_gate, gate.address)


@pytest.mark.integration
def test_a_requeued_job_is_told_as_preempted(job: dict[str, Any]) -> None:
    """Slurm preempts by requeuing: the job waits again, and its worker is gone."""
    error = lose_by(job, lambda job_id: scontrol("requeue", job_id))
    assert type(error) is WorkerPreemptedError
    assert "was requeued" in str(error)
    assert "pass_gate" in str(error)


@pytest.mark.integration
def test_a_job_that_reaches_its_time_limit_is_told_as_out_of_time(job: dict[str, Any]) -> None:
    """Here Slurm ends it at its limit, before its worker would leave by itself."""
    error = lose_by(job, lambda job_id: scontrol("update", f"JobId={job_id}", "EndTime=now"))
    assert type(error) is WorkerOutOfTimeError


@pytest.mark.integration
def test_a_job_whose_node_fails_is_told_as_such(job: dict[str, Any]) -> None:
    """The node is set down, which ends what runs there."""
    node = os.uname().nodename.partition(".")[0]

    def fail(_: str) -> None:
        scontrol("update", f"NodeName={node}", "State=DOWN", "Reason=test")

    error = lose_by({**job, "job_extra_directives": ["--no-requeue"]}, fail)
    assert type(error) is WorkerNodeFailedError
    slurm_helper.wait_for_node()


@pytest.mark.integration
def test_a_cancelled_job_is_told_as_lost(job: dict[str, Any]) -> None:
    """Nothing more is known than that someone has cancelled it."""
    error = lose_by(job, lambda job_id: subprocess.run(["scancel", job_id], check=True))
    assert type(error) is WorkerLostError
    assert "CANCELLED" in str(error)


def grow() -> None:
    """Use more and more memory."""
    import time

    taken = []
    while True:
        taken.append(b"x" * 10_000_000)
        time.sleep(0.02)


@pytest.mark.integration
def test_a_worker_that_used_its_memory_is_told_as_out_of_memory(job: dict[str, Any]) -> None:
    """Dask ends a worker that has used nearly all of its memory; its job goes on."""
    error = lose({**job, "memory": "400MB"}, grow)
    assert type(error) is WorkerOutOfMemoryError
    assert isinstance(error, MemoryError)
    assert "memory" in str(error)


@pytest.mark.integration
def test_a_worker_that_crashed_is_told_with_its_signal(job: dict[str, Any]) -> None:
    """The job goes on; the log of Dask's nanny says how the worker's process ended."""
    error = lose(job, work.die, "kill")
    assert type(error) is WorkerLostError
    assert error.exit_code == -9
    assert error.pid is not None
    assert "signal 9" in str(error)


@pytest.mark.integration
def test_a_call_that_is_a_job_of_its_own_is_told_likewise(slurm: None, tmp_path: Path) -> None:
    """Without Dask, too, the error says that the job has reached its time limit."""
    scheduler = Scheduler.with_slurm_jobs(folder=tmp_path / "jobs", partition="debug", mem="100M", poll_interval=0.2)
    errors: list[BaseException] = []
    with Gate() as gate:
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
        gate.when_begun(1, lambda: scontrol("update", f"JobId={slurm_helper.jobs()[0]}", "EndTime=now"))
        scheduler.on_future_exception(lambda _, error: errors.append(error))
        scheduler.run(on_exception="continue")
    assert [type(error) for error in errors] == [WorkerOutOfTimeError]
