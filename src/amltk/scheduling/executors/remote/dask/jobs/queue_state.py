"""What a batch system says about jobs: whether they wait, and how they have ended."""

from __future__ import annotations

import asyncio
import enum
import logging
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amltk.scheduling.executors.remote.slurm_environment import slurm_environment
from amltk.scheduling.executors.remote.slurm_states import FINAL

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection

_log = logging.getLogger(__name__)

ANSWER_SECONDS = 30.0
"""How many seconds a command has to answer; a controller that is busy is asked again later."""

QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
"""The states of Slurm's jobs that have not started, or have to start again."""

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
"""The reasons, in lower case, for which Slurm has a job wait until someone changes it or the cluster."""


class Phase(enum.Enum):
    """How far a job has come."""

    QUEUED = "has not started, or has to start again"
    STARTED = "goes on"
    ENDED = "does nothing any more"


@dataclass(frozen=True, slots=True)
class JobState:
    """What the batch system says about one job.

    Attributes:
        state: Its state, in the batch system's word.
        phase: What that means.
        reason: Why it is in that state; empty if unknown.
        waits_forever: Whether it waits for something that does not come by itself.
    """

    state: str
    phase: Phase
    reason: str = ""
    waits_forever: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether it does nothing any more."""
        return self.phase is Phase.ENDED

    @property
    def is_queued(self) -> bool:
        """Whether it has not started, or has to start again."""
        return self.phase is Phase.QUEUED


Answer = dict[str, JobState | None]
"""The states of jobs by name; None for a job that the batch system does not know. Others it has said nothing about."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command has answered.

    Attributes:
        code: Its exit code; 1 as well if it could not run, or has not answered in time.
        out: What it has printed.
        errors: What it has written to stderr.
    """

    code: int
    out: str = ""
    errors: str = ""


@dataclass(frozen=True, slots=True)
class Commands:
    """How the commands of a batch system are run.

    Attributes:
        before: What precedes each of them: `ssh login`.
        folder: Where they are: `/opt/pbs/bin/`; empty to look for them on the path.
    """

    before: tuple[str, ...] = ()
    folder: str = ""

    @classmethod
    def like(cls, submit_command: str, program: str) -> Commands | None:
        """As jobs are submitted; None if the command that submits them is not that program."""
        words = shlex.split(submit_command)
        for n, word in enumerate(words):
            if _program_of(word) == program:
                return cls(tuple(words[:n]), word.removesuffix(program))
        return None

    async def run(self, program: str, *arguments: str) -> Said:
        """Run one of them."""
        command = [self.folder + program, *arguments]
        if any(_program_of(word) == "ssh" for word in self.before):  # a shell reads it there once more
            command = [shlex.quote(word) for word in command]
        return await _run([*self.before, *command])


@dataclass(frozen=True, slots=True)
class BatchSystem:
    """How a batch system is asked about jobs.

    Attributes:
        submits: The program that submits a job.
        asks: The program that is asked.
        arguments: Its arguments for jobs of these names.
        read: What it has said about jobs of these names. It says nothing about a job if in doubt.
        announces: How `submits` announces the name of a job, which is the group; None if dask-jobqueue finds it for
            certain.
    """

    submits: str
    asks: str
    arguments: Callable[[Collection[str]], list[str]]
    read: Callable[[Said, Collection[str]], Answer]
    announces: re.Pattern[str] | None = None


class JobQueue:
    """Asks a batch system about jobs.

    Args:
        system: The batch system.
        commands: How its commands are run.
    """

    def __init__(self, system: BatchSystem, commands: Commands) -> None:
        self.system = system
        self.commands = commands
        self._not_understood: Said | None = None

    def name_of(self, job_id: str, said: str, submit_command: str) -> str | None:
        """How the batch system calls a job; None if that is in doubt, so that it cannot be asked about it.

        Args:
            job_id: The number that dask-jobqueue has found.
            said: What the command has printed that submitted the job.
            submit_command: That command.
        """
        if _program_of(shlex.split(submit_command)[-1]) != self.system.submits:
            return None  # its arguments may have sent the job to where other questions do not go
        if self.system.announces is None:
            return job_id
        found = self.system.announces.search(said)
        return found[1] if found is not None and found[1].partition(".")[0] == job_id else None

    async def look(self, jobs: Collection[str]) -> Answer:
        """What the batch system says about jobs of these names."""
        said = await self.commands.run(self.system.asks, *self.system.arguments(jobs))
        answer = self.system.read(said, jobs)
        unsaid = [job for job in jobs if job not in answer]
        if unsaid and said != self._not_understood:
            words = (said.errors.strip() or said.out.strip())[:500]
            told = f"exit code {said.code}, {words!r}"
            _log.debug("%s says nothing about the jobs %s: %s", self.system.asks, ", ".join(unsaid), told)
        self._not_understood = said if unsaid else None
        return answer


# ---------------------------------------------------------------------------------------------------------------- Slurm


def _read_slurm(said: Said, jobs: Collection[str]) -> Answer:
    answer: Answer = dict.fromkeys(jobs)
    if said.code:
        return answer if "invalid job id" in said.errors.lower() else {}
    for line in said.out.splitlines():
        job, _, rest = line.partition("|")
        state, _, reason = rest.partition("|")
        answer[job.strip()] = slurm_state(state, "" if reason == "None" else reason)
    return answer


def slurm_state(state: str, reason: str = "") -> JobState:
    """The state of one of Slurm's jobs, from its words for it."""
    phase = Phase.ENDED if state in FINAL else Phase.QUEUED if state in QUEUED else Phase.STARTED
    is_endless = phase is Phase.QUEUED and reason.lower().replace(" ", "_") in ENDLESS
    return JobState(state, phase, reason, waits_forever=is_endless)


SLURM = BatchSystem(
    "sbatch", "squeue", lambda jobs: ["-h", "-t", "all", "-j", ",".join(jobs), "-o", "%i|%T|%r"], _read_slurm
)


class SlurmQueue(JobQueue):
    """Asks Slurm about jobs.

    Args:
        submit_command: The command that submits jobs. What precedes `sbatch` there also precedes the commands here:
            `ssh login sbatch`.
    """

    def __init__(self, submit_command: str) -> None:
        found = Commands.like(submit_command, SLURM.submits)
        super().__init__(SLURM, Commands() if found is None else Commands(found.before))

    def name_of(self, job_id: str, said: str, submit_command: str) -> str:  # noqa: ARG002
        """Its number."""
        return job_id

    async def look_back(self, job: str) -> JobState | None:
        """How a job ended that `look` does not know any more; None if there is no accounting."""
        said = await self.commands.run("sacct", "-X", "-D", "-n", "-P", "-j", job, "-o", "State")
        states = [slurm_state(line.split()[0]) for line in said.out.splitlines() if line.strip()]
        ended = [state for state in states if state.has_ended]
        return ended[-1] if ended and not said.code else None


def _program_of(word: str) -> str:
    return word.rpartition("/")[2]


async def _run(command: list[str]) -> Said:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**slurm_environment(), "LC_ALL": "C"},  # what it leaves out is of Slurm
        )
    except OSError as error:
        return Said(1, "", str(error))
    try:
        out, errors = await asyncio.wait_for(process.communicate(), ANSWER_SECONDS)
    except (TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return Said(1, "", f"no answer within {ANSWER_SECONDS:.0f} s")
    assert process.returncode is not None, "it has ended"
    return Said(process.returncode, out.decode(errors="replace"), errors.decode(errors="replace"))
