"""Slurm's commands answer the same, whatever variables for them the user has set."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling.executors.remote.dask.jobs.queue_state import SlurmQueue
from tests.contract import engines
from tests.helpers import slurm as slurm_helper

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A one-node Slurm."""
    with engines.slurm():
        yield


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQUEUE_PARTITION", "nope"),
        ("SQUEUE_STATES", "RUNNING"),
        ("SQUEUE_USERS", "nobody"),
        ("SQUEUE_FORMAT2", "jobid"),
        ("SLURM_CLUSTERS", "nope"),
        ("SLURM_JOB_ID", "4711"),
    ],
)
def test_variables_do_not_hide_jobs(slurm: None, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a job that waits is known, though a variable filters what `squeue` lists."""
    submit = ["sbatch", "--parsable", "--hold", "--mem=10M", "--output=/dev/null", "--wrap=true"]
    job = subprocess.run(submit, capture_output=True, text=True, check=True).stdout.strip()
    try:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            told = asyncio.run(SlurmQueue("sbatch").look([job]))
    finally:
        subprocess.run(["scancel", job], check=True)
    state = told[job]
    assert state is not None
    assert state.state == "PENDING"
    assert state.reason.startswith("JobHeld")
    slurm_helper.wait_until_empty()
