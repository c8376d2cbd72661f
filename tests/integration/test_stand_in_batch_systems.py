"""Batch systems other than Slurm: what a run says when they refuse a job, and when no worker comes.

Stand-ins say what the manuals of these systems say. They are no proof of how the systems themselves behave.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling import Scheduler

if TYPE_CHECKING:
    from pathlib import Path

JOBS: dict[str, Any] = {"cores": 1, "memory": "1GB", "interface": "lo", "scheduler_options": {"host": "127.0.0.1"}}


class System(NamedTuple):
    """A batch system.

    Attributes:
        command: What submits a job.
        code: The exit code when it refuses one.
        complaint: What it writes to stderr then.
        output: What it writes to stdout then.
        accepts: What it writes to stdout when it accepts a job.
        log: The name of a log of that job.
        options: Options of its jobs that must be given.
    """

    command: str
    code: int
    complaint: str
    output: str
    accepts: str
    log: str
    options: dict[str, Any]


SYSTEMS = {
    "pbs": System("qsub", 170, "qsub: Unknown queue", "", "4711.head", "dask-worker.e4711", {}),
    "sge": System(
        "qsub",
        1,
        "Unable to run job: unknown queue.\nExiting.",
        "",
        'Your job 4711 ("dask-worker") has been submitted',
        "dask-worker.e4711",
        {},
    ),
    "moab": System("msub", 1, "ERROR:  invalid queue specified", "", "\n4711", "dask-worker.e4711", {}),
    "lsf": System(
        "bsub",
        255,
        "nope: No such queue. Job not submitted.",
        "",
        "Job <4711> is submitted to default queue <normal>.",
        "dask-worker-4711.err",
        {"use_stdin": True},
    ),
    "oar": System(
        "oarsub",
        251,
        "Oarsub failed: please verify your request syntax.",
        "Queue nope does not exist",
        "OAR_JOB_ID=4711",
        "OAR.4711.stderr",
        {"memory_per_core_property_name": "memcore"},
    ),
    "htcondor": System(
        "condor_submit",
        1,
        "ERROR: Can't find address of local schedd",
        "",
        "Submitting job(s).\n1 job(s) submitted to cluster 4711.\n4711.0 - 4711.0",
        "worker-4711.0.err",
        {"disk": "1GB"},
    ),
}


def make(name: str, folder: Path, script: str) -> Scheduler:
    """A scheduler whose jobs are submitted by a script."""
    system = SYSTEMS[name]
    command = folder / system.command
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o700)
    return Scheduler.with_dask_jobqueue(
        name,  # type: ignore[arg-type]
        n_workers=1,
        submit_command=str(command),
        cancel_command="true",
        log_directory=str(folder),
        worker_timeout="1 d",
        **JOBS,
        **system.options,
    )


def run_broken(scheduler: Scheduler) -> str:
    """Run a call on workers that never come; returns what the run raised, in words."""
    scheduler.on_start(lambda: scheduler.submit(abs, -42))
    with pytest.raises(ExecutorBrokenError) as raised:
        scheduler.run(on_exception="continue")
    return str(raised.value)


@pytest.mark.integration
@pytest.mark.parametrize("name", SYSTEMS)
def test_what_it_says_about_a_job_that_it_refuses_is_shown(name: str, tmp_path: Path) -> None:
    """The error of the log shows its words, whichever way it says them."""
    system = SYSTEMS[name]
    says = f"cat <<'END' >&2\n{system.complaint}\nEND\ncat <<'END'\n{system.output}\nEND\nexit {system.code}"
    scheduler = make(name, tmp_path, says)
    said = run_broken(scheduler)
    assert f"{system.command} refuses the job" in said
    for line in (system.complaint + "\n" + system.output).splitlines():
        assert line in said
    assert "3 times in succession" in said


@pytest.mark.integration
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_log_of_a_job_whose_worker_never_connects_is_shown(name: str, tmp_path: Path) -> None:
    """These systems are not asked about jobs, so `worker_timeout` ends the wait, with the end of the job's log."""
    system = SYSTEMS[name]
    log = tmp_path / system.log
    accepts = f"echo 'module: command not found' > {log}\ncat <<'END'\n{system.accepts}\nEND"
    scheduler = make(name, tmp_path, accepts)
    executor: Any = scheduler.executor

    def end_the_wait() -> None:
        """Let the day be over once the job is submitted."""
        if executor.cluster_workers.waiting:
            executor._cluster.loop.add_callback(executor._watch._give_up_waiting)
        else:
            scheduler.call_later(0.05, end_the_wait)

    scheduler.on_start(end_the_wait)
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
