"""Batch systems other than Slurm: what a run says when they refuse a job, and when no worker comes.

Stand-ins say what the manuals of these systems say. They are no proof of how the systems themselves behave.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.helpers.stand_in_batch_systems import SYSTEMS, end_the_wait, make, run_broken

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.integration
@pytest.mark.parametrize("name", SYSTEMS)
def test_what_it_says_about_a_job_that_it_refuses_is_shown(name: str, tmp_path: Path) -> None:
    """The error of the log shows its words, whichever way it says them."""
    system = SYSTEMS[name]
    scheduler = make(name, tmp_path, system.refuses.script)
    said = run_broken(scheduler)
    assert f"{system.command} refuses the job" in said
    for line in (system.refuses.errors + "\n" + system.refuses.out).splitlines():
        assert line in said
    assert "3 times in succession" in said


@pytest.mark.integration
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_log_of_a_job_whose_worker_never_connects_is_shown(name: str, tmp_path: Path) -> None:
    """Where the system does not answer, `worker_timeout` ends the wait, with the end of the job's log."""
    system = SYSTEMS[name]
    log = tmp_path / system.log
    accepts = f"echo 'module: command not found' > {log}\ncat <<'END'\n{system.accepts}\nEND"
    scheduler = make(name, tmp_path, accepts)
    end_the_wait(scheduler, lambda told: told.waiting)
    said = run_broken(scheduler)
    assert "no worker was up within worker_timeout=86400 s: 0 of 1 worker is up, 1 job waits in the queue" in said
    assert str(log) in said
    assert "module: command not found" in said


@pytest.mark.integration
def test_a_command_without_the_number_of_a_job(tmp_path: Path) -> None:
    """What a command has said instead of the number of a job is shown."""
    scheduler = make("pbs", tmp_path, "echo 'submitted, somehow'")
    said = run_broken(scheduler)
    assert "no job can be submitted" in said
    assert "submitted, somehow" in said
    assert os.listdir(tmp_path) == ["qsub"]
