"""The batch systems other than Slurm: how they are asked about jobs, and what they say.

As their manuals say; none of them has been tried. So a job is told to have ended, or to be unknown, only where the
words leave no doubt; whatever else a command prints says nothing, and the job is waited for.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from amltk.scheduling.executors.remote.dask.jobs.queue_state import (
    Answer,
    BatchSystem,
    Commands,
    JobQueue,
    JobState,
    Phase,
    Said,
    SlurmQueue,
)

if TYPE_CHECKING:
    from collections.abc import Collection

LONGEST_REASON = 120
"""How many characters of a reason are shown; LSF gives one for each machine."""


@dataclass(frozen=True, slots=True)
class Words:
    """A batch system's words for the states of jobs.

    Attributes:
        queued: For a job that has not started. The first is the usual one, which is no reason by itself.
        started: For a job that goes on.
        ended: For a job that does nothing any more.
    """

    queued: tuple[str, ...]
    started: tuple[str, ...]
    ended: tuple[str, ...]

    def state(self, word: str, reason: str = "") -> JobState | None:
        """The state of a job; None if that is not one of the words."""
        if word in self.queued:
            reason = textwrap.shorten(reason, LONGEST_REASON, placeholder=" ...")
            return JobState(word, Phase.QUEUED, reason or ("" if word == self.queued[0] else word))
        if word in self.started:
            return JobState(word, Phase.STARTED)
        return JobState(word, Phase.ENDED) if word in self.ended else None


# ------------------------------------------------------------------------------------------- PBS, OpenPBS, Torque, Moab

PBS = Words(queued=("Q", "H", "T", "W"), started=("R", "B", "E", "S", "U"), ended=("C", "F", "X"))


def read_pbs(said: Said, jobs: Collection[str]) -> Answer:
    """Read what `qstat -f` has said. Its exit code is that of the last job only."""
    by_number: Answer = {}
    for number in re.findall(r"Unknown Job Id(?: Error)? (\d+)", said.errors):
        by_number[number] = None
    for number in re.findall(r"(\d+)\S* Job has finished", said.errors):  # OpenPBS, with a history of jobs
        by_number[number] = PBS.state("F")
    for job in re.split(r"^Job Id: *", said.out.replace("\n\t", ""), flags=re.MULTILINE)[1:]:
        found = dict(re.findall(r"^ +(job_state|comment) = (.*)$", job, flags=re.MULTILINE))
        state = PBS.state(found.get("job_state", ""), found.get("comment", ""))
        if state is not None:
            by_number[job.partition("\n")[0].partition(".")[0]] = state
    numbers = {job: job.partition(".")[0] for job in jobs}
    return {job: by_number[number] for job, number in numbers.items() if number in by_number}


def read_moab(said: Said, jobs: Collection[str]) -> Answer:
    """Read what Torque's `qstat -f` has said. It need not know a job by the number that Moab has given."""
    return {job: state for job, state in read_pbs(said, jobs).items() if state is not None}


# ----------------------------------------------------------------------------------------------------------------- LSF

LSF = Words(
    queued=("PEND", "PSUSP", "FWD_PEND", "PROV", "WAIT"),
    started=("RUN", "SSUSP", "USUSP", "UNKWN", "ZOMBI"),
    ended=("DONE", "EXIT"),
)


def read_lsf(said: Said, jobs: Collection[str]) -> Answer:
    """Read what `bjobs` has said.

    That a job is not found says nothing: it may be too new. Those that have ended are shown for an hour.
    """
    answer: Answer = {}
    for line in said.out.splitlines():
        job, word, reason, *_ = [*line.split(maxsplit=2), "", "", ""]
        state = LSF.state(word, "" if reason.strip() == "-" else reason)
        if job in jobs and state is not None:
            answer[job] = state
    return answer


# ----------------------------------------------------------------------------------------------------------------- SGE


def read_sge(said: Said, jobs: Collection[str]) -> Answer:
    """Read what `qstat -xml` has said: the list of all jobs of the user that have not ended."""
    try:
        listed = ET.fromstring(said.out)
    except ET.ParseError:
        return {}
    if said.code or listed.tag != "job_info":
        return {}
    letters = {job.findtext("JB_job_number", ""): job.findtext("state", "") for job in listed.iter("job_list")}
    answer: Answer = {job: None for job in jobs if job not in letters}
    for job in jobs:
        state = letters.get(job, "")
        if "q" in state:
            reason = "" if state == "qw" else state
            answer[job] = JobState(state, Phase.QUEUED, reason, waits_forever="E" in state)
        elif state:
            answer[job] = JobState(state, Phase.ENDED if "z" in state else Phase.STARTED)
    return answer


# ----------------------------------------------------------------------------------------------------------------- OAR

OAR = Words(
    queued=("Waiting", "Hold", "toAckReservation"),
    started=("toLaunch", "Launching", "Running", "Suspended", "Resuming", "Finishing", "toError"),
    ended=("Terminated", "Error"),
)


def read_oar(said: Said, jobs: Collection[str]) -> Answer:
    """Read what `oarstat -J` has said. It never forgets a job, so that one that is left out says nothing."""
    try:
        listed = json.loads(said.out)
    except ValueError:
        return {}
    answer: Answer = {}
    for job in jobs:
        known = listed.get(job) if isinstance(listed, dict) else None
        if isinstance(known, dict):
            state = OAR.state(str(known.get("state")), str(known.get("message") or ""))
            if state is not None:
                answer[job] = state
    return answer


# ------------------------------------------------------------------------------------------------------------ HTCondor

CONDOR = Words(
    queued=("idle", "held"), started=("running", "transferring output", "suspended"), ended=("removed", "completed")
)

CONDOR_NUMBERS = {
    "1": "idle",
    "2": "running",
    "3": "removed",
    "4": "completed",
    "5": "held",
    "6": "transferring output",
    "7": "suspended",
}


def read_condor(said: Said, jobs: Collection[str]) -> Answer:
    """Read what `condor_q -af:j` has said: a line for each of the jobs that it has in the queue."""
    if said.code or said.errors.strip():
        return {}
    answer: Answer = dict.fromkeys(jobs)
    for line in filter(str.strip, said.out.splitlines()):
        job, number, reason, *_ = [*line.split(maxsplit=2), "", "", ""]
        state = CONDOR.state(CONDOR_NUMBERS.get(number, ""), "" if reason.strip() == "undefined" else reason)
        if job not in jobs or state is None:
            return {}
        answer[job] = state
    return answer


# ----------------------------------------------------------------------------------------------------------- the table

A_NUMBER_ALONE = re.compile(r"^(\d+(?:\.\S+)?)\s*$", re.MULTILINE)

OTHERS = {
    "pbs": BatchSystem("qsub", "qstat", lambda jobs: ["-f", *jobs], read_pbs, A_NUMBER_ALONE),
    "moab": BatchSystem("msub", "qstat", lambda jobs: ["-f", *jobs], read_moab, A_NUMBER_ALONE),
    "sge": BatchSystem(
        "qsub",
        "qstat",
        lambda _: ["-u", "$user", "-s", "a", "-xml"],  # qstat itself replaces $user
        read_sge,
        re.compile(r"^(?:Your job (?=\d+ \()|(?=\d+\s*$))(\d+)", re.MULTILINE),  # a number alone with -terse
    ),
    "lsf": BatchSystem(
        "bsub",
        "bjobs",
        lambda jobs: ["-noheader", "-o", "jobid stat pend_reason", *jobs],
        read_lsf,
        re.compile(r"Job <(\d+)> is submitted"),
    ),
    "oar": BatchSystem(
        "oarsub", "oarstat", lambda jobs: ["-J", *(word for job in jobs for word in ("-j", job))], read_oar
    ),
    "htcondor": BatchSystem(
        "condor_submit", "condor_q", lambda jobs: [*jobs, "-af:j", "JobStatus", "HoldReason"], read_condor
    ),
}
"""How they are asked, by the names of their clusters."""


ELSEWHERE = re.compile(r"^#(?:PBS|MSUB)\s+-q\s*\S*@", re.MULTILINE)
"""A line of a job's script that sends the job to another server, which `qstat` may not ask."""


def queue_of(name: str, submit_command: str, script: str = "") -> JobQueue | None:
    """What asks a batch system about jobs; None if its commands or its server are not known.

    Args:
        name: The batch system.
        submit_command: The command that submits jobs; others are run in the same way.
        script: The script of such a job.
    """
    if name == "slurm":
        return SlurmQueue(submit_command)
    system = OTHERS[name]
    commands = None if ELSEWHERE.search(script) else Commands.like(submit_command, system.submits)
    return None if commands is None else JobQueue(system, commands)
