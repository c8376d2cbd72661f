"""The jobs of Slurm as their watcher sees them, step by step, with a Slurm that does what the test says."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import WorkerLostError, WorkerOutOfTimeError
from amltk.scheduling.executors.remote.executor import RemoteFuture
from amltk.scheduling.executors.remote.slurm_jobs import call_files, slurm, watcher
from amltk.scheduling.executors.remote.slurm_jobs import job as in_job
from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles
from amltk.scheduling.executors.remote.slurm_jobs.executor import SlurmJobsExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOWN = "error: Unable to contact slurm controller (connect failure)"
FULL = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates policy"


class StandIn:
    """Takes the place of Slurm's commands.

    Attributes:
        jobs: The state and the name of each job, by its number.
        room: How many jobs it takes.
        says: What a command complains of, instead of doing anything, by its name.
        asked: The commands that were run.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, list[str]] = {}
        self.room = 1000
        self.says: dict[str, str] = {}
        self.asked: list[list[str]] = []

    def run(self, command: Sequence[str], pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        name, *arguments = command
        self.asked.append(list(command))
        if name in self.says:
            return subprocess.CompletedProcess(command, 1, "", self.says[name])
        return getattr(self, name)(arguments)  # type: ignore[no-any-return]

    def sbatch(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        if sum(state != "COMPLETED" for state, _ in self.jobs.values()) >= self.room:
            return subprocess.CompletedProcess(arguments, 1, "", FULL)
        (name,) = (found[1] for each in arguments if (found := re.match("--job-name=(.*)", each)))
        number = str(len(self.jobs) + 1)
        self.jobs[number] = ["PENDING", name]
        return subprocess.CompletedProcess(arguments, 0, f"{number}\n", "")

    def squeue(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        lines = (f"{number:20}{name:60}{state:20}{'None':60}{0:<12}" for number, (state, name) in self.jobs.items())
        return subprocess.CompletedProcess(arguments, 0, "\n".join(lines), "")

    def scancel(self, numbers: list[str]) -> subprocess.CompletedProcess[str]:
        for number in numbers:
            self.jobs[number][0] = "CANCELLED"
        return subprocess.CompletedProcess(numbers, 0, "", "")

    def state(self, number: str) -> str:
        return self.jobs[number][0]


@pytest.fixture
def slurm_is(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(slurm, "_run", stand_in.run)
    monkeypatch.setattr(slurm, "accounted", lambda *_: None)
    return stand_in


class Stepped:
    """An executor whose watcher does a round when the test says so, each of them when Slurm is due to be asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        monkeypatch.setattr(watcher.Watcher, "_start", lambda _: None)
        self.executor = SlurmJobsExecutor(options, folder, (), 1e-9, None)
        self.watcher = self.executor._watcher

    def submit(self, fn: Any, *args: Any) -> RemoteFuture:
        return self.executor.submit_placed({}, 0.0, fn, *args)  # type: ignore[no-any-return]

    def round(self) -> None:
        self.watcher._work_once()

    def folder(self, call: RemoteFuture) -> Path:
        return call.handle.files.path  # type: ignore[no-any-return]

    def compute(self, call: RemoteFuture, number: str) -> None:
        """Do what job `number` of a call does."""
        job = call.handle
        in_job.main(str(job.files.path), job.files.job_name, number)


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm_is: StandIn) -> Iterator[Stepped]:
    made = Stepped(tmp_path / "jobs", monkeypatch)
    yield made
    made.executor.kill_workers()


def test_calls_end_while_others_wait_since_slurm_takes_no_more(stepped: Stepped, slurm_is: StandIn) -> None:
    """With more calls than the limit MaxSubmitJobs, the outcomes of jobs are taken while the other calls wait."""
    slurm_is.room = 1
    first, second = stepped.submit(abs, -1), stepped.submit(abs, -2)
    stepped.round()
    assert list(slurm_is.jobs) == ["1"]
    slurm_is.jobs["1"][0] = "RUNNING"
    stepped.compute(first, "1")
    stepped.round()
    assert first.result(0) == 1
    slurm_is.jobs["1"][0] = "COMPLETED"
    stepped.round()
    stepped.compute(second, "2")
    slurm_is.jobs["2"][0] = "COMPLETED"
    stepped.round()
    assert second.result(0) == 2


def test_a_full_queue_is_said_once_and_asked_about_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm_is: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one warning, and no other `sbatch` before `poll_interval` has passed."""
    slurm_is.room = 0
    stepped = Stepped(tmp_path / "jobs", monkeypatch)
    stepped.watcher._pause = 1e9
    stepped.submit(abs, -1)
    for _ in range(3):
        stepped.round()
    assert [command[0] for command in slurm_is.asked] == ["sbatch"]
    assert caplog.text.count("takes no more jobs for now") == 1
    stepped.executor.kill_workers()


def test_calls_end_while_slurm_does_not_answer(stepped: Stepped, slurm_is: StandIn) -> None:
    """While slurmctld is down, outcomes are taken, even if other calls are to be submitted or cancelled."""
    first, second = stepped.submit(abs, -1), stepped.submit(abs, -2)
    stepped.round()
    slurm_is.jobs["1"][0] = "RUNNING"
    stepped.round()
    slurm_is.says = dict.fromkeys(("sbatch", "squeue", "scancel"), DOWN)
    second.cancel()
    third = stepped.submit(abs, -3)
    stepped.compute(first, "1")
    stepped.round()
    assert first.result(0) == 1
    assert not third.done()
    slurm_is.says = {}
    stepped.round()
    assert slurm_is.state("2") == "CANCELLED"


def begun(stepped: Stepped, slurm_is: StandIn, *calls: RemoteFuture) -> None:
    """Have the jobs of these calls submitted, and begin."""
    stepped.round()
    for call in calls:
        slurm_is.jobs[call.handle.number][0] = "RUNNING"
    stepped.round()
    assert all(call.running() for call in calls)


def twice(stepped: Stepped, slurm_is: StandIn) -> RemoteFuture:
    """A call with the jobs 1 and 2: the first was late, so that it was not found when `sbatch` had timed out."""
    call = stepped.submit(abs, -1)
    slurm_is.says = {"sbatch": "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"}
    stepped.round()
    slurm_is.jobs["1"] = ["PENDING", "not yet seen"]
    slurm_is.says = {}
    stepped.round()
    assert call.handle.number == "2"
    slurm_is.jobs["1"] = ["RUNNING", call.handle.files.job_name]
    return call


def test_two_jobs_of_a_call_are_both_cancelled(stepped: Stepped, slurm_is: StandIn) -> None:
    """Whichever of them has the number that is known: the other one may be the one that computes the call."""
    call = twice(stepped, slurm_is)
    call.cancel()
    stepped.round()
    assert [slurm_is.state(number) for number in ("1", "2")] == ["CANCELLED", "CANCELLED"]


def test_of_two_jobs_the_one_that_has_the_call_counts(stepped: Stepped, slurm_is: StandIn) -> None:
    """The outcome is taken although the other one waits, and that is cancelled."""
    call = twice(stepped, slurm_is)
    stepped.compute(call, "1")
    slurm_is.jobs["1"][0] = "COMPLETED"
    stepped.round()
    assert call.result(0) == 1
    assert slurm_is.state("2") == "CANCELLED"


def test_of_two_jobs_one_is_forgotten(stepped: Stepped, slurm_is: StandIn) -> None:
    """The same, if Slurm no longer lists the one that has computed the call."""
    call = twice(stepped, slurm_is)
    stepped.compute(call, "1")
    slurm_is.jobs["1"][1] = "not listed any more"
    stepped.round()
    assert call.result(0) == 1


def test_numbers_that_are_given_again(stepped: Stepped, slurm_is: StandIn) -> None:
    """When Slurm has lost its state, a job of another name may have the number of a call: it is not cancelled."""
    call = stepped.submit(abs, -1)
    begun(stepped, slurm_is, call)
    slurm_is.jobs["1"] = ["RUNNING", "of somebody else"]
    call.cancel()
    stepped.round()
    assert slurm_is.state("1") == "RUNNING"


def test_the_number_cannot_be_written(
    stepped: Stepped, slurm_is: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk: the job is there, and the call ends with its outcome, not with the disk's error."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(call_files, "_write", full)
    call = stepped.submit(abs, -1)
    begun(stepped, slurm_is, call)
    monkeypatch.undo()
    stepped.compute(call, "1")
    stepped.watcher._look_at_files()
    assert call.result(0) == 1
    assert "the number of job 1 of Slurm cannot be written: [Errno 28]" in caplog.text


def test_a_job_that_may_be_there_is_cancelled_when_its_call_fails(stepped: Stepped, slurm_is: StandIn) -> None:
    """The folder of a call is removed while it is not known whether its job was submitted: it is looked for."""
    call = stepped.submit(abs, -1)
    slurm_is.says = {"sbatch": "Socket timed out", "squeue": DOWN}
    stepped.round()
    slurm_is.says = {}
    slurm_is.jobs["1"] = ["RUNNING", call.handle.files.job_name]
    shutil.rmtree(stepped.folder(call))
    for _ in range(2):
        stepped.round()
    assert isinstance(call.exception(0), FileNotFoundError)
    assert slurm_is.state("1") == "CANCELLED"


@pytest.mark.parametrize("instead", [None, "a file"])
def test_a_folder_that_is_removed_costs_its_call_only(stepped: Stepped, slurm_is: StandIn, instead: str | None) -> None:
    """While its job runs, also with something else in its place: when that has ended, only its call is lost."""
    first, second = stepped.submit(abs, -1), stepped.submit(abs, -2)
    begun(stepped, slurm_is, first, second)
    shutil.rmtree(stepped.folder(first))
    if instead is not None:
        stepped.folder(first).write_text(instead)
    slurm_is.jobs["1"][0] = "FAILED"
    slurm_is.jobs["2"][0] = "TIMEOUT"
    stepped.round()
    assert type(first.exception(0)) is WorkerLostError
    assert type(second.exception(0)) is WorkerOutOfTimeError


def test_an_argument_that_no_program_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm_is: StandIn) -> None:
    """Such as a text with a NUL: calls fail with that error, and the executor is not broken."""

    def submit(script: str, options: Sequence[str], held: int) -> str:
        subprocess.run(["true", *options], check=True)
        return "1"

    monkeypatch.setattr(slurm, "submit", submit)
    stepped = Stepped(tmp_path / "jobs", monkeypatch, comment="a\0b")
    call = stepped.submit(abs, -1)
    stepped.round()
    assert isinstance(call.exception(0), ValueError)
    stepped.executor.kill_workers()


def test_a_folder_that_cannot_be_cleaned_up(
    stepped: Stepped, slurm_is: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind, with a warning; other calls go on."""

    def fail(_: CallFiles) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    first, second = stepped.submit(abs, -1), stepped.submit(abs, -2)
    begun(stepped, slurm_is, first, second)
    with monkeypatch.context() as patch:
        patch.setattr(CallFiles, "close", fail)
        stepped.compute(first, "1")
        stepped.round()
    assert first.result(0) == 1
    assert "Read-only file system" in caplog.text
    stepped.compute(second, "2")
    stepped.round()
    assert second.result(0) == 2


def test_a_damaged_folder_of_an_earlier_program_holds_nothing_up(
    stepped: Stepped, slurm_is: StandIn, tmp_path: Path
) -> None:
    """Someone has removed the name of its job: it is cleaned up, and calls end meanwhile."""
    left = CallFiles.make(tmp_path / "left" / "7", b"", lambda *_: "", b"what")
    (left.path / "name").unlink()
    call = stepped.submit(abs, -1)
    begun(stepped, slurm_is, call)
    stepped.watcher.clear([left])
    stepped.compute(call, "1")
    stepped.round()
    assert call.result(0) == 1
    assert not left.path.exists()
