"""Jobs of Slurm, as far as no Slurm is needed: what is asked for, and the folder of a call."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from amltk.exceptions import (
    JobRefusedError,
    ResourceUnavailableError,
    WorkerLostError,
    WorkerNodeFailedError,
    WorkerOutOfMemoryError,
    WorkerOutOfTimeError,
    WorkerPreemptedError,
)
from amltk.scheduling import Scheduler
from amltk.scheduling._admission.amounts import UNIT
from amltk.scheduling.executors.remote.executor import RemoteFuture
from amltk.scheduling.executors.remote.pickling import dumps
from amltk.scheduling.executors.remote.slurm_environment import slurm_environment
from amltk.scheduling.executors.remote.slurm_jobs import executor as slurm_executor
from amltk.scheduling.executors.remote.slurm_jobs import slurm
from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles
from amltk.scheduling.executors.remote.slurm_jobs.job import main
from amltk.scheduling.executors.remote.slurm_jobs.job_state import Job
from amltk.scheduling.executors.remote.slurm_jobs.options import arguments, asked_for, check_options
from amltk.scheduling.executors.remote.slurm_jobs.slurm import QueueFullError, QueueUnknownError
from tests.helpers.gate import GUARD


def make(path: Path, call: bytes = b"") -> CallFiles:
    return CallFiles.make(path, call, lambda place, _: f"# {place}", b"what")


# ---------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("wanted", "needs_time", "asked"),
    [
        ({}, 0.0, {}),
        ({"cpu": 4 * UNIT}, 0.0, {"cpus_per_task": 4}),
        ({"cpu": UNIT // 2}, 0.0, {"cpus_per_task": 1}),
        ({"memory": 1_000_000_000 * UNIT}, 0.0, {"mem": "954M"}),
        ({"gpu": 2 * UNIT}, 0.0, {"gpus": 2}),
        ({"gpu": 0}, 0.0, {"gpus": None}),
        ({"matlab": UNIT, "ansys": 3 * UNIT}, 0.0, {"licenses": "matlab:1,ansys:3"}),
        ({}, 61.0, {"time": 2}),
    ],
)
def test_what_a_call_asks_for_becomes_options(wanted: dict[str, int], needs_time: float, asked: dict[str, Any]) -> None:
    """CPUs, memory in MiB, GPUs, licences and minutes, rounded up."""
    assert asked_for(wanted, needs_time) == asked


def test_shares_of_a_gpu_are_refused() -> None:
    """Slurm has no half of a GPU: the error says what to ask for."""
    with pytest.raises(ResourceUnavailableError, match=r"whole units of gpu, and not 0\.5: .*Resources\(gpu=\.\.\.\)"):
        asked_for({"gpu": UNIT // 2}, 0.0)


def test_options_are_arguments() -> None:
    """True is an option without a value; None and False leave one out; those of a call replace those of all jobs."""
    options = {"partition": "gpu", "exclusive": True, "qos": None, "requeue": False, "mem_per_cpu": "1G", "time": 5}
    assert arguments(options, {"mem": "8M", "time": 90}) == ["--partition=gpu", "--exclusive", "--time=90", "--mem=8M"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"array": "1-3"}, "array='1-3': this option of sbatch cannot be given: each call is a job of its own"),
        ({"job_name": "x"}, "jobs are named by the executor"),
        ({"p": "gpu"}, "p='gpu': must be a long option of sbatch"),
        ({"Mem": "1G"}, "Mem='1G': must be a long option"),
    ],
)
def test_options_that_cannot_be_given(options: dict[str, Any], says: str) -> None:
    """An option that the executor itself needs, or that has no name of one, is refused."""
    with pytest.raises(ValueError, match=f"^{says}" if "=" in says else says):
        check_options(options)


def test_a_value_that_is_no_option() -> None:
    """A list is no value of an option."""
    with pytest.raises(TypeError, match=r"mem=\[1\]: must be a text, a number, True"):
        check_options({"mem": [1]})


@pytest.mark.parametrize(
    ("given", "write"),
    [({"queue": "gpu"}, "partition='gpu'"), ({"memory": "1G"}, "mem='1G'"), ({"n_jobs": 3}, "max_jobs=3")],
)
def test_other_names_are_explained(given: dict[str, Any], write: str) -> None:
    """The names of `with_slurm` and of other executors are answered with those of here."""
    with pytest.raises(TypeError, match=write):
        Scheduler.with_slurm_jobs(**given)


def test_no_slurm_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without sbatch, the factory says at once what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no sbatch on PATH: run the program on a node of the cluster"):
        Scheduler.with_slurm_jobs()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"max_jobs": 0}, ValueError),
        ({"prologue": "module load cuda"}, TypeError),
        ({"prologue": [1]}, TypeError),
        ({"poll_interval": 0}, ValueError),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], error: type[Exception]) -> None:
    """The factory names the argument that is wrong."""
    with pytest.raises(error, match=next(iter(wrong))):
        slurm_executor.make(**wrong)


# ------------------------------------------------------------------------------------------- what Slurm's programs say


def test_jobs_do_not_inherit_the_job_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Slurm has told this program's own job is not for those that it submits, nor what hides jobs from squeue."""
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    for name in ("SBATCH_ARRAY_INX", "SBATCH_WAIT", "SBATCH_ERROR", "SBATCH_CLUSTERS"):
        monkeypatch.setenv(name, "1")
    environment = slurm_environment()
    assert {"SLURM_MEM_PER_NODE", "SQUEUE_PARTITION"}.isdisjoint(environment)
    assert [name for name in environment if name.startswith("SBATCH_")] == ["SBATCH_ACCOUNT"]
    assert environment["SLURM_CONF"] == "/etc/slurm.conf"
    assert environment["SBATCH_ACCOUNT"] == "mine"


@pytest.mark.parametrize(
    ("status", "code"),
    [("0", 0), ("768", 3), ("9", -9), ("35072", -9), ("", 0), ("N/A", 0), ("127", 0), ("99999999999", 0)],
)
def test_exit_codes(status: str, code: int) -> None:
    """They are negative for a signal, whether Slurm saw it or a shell."""
    assert slurm._exit_code(status) == code


@pytest.mark.parametrize(
    ("state", "code", "kind", "says"),
    [
        ("TIMEOUT", 0, WorkerOutOfTimeError, r"\(TIMEOUT, TimeLimit\)"),
        ("OUT_OF_MEMORY", -9, WorkerOutOfMemoryError, r"\(OUT_OF_MEMORY, signal 9\)"),
        ("PREEMPTED", 0, WorkerPreemptedError, "PREEMPTED"),
        ("NODE_FAIL", 0, WorkerNodeFailedError, "NODE_FAIL"),
        ("FAILED", 3, WorkerLostError, r"\(FAILED, exit code 3\)"),
        (None, 0, WorkerLostError, "knows nothing of it any more"),
    ],
)
def test_how_a_job_was_lost(state: str | None, code: int, kind: type[Exception], says: str, tmp_path: Path) -> None:
    """The error of its call is of the kind that Slurm's state says, and shows the end of what it has printed."""
    executor = slurm_executor.SlurmJobsExecutor({}, tmp_path, (), 1.0, None)
    call = RemoteFuture(executor, "train")
    job = Job(call, b"", {}, tmp_path, "7")
    job.files, job.number = make(tmp_path / "7"), "11"
    job.files.output.write_text("the end")
    executor._jobs[job] = None
    executor.lose(job, None if state is None else slurm.Listed("11", state, "TimeLimit", code, "node1"))
    error = call.exception(0)
    assert type(error) is kind
    assert re.search(says, str(error))
    assert isinstance(error, WorkerLostError)
    assert error.exit_code == (code or None)
    assert error.__notes__ == [f"the end of {job.files.output}:\nthe end"]


@pytest.mark.parametrize(
    ("code", "printed", "complaint", "error"),
    [
        (1, "", "sbatch: error: QOSMaxSubmitJobPerUserLimit\nJob violates policy (job submit limit)", QueueFullError),
        (
            1,
            "",
            "sbatch: error: QOSMaxWallDurationPerJobLimit\nJob violates policy (submit limit)",
            JobRefusedError,
        ),
        (1, "", "sbatch: error: Slurm backup controller in standby mode", QueueUnknownError),
        (-9, "", "", QueueUnknownError),
        (0, "Welcome\n", "", QueueUnknownError),
        (0, "", "", QueueUnknownError),
        (0, "Welcome to the cluster\n17;main\n", "", None),
    ],
)
def test_what_sbatch_says(
    code: int, printed: str, complaint: str, error: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on the number of jobs passes, one on their size does not; without a number, it is not known."""
    ended = subprocess.CompletedProcess([], code, printed, complaint)
    monkeypatch.setattr(slurm, "_run", lambda *_, **__: ended)
    if error is None:
        assert slurm.submit("job.sh", [], 0) == "17"
    else:
        with pytest.raises(error):
            slurm.submit("job.sh", [], 0)


def test_states_that_are_not_known_are_of_jobs_that_go_on() -> None:
    """Newer versions of Slurm have further states, and a job that is taken for lost might be computed twice."""
    assert slurm.Listed("1", "EXPEDITING", "None", 0, "").is_active
    assert slurm.Listed("1", "TIMEOUT", "None", 0, "").has_failed


def test_what_scancel_says(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Jobs that have ended meanwhile are no news; anything else is told with the command."""
    said = ["scancel: error: Kill job error on job id 1: Invalid job id specified"]
    monkeypatch.setattr(slurm, "_run", lambda *_: subprocess.CompletedProcess([], 1, "", "\n".join(said)))
    slurm.cancel(["1", "2"])
    assert caplog.text == ""
    said.append("scancel: error: Kill job error on job id 2: Access/permission denied")
    slurm.cancel(["1", "2"])
    assert "some of scancel 1 2 may go on: scancel: error: Kill job error on job id 2: Access" in caplog.text


# ------------------------------------------------------------------------------------------------ the folder of a call


def test_an_outcome_that_does_not_fit_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails with the system's error, and how large its outcome is; nothing of it is left on the disk."""
    files = make(tmp_path / "7", dumps((bytes, (100_000,), {})))
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if os.fstat(descriptor).st_size > 50_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    main(str(files.path), files.job_name, "11")
    call = RemoteFuture(slurm_executor.SlurmJobsExecutor({}, tmp_path, (), 1.0, None), "train")
    call._owner.end(call, files.read_outcome())
    error = call.exception(0)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert any(
        re.match(r"raised while writing the outcome, of 100\d+ bytes, to .*/7/outcome", n) for n in error.__notes__
    )
    assert [path.name for path in files.path.iterdir() if path.name.startswith(".")] == []


def test_the_job_of_another_call_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that begins late must not take the call that has taken the place of its own."""
    written = tmp_path / "written"
    files = make(tmp_path / "7", dumps((written.touch, (), {})))
    name = files.job_name
    main(str(files.path), "amltk-of-another-7", "11")
    files.close()
    main(str(files.path), name, "12")
    assert capsys.readouterr().err == "this call is over: nothing to do\n" * 2
    assert not written.exists()


def test_a_script_of_any_names(tmp_path: Path) -> None:
    """The script of a job works whatever is in the folder's name, and in any locale."""
    place = tmp_path / os.fsdecode(b"it's \xff and \xc3\xa9 $HOME")
    executor = slurm_executor.SlurmJobsExecutor({}, place, (f"cd {shlex.quote(str(tmp_path))}",), 1.0, None)
    files = CallFiles.make(place / "1", dumps((len, ("ab",), {})), executor._script, b"")
    environment = {**os.environ, "SLURM_JOB_ID": "5", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(["sh", files.script], check=True, env=environment)
    outcome = files.read_outcome()
    assert outcome is not None
    assert pickle.loads(outcome)[0] == 2


def test_a_folder_appears_as_a_whole(tmp_path: Path) -> None:
    """If its script cannot be written, there is no folder."""

    def script(_: Path, __: str) -> str:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        CallFiles.make(tmp_path / "jobs" / "7", b"", script, b"")
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_call_is_computed_by_one_job(tmp_path: Path) -> None:
    """If two jobs have the same call, the second does nothing; one that Slurm begins again does it again if it must."""
    written = tmp_path / "written"

    def note() -> int:
        with written.open("a") as file:
            file.write("x")
        return 42

    files = make(tmp_path / "7", dumps((note, (), {})))
    main(str(files.path), files.job_name, "11")
    main(str(files.path), files.job_name, "11")  # its node has failed when it had left its outcome
    assert written.read_text() == "x"
    files.outcome.unlink()
    for number in ("12", "11"):
        main(str(files.path), files.job_name, number)
    assert written.read_text() == "xx"
    assert files.claimed_by() == files.number == "11"
    outcome = files.read_outcome()
    assert outcome is not None
    assert pickle.loads(outcome)[0] == 42


def test_a_folder_that_is_over_is_not_found(tmp_path: Path) -> None:
    """Then only what was printed is left, if anything."""
    silent, loud = make(tmp_path / "1"), make(tmp_path / "2")
    (silent.path / ".outcome-half-written").touch()  # by a job that was killed
    silent.output.touch()
    loud.output.write_text("hello")
    for files in (silent, loud):
        assert files.what() == b"what"
        files.close()
        assert files.what() is None
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["2", "2/output.log"]


def test_names_of_jobs_are_unique(tmp_path: Path) -> None:
    """A call that takes the place of another has a job of another name."""
    files = make(tmp_path / "1")
    name = files.job_name
    files.set_aside()
    assert make(tmp_path / "1").job_name != name


DRIVER = """
import os, subprocess, sys
from pathlib import Path
from amltk.scheduling.executors.remote.slurm_jobs.call_files import CallFiles

with CallFiles(Path(sys.argv[1])).submitting() as held:
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], pass_fds=[held])
    os._exit(0)
"""


def test_submitting_is_exclusive_until_sbatch_has_ended(tmp_path: Path) -> None:
    """What has inherited the lock keeps it when the program is killed, as a `sbatch` that goes on does."""
    files = make(tmp_path / "1")
    reads, writes = os.pipe()
    subprocess.run([sys.executable, "-c", DRIVER, str(files.path)], stdin=reads, check=True)
    os.close(reads)
    with files.submitting() as again:
        assert again is None
    os.close(writes)
    deadline = time.monotonic() + GUARD
    while time.monotonic() < deadline:
        with files.submitting() as again:
            if again is not None:
                return
    pytest.fail("the lock is kept")


def test_a_fork_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Another thread may fork while `sbatch` runs: the child has the lock's descriptor, too."""
    files = make(tmp_path / "1")
    with files.submitting() as held:
        assert held is not None
        of_child = os.dup(held)  # has the same lock, as the child's would
    with files.submitting() as again:
        assert again is not None
    os.close(of_child)


def test_last_words(tmp_path: Path) -> None:
    """Of what a job has printed, an error shows the end."""
    files = make(tmp_path / "1")
    assert files.last_words() == ""
    files.output.write_text("x" * 5000 + "the end\n")
    assert files.last_words().endswith("xthe end")
    assert len(files.last_words()) < 2000
