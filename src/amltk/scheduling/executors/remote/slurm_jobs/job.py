"""What runs in a job: computes the call in its folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from amltk._notes import add_note
from amltk.scheduling.executors.remote.executor import compute, unsent
from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles


def main(folder: str, name: str, number: str | None = None) -> None:
    """Compute a call and leave its outcome, unless another job does, or nobody waits for it any more.

    Args:
        folder: The folder of the call.
        name: The name of this job.
        number: The number of this job; None for what Slurm says.
    """
    files = CallFiles(Path(folder))
    if not files.awaits(name):
        sys.stderr.write("this call is over: nothing to do\n")
        return
    if not files.claim(os.environ["SLURM_JOB_ID"] if number is None else number):
        sys.stderr.write(f"another job, {files.claimed_by()}, computes this call: nothing to do\n")
        return
    outcome = compute(files.call.read_bytes())
    try:
        files.write_outcome(outcome)
    except OSError as error:
        add_note(error, f"raised while writing the outcome, of {len(outcome)} bytes, to {files.outcome}")
        files.write_outcome(unsent(error))
