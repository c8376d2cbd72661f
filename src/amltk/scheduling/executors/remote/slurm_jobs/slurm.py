"""Slurm's commands, and what they print."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from amltk.exceptions import JobRefusedError
from amltk.scheduling.executors.remote.driver_address import address_towards
from amltk.scheduling.executors.remote.slurm_environment import slurm_environment
from amltk.scheduling.executors.remote.slurm_states import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_log = logging.getLogger(__name__)

COMMANDS = ("sbatch", "squeue", "scancel")

FIELDS = {"jobid": 20, "name": 60, "state": 20, "reason": 60, "exit_code": 12, "nodelist": 60}
"""What `squeue` is asked for, and how wide its columns are."""

PASSING = (
    "unable to contact",
    "timed out",
    "temporarily",
    "connection refused",
    "connection reset",
    "communication",
    "connect failure",
    "standby",
    "zero bytes",
)
"""Parts of what Slurm's commands say, in lower case, where another try may succeed."""

OVER = ("invalid job id", "already complet")
"""Parts of what `scancel` says, in lower case, of jobs that have ended."""

FULL = "submitjob"
"""Part of the names of all limits on the number of jobs, of accounts, users and QOS, in lower case.

The error that `sbatch` prints besides such a name is that for jobs that can never be submitted.
"""

SIGNALLED = 128
"""What a shell adds to the number of the signal that has ended a program."""


CLOCKS_DIFFER_SECONDS = 86400.0
"""By how much the clocks of Slurm and of the file system may differ. Names of jobs are unique: a day does no harm."""


class Listed(NamedTuple):
    """A job as the queue lists it.

    Attributes:
        number: Slurm's number of the job.
        state: Its state, such as `PENDING`.
        reason: Why it waits, or has ended; `None` if Slurm says nothing.
        exit_code: The exit code of its script; negative for the signal that has ended it.
        nodes: Where it runs or ran; empty if it has not begun.
    """

    number: str
    state: str
    reason: str
    exit_code: int
    nodes: str

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state not in FINAL

    @property
    def has_failed(self) -> bool:
        """Whether it has ended such that its script did not get to its end."""
        return not self.is_active and self.state != "COMPLETED"

    def in_words(self) -> str:
        """How it has ended, in words."""
        if self.exit_code:
            how = f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
            return f"{self.state}, {how}"
        return self.state if self.reason == "None" else f"{self.state}, {self.reason}"


class QueueUnknownError(Exception):
    """Slurm does not answer now: nothing is known about any job."""


class QueueFullError(Exception):
    """Slurm has as many jobs of this user as it takes: the job was not submitted."""


def check_commands() -> None:
    """Raise a `FileNotFoundError` if one of Slurm's commands is missing."""
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise FileNotFoundError(
                f"no {command} on PATH: run the program on a node of the cluster from which jobs can be submitted"
            )


def submit(script: str, options: Sequence[str], held: int) -> str:
    """Submit a job; returns its number.

    Args:
        script: The path of its script.
        options: The options of `sbatch`.
        held: A descriptor that stays open until `sbatch` has ended, even if this process is killed meanwhile.

    Raises:
        JobRefusedError: `sbatch` says no.
        QueueFullError: `sbatch` says no, for now.
        QueueUnknownError: It may have submitted the job, or may do so later.
    """
    ended = _run(["sbatch", "--parsable", *options, script], pass_fds=[held])
    said = ended.stderr.strip()
    if ended.returncode:
        if FULL in said.lower():
            raise QueueFullError(said)
        if ended.returncode < 0 or any(part in said.lower() for part in PASSING):
            raise QueueUnknownError(said or f"sbatch was ended by signal {-ended.returncode}")
        raise JobRefusedError(f"Slurm refuses the job: {said or f'sbatch ended with {ended.returncode}'}")
    number = ended.stdout.strip().rpartition("\n")[2].partition(";")[0]  # some clusters greet their users first
    if not number.isdecimal():
        raise QueueUnknownError(f"sbatch prints no number of a job: {ended.stdout!r}")
    return number


def queue() -> dict[str, list[Listed]]:
    """The jobs of this user by their names, with those that have ended of late.

    Raises:
        QueueUnknownError: Slurm does not answer.
    """
    columns = ",".join(f"{name}:{width}" for name, width in FIELDS.items())
    user = str(os.getuid())
    said = _ask(["squeue", "--noheader", "--states=all", f"--user={user}", f"--Format={columns}"])
    listed: dict[str, list[Listed]] = {}
    for line in said.splitlines():
        fields, at = [], 0
        for width in FIELDS.values():
            fields.append(line[at : at + width].strip())
            at += width
        number, name, state, reason, code, nodes = fields
        listed.setdefault(name, []).append(Listed(number, state, reason, _exit_code(code), nodes))
    return listed


def active(names: Iterable[str]) -> Iterator[Listed]:
    """The jobs of these names that have not ended. Raises as `queue` does."""
    listed = queue()
    return (job for name in names for job in listed.get(name, ()) if job.is_active)


def accounted(name: str, since: float) -> Listed | None:
    """The job of this name by the accounting, which remembers those that the queue has forgotten.

    Args:
        name: The name of the job.
        since: When it was submitted at the earliest, in seconds since the epoch.

    Returns:
        None if there was none, or if there is no accounting.
    """
    if shutil.which("sacct") is None:
        return None
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - CLOCKS_DIFFER_SECONDS))
    asked = ["--allocations", "--noheader", "--parsable2", f"--name={name}", f"--starttime={start}"]
    try:
        said = _ask(["sacct", *asked, "--format=JobIDRaw,State,NodeList"])
    except QueueUnknownError:
        return None
    for line in said.splitlines():
        number, state, nodes = line.split("|")
        return Listed(number, state.partition(" ")[0], "None", 0, nodes)
    return None


def cancel(numbers: Iterable[str]) -> None:
    """End jobs, whether they have begun or not.

    Raises:
        QueueUnknownError: Slurm does not answer.
    """
    command = ["scancel", *numbers]
    if len(command) == 1:
        return
    try:
        _ask(command)
        return
    except QueueUnknownError as error:
        complaint = error
    if any(part in str(complaint).lower() for part in PASSING):
        raise complaint
    # It has cancelled the others. Those that have ended meanwhile need nothing.
    if said := [line for line in str(complaint).splitlines() if not any(part in line.lower() for part in OVER)]:
        _log.warning("some of %s may go on: %s", " ".join(command), "\n".join(said))


def own_address() -> str | None:
    """The address with which this machine reaches Slurm's controller; None if that is not known."""
    try:
        said = _ask(["scontrol", "show", "config"])
    except (OSError, QueueUnknownError):
        return None
    found = re.search(r"^SlurmctldHost\[0\]\s*=\s*([^\s(]+)(?:\((\S+)\))?", said, re.MULTILINE)
    return None if found is None else address_towards(found[2] or found[1])


def _ask(command: list[str]) -> str:
    ended = _run(command)
    if ended.returncode:
        raise QueueUnknownError(ended.stderr.strip() or f"{command[0]} ended with {ended.returncode}")
    return ended.stdout


def _run(command: list[str], pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=slurm_environment(),
        pass_fds=pass_fds,
        process_group=0,  # Ctrl-C is not for it
    )


def _exit_code(status: str) -> int:
    try:
        code = os.waitstatus_to_exitcode(int(status))
    except (ValueError, OverflowError):  # it says nothing, or what no process ends with
        return 0
    return SIGNALLED - code if code > SIGNALLED else code
