"""What runs in a job: computes the call in its folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from amltk.scheduling.executors.remote.executor import compute
from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles


def main(folder: str, number: str | None = None) -> None:
    """Compute a call and leave its outcome, unless another job does.

    Args:
        folder: The folder of the call.
        number: The number of this job; None for what Slurm says.
    """
    files = CallFiles(Path(folder))
    if not files.claim(os.environ["SLURM_JOB_ID"] if number is None else number):
        sys.stderr.write(f"another job, {files.claimed_by()}, computes this call: nothing to do\n")
        return
    files.write_outcome(compute(files.call.read_bytes()))
