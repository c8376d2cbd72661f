"""What a batch system says about jobs: whether they wait, and how they have ended."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amltk.scheduling.executors.remote.slurm_environment import slurm_environment
from amltk.scheduling.executors.remote.slurm_states import FINAL

if TYPE_CHECKING:
    from collections.abc import Collection

ANSWER_SECONDS = 30.0
"""How many seconds a command has to answer; a controller that is busy is asked again later."""

QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
"""The states of jobs that have not started, or have to start again."""

ENDLESS = frozenset(
    {
        "badconstraints",
        "dependencyneversatisfied",
        "invalidaccount",
        "invalidqos",
        "jobholdmaxrequeue",
        "launch_failed_requeued_held",
        "partitionnodelimit",
        "partitiontimelimit",
    }
)
"""The reasons, in lower case, for which a job waits until someone changes it or the cluster."""


@dataclass(frozen=True, slots=True)
class JobState:
    """What the batch system says about one job.

    Attributes:
        state: Its state, in the batch system's word.
        reason: Why it is in that state; empty if unknown.
    """

    state: str
    reason: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it does nothing any more."""
        return self.state in FINAL

    @property
    def is_queued(self) -> bool:
        """Whether it has not started, or has to start again."""
        return self.state in QUEUED

    @property
    def waits_forever(self) -> bool:
        """Whether it waits for something that does not come by itself."""
        return self.is_queued and self.reason.lower().replace(" ", "_") in ENDLESS


class SlurmQueue:
    """Asks Slurm about jobs.

    Args:
        submit_command: The command that submits jobs. What precedes `sbatch` there also precedes the commands here:
            `ssh login sbatch`.
    """

    def __init__(self, submit_command: str) -> None:
        words = shlex.split(submit_command)
        self._prefix = words[: words.index("sbatch")] if "sbatch" in words else []

    async def look(self, jobs: Collection[str]) -> dict[str, JobState] | None:
        """The states of these jobs. One that is left out ended some time ago. None if Slurm does not answer."""
        code, told, complaint = await _run(
            [*self._prefix, "squeue", "-h", "-t", "all", "-j", ",".join(jobs), "-o", "%i|%T|%r"]
        )
        if code:
            return {} if "invalid job id" in complaint.lower() else None
        states = {}
        for line in told.splitlines():
            job, _, rest = line.partition("|")
            state, _, reason = rest.partition("|")
            states[job.strip()] = JobState(state, "" if reason == "None" else reason)
        return states

    async def look_back(self, job: str) -> JobState | None:
        """How a job ended that `look` does not know any more; None if there is no accounting."""
        code, told, _ = await _run([*self._prefix, "sacct", "-X", "-D", "-n", "-P", "-j", job, "-o", "State"])
        states = [JobState(line.split()[0]) for line in told.splitlines() if line.strip()]
        ended = [state for state in states if state.has_ended]
        return ended[-1] if ended and not code else None


async def _run(command: list[str]) -> tuple[int, str, str]:
    """The exit code of a command, what it has printed, and its errors. It fails also if it cannot run."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**slurm_environment(), "LC_ALL": "C"},
        )
    except OSError as error:
        return 1, "", str(error)
    try:
        out, errors = await asyncio.wait_for(process.communicate(), ANSWER_SECONDS)
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return 1, "", f"no answer within {ANSWER_SECONDS:.0f} s"
    assert process.returncode is not None, "it has ended"
    return process.returncode, out.decode(errors="replace"), errors.decode(errors="replace")
