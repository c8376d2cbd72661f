"""Why a worker was lost: what the batch system says of its job, and what its log says of its process."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amltk.exceptions import (
    WorkerLostError,
    WorkerNodeFailedError,
    WorkerOutOfMemoryError,
    WorkerOutOfTimeError,
    WorkerPreemptedError,
)
from amltk.scheduling.executors.remote.dask.jobs.logs import end_of, files_of
from amltk.scheduling.executors.remote.slurm_states import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.remote.dask.jobs.queue_state import JobState, SlurmQueue

MOST_SECONDS = 10.0
"""How many seconds to wait for the batch system to say how a job ended; its processes may end before it knows."""

LOOK_SECONDS = 0.5

LEAST_SECONDS = 1.0
"""After how many seconds another worker in the same job says that the job goes on."""

LAST_WORDS: dict[str, type[WorkerLostError]] = {
    r"DUE TO PREEMPTION|TERM_PREEMPT": WorkerPreemptedError,
    r"DUE TO TIME LIMIT|walltime \d+ exceeded limit|TERM_RUNLIMIT": WorkerOutOfTimeError,
    r"oom[-_ ]kill|TERM_MEMLIMIT|mem \d+\w* exceeded limit": WorkerOutOfMemoryError,
    r"DUE TO NODE FAILURE": WorkerNodeFailedError,
}
"""What Slurm, PBS and LSF write to the log of a job that they end."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a worker was lost.

    Attributes:
        kind: The class of the error.
        how: The reason in words.
        exit_code: That of the worker's process, negative for a signal; None if unknown.
    """

    kind: type[WorkerLostError]
    how: str
    exit_code: int | None = None


async def find_out(
    queue: SlurmQueue | None, job: Any, worker: str, pid: int | None, is_back: Callable[[], bool]
) -> Loss:
    """Why a worker was lost.

    Args:
        queue: Asks Slurm; None for another batch system.
        job: The job of the worker.
        worker: The address of the worker.
        pid: Its process; None if unknown.
        is_back: Whether another worker is up in the same job.
    """
    began = time.monotonic()
    while True:
        if queue is not None and (loss := await _of_job(queue, job)) is not None:
            return loss
        loss = _of_process(job, worker, pid)
        if loss is not None and loss.exit_code != -signal.SIGTERM:  # that is how batch systems begin to end a job
            return loss
        took = time.monotonic() - began
        if queue is None or took > MOST_SECONDS or (took > LEAST_SECONDS and is_back()):
            return _of_log(job) or loss or Loss(WorkerLostError, f"the worker in job {job.job_id} was lost")
        await asyncio.sleep(LOOK_SECONDS)


async def _of_job(queue: SlurmQueue, job: Any) -> Loss | None:
    """What the batch system says; None if the job goes on, or nothing is known."""
    answer = await queue.look([job.job_id])
    if job.job_id not in answer:
        return None
    state = answer[job.job_id]
    if state is not None and not state.has_ended and not state.is_queued:
        return None
    if state is None or state.is_queued:
        past = await queue.look_back(job.job_id)
        if past is not None and (state is None or past.state in KINDS):
            state = past
    if state is None:
        return _of_log(job) or Loss(WorkerLostError, f"its job {job.job_id} ended")
    if state.is_queued:
        return Loss(WorkerPreemptedError, f"its job {job.job_id} was requeued{_reason(state)}")
    return Loss(KINDS.get(state.state, WorkerLostError), f"its job {job.job_id} ended ({state.state})")


def _reason(state: JobState) -> str:
    return f" ({state.reason})" if state.reason else ""


def _of_process(job: Any, worker: str, pid: int | None) -> Loss | None:
    """What Dask's nanny has written about the end of the worker's process; None if nothing."""
    if pid is None:
        return None
    for path in files_of(job.log_directory, job.job_id):
        log = end_of(path, None)
        found = re.search(rf"Worker process {pid} (?:was killed by signal (\d+)|exited with status (\d+))", log)
        if found is None:
            continue
        code = -int(found[1]) if found[1] else int(found[2])
        if re.search(rf"{re.escape(worker)} .*exceeded \d+% memory budget", log):
            how = f"Dask ended the worker in job {job.job_id}, which used nearly all of its memory"
            return Loss(WorkerOutOfMemoryError, how, code)
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Loss(WorkerLostError, f"the worker in job {job.job_id} ended by {end}", code)
    return None


def _of_log(job: Any) -> Loss | None:
    """What the batch system has written to the job's log; None if nothing."""
    for path in files_of(job.log_directory, job.job_id):
        log = end_of(path, None)
        for words, kind in LAST_WORDS.items():
            if (found := re.search(words, log, re.IGNORECASE)) is not None:
                return Loss(kind, f"its job {job.job_id} was ended ({found[0]})")
    return None
