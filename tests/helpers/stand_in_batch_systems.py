"""Stand-ins for the commands of batch systems other than Slurm.

They say what the manuals of these systems say. They are no proof of how the systems themselves behave.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling import Scheduler
from tests.helpers.gate import GUARD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from amltk.scheduling.executors.cluster_workers import ClusterWorkers

JOBS: dict[str, Any] = {"cores": 1, "memory": "1GB", "interface": "lo", "scheduler_options": {"host": "127.0.0.1"}}


class Says(NamedTuple):
    """What a command says.

    Attributes:
        out: On stdout.
        errors: On stderr.
        code: Its exit code.
    """

    out: str = ""
    errors: str = ""
    code: int = 0

    @property
    def script(self) -> str:
        """Lines of shell that say it."""
        return f"cat <<'END' >&2\n{self.errors}\nEND\ncat <<'END'\n{self.out}\nEND\nexit {self.code}"


class System(NamedTuple):
    """A batch system.

    Attributes:
        command: What submits a job.
        refuses: What it says when it refuses one.
        accepts: What it writes to stdout when it accepts a job.
        log: The name of a log of that job.
        options: Options of its jobs that must be given.
        asks: What is asked about a job.
        queued: What that says about a job that waits.
        reason: Why it waits.
        started: What it says about one that has started.
        ended: What it says about one that has ended; where it says nothing, once it does not know it any more.
        state: The word for that; empty if it does not know it any more.
    """

    command: str
    refuses: Says
    accepts: str
    log: str
    options: dict[str, Any]
    asks: str
    queued: Says
    reason: str
    started: Says
    ended: Says
    state: str


def _qstat_f(state: str, more: str = "") -> Says:
    return Says(f"Job Id: 4711.head\n    Job_Name = dask-worker\n    job_state = {state}\n    queue = batch\n{more}\n")


def _qstat_xml(listed: str) -> Says:
    lists = f"  <queue_info>\n  </queue_info>\n  <job_info>\n{listed}  </job_info>"
    return Says(
        f"<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\n{lists}\n</job_info>"
    )


def _listed(state: str) -> str:
    return (
        f'    <job_list state="pending">\n      <JB_job_number>4711</JB_job_number>\n'
        f"      <JB_name>dask-worker</JB_name>\n      <state>{state}</state>\n    </job_list>\n"
    )


def _oarstat(state: str, message: str) -> Says:
    return Says(json.dumps({"4711": {"id": "4711", "state": state, "message": message}}, indent=3))


SYSTEMS = {
    "pbs": System(
        "qsub",
        Says("", "qsub: Unknown queue", 170),
        "4711.head",
        "dask-worker.e4711",
        {},
        "qstat",
        _qstat_f("Q", "    comment = Not Running: Insufficient amount of resource: ncpus"),
        "Not Running: Insufficient amount of resource: ncpus",
        _qstat_f("R"),
        Says("", "qstat: Unknown Job Id 4711.head", 153),
        "",
    ),
    "sge": System(
        "qsub",
        Says("", "Unable to run job: unknown queue.\nExiting.", 1),
        'Your job 4711 ("dask-worker") has been submitted',
        "dask-worker.e4711",
        {},
        "qstat",
        _qstat_xml(_listed("hqw")),
        "hqw",
        _qstat_xml(_listed("r")),
        _qstat_xml(""),
        "",
    ),
    "moab": System(
        "msub",
        Says("", "ERROR:  invalid queue specified", 1),
        "\n4711",
        "dask-worker.e4711",
        {},
        "qstat",
        _qstat_f("H"),
        "H",
        _qstat_f("R"),
        _qstat_f("C", "    exit_status = 3"),
        "C",
    ),
    "lsf": System(
        "bsub",
        Says("", "nope: No such queue. Job not submitted.", 255),
        "Job <4711> is submitted to default queue <normal>.",
        "dask-worker-4711.err",
        {"use_stdin": True},
        "bjobs",
        Says("4711 PEND Job slot limit reached: 12 hosts"),
        "Job slot limit reached: 12 hosts",
        Says("4711 RUN -"),
        Says("4711 EXIT -"),
        "EXIT",
    ),
    "oar": System(
        "oarsub",
        Says("Queue nope does not exist", "Oarsub failed: please verify your request syntax.", 251),
        "OAR_JOB_ID=4711",
        "OAR.4711.stderr",
        {"memory_per_core_property_name": "memcore"},
        "oarstat",
        _oarstat("Waiting", "Karma = 0.4"),
        "Karma = 0.4",
        _oarstat("Launching", ""),
        _oarstat("Error", ""),
        "Error",
    ),
    "htcondor": System(
        "condor_submit",
        Says("", "ERROR: Can't find address of local schedd", 1),
        "Submitting job(s).\n1 job(s) submitted to cluster 4711.\n4711.0 - 4711.0",
        "worker-4711.0.err",
        {"disk": "1GB"},
        "condor_q",
        Says("4711.0 5 Failed to initialize user log"),
        "Failed to initialize user log",
        Says("4711.0 2 undefined"),
        Says(),
        "",
    ),
}


def write_command(path: Path, script: str) -> None:
    """Make a command of some lines of shell."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


def make(name: str, folder: Path, script: str) -> Scheduler:
    """A scheduler whose jobs are submitted by a script."""
    system = SYSTEMS[name]
    command = folder / system.command
    write_command(command, script)
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


def end_the_wait(scheduler: Scheduler, when: Callable[[ClusterWorkers], object]) -> None:
    """Let the day of `worker_timeout` be over when that is true of what is told of the workers."""
    executor: Any = scheduler.executor
    begun = time.monotonic()

    @scheduler.on_start
    def look() -> None:
        if when(executor.cluster_workers) or time.monotonic() - begun > GUARD:
            executor._cluster.loop.add_callback(executor._watch._give_up_waiting)
        else:
            scheduler.call_later(0.05, look)


def run_broken(scheduler: Scheduler) -> str:
    """Run a call on workers that never come; returns what the run raised, in words."""
    scheduler.on_start(lambda: scheduler.submit(abs, -42))
    with pytest.raises(ExecutorBrokenError) as raised:
        scheduler.run(on_exception="continue")
    return str(raised.value)
