"""Clusters whose workers do not come: the run ends with an error that says why; displays say what they wait for."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling import ExitState, Resources, Scheduler
from amltk.scheduling.snapshot import Snapshot
from tests.contract import engines
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import Gate, pass_gate
from tests.helpers.slurm import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A one-node Slurm."""
    with engines.slurm():
        yield


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def run_broken(scheduler: Scheduler) -> str:
    """Run a call on workers that never come; returns what the run raised, in words."""
    scheduler.on_start(lambda: scheduler.submit(abs, -42))
    with pytest.raises(ExecutorBrokenError) as raised:
        scheduler.run(on_exception="continue")
    return str(raised.value)


# -------------------------------------------------------------------------------------------------------------- slurm


@pytest.mark.integration
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("queue", "nope", "invalid partition specified: nope"),
        ("partition", "none", "invalid partition specified: none"),
        ("memory", "99GB", "Memory specification can not be satisfied"),
    ],
)
def test_what_sbatch_says_about_a_job_that_it_refuses_is_shown(
    slurm: None, option: str, value: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """After three tries, the run ends with sbatch's words and the option that they are about; nothing is printed."""
    others = {name: given for name, given in JOBS.items() if (name, option) != ("queue", "partition")}
    said = run_broken(Scheduler.with_slurm(n_workers=2, **{**others, option: value}))
    assert "sbatch refuses the job" in said
    assert words in said
    assert f"{option}={value!r}" in said
    assert "3 times in succession" in said
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert "Exception in thread" not in printed
    assert os.listdir() == []  # no job has written a log
    assert slurm_helper.jobs() == []


@pytest.mark.integration
def test_the_log_of_a_job_that_ends_before_its_worker_connects_is_shown(slurm: None, tmp_path: Path) -> None:
    """A prologue that fails ends the job: after three jobs, the run ends with the end of the last one's log."""
    scheduler = Scheduler.with_slurm(n_workers=1, **JOBS, job_script_prologue=["module load nothing-4711", "exit 3"])
    said = run_broken(scheduler)
    assert "before its worker had connected" in said
    assert "module: command not found" in said or "nothing-4711" in said
    assert "3 times in succession" in said
    (folder,) = (tmp_path / "amltk-jobs").iterdir()
    assert str(folder) in said
    assert len(list(folder.glob("*.err"))) == 3


@pytest.mark.integration
def test_another_job_is_submitted_when_one_fails_to_start(slurm: None, tmp_path: Path) -> None:
    """One failed start is no reason to end the run: the next job's worker computes the call."""
    first = f"mkdir {tmp_path}/first 2>/dev/null && exit 3"
    scheduler = Scheduler.with_slurm(n_workers=1, **JOBS, job_script_prologue=[first])
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(abs, -42))
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    assert results == [42]
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_jobs_take_slurms_own_names(slurm: None) -> None:
    """The job has what they say, and so has the worker in it."""

    def what_it_has() -> tuple[dict[str, Any], str | None, str]:
        """What the call is granted, the GPUs it sees, and what Slurm says about its job."""
        import subprocess

        from amltk.scheduling import granted

        command = ["scontrol", "show", "job", os.environ["SLURM_JOB_ID"]]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return dict(granted()), os.environ.get("CUDA_VISIBLE_DEVICES"), said

    here = {name: JOBS[name] for name in ("interface", "scheduler_options")}
    job = {"partition": "debug", "time": "30", "mem": "1G", "cpus_per_task": 2, "gpus": 1}
    scheduler = Scheduler.with_slurm(n_workers=1, **job, **here)
    task = scheduler.task(what_it_has, plugins=Resources(gpu=1, cpu=2))
    results: list[Any] = []
    scheduler.on_start(lambda: task.submit())
    task.on_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    ((granted, devices, settings),) = results
    assert granted == {"gpu": ("0",), "cpu": 2}
    assert devices == "0"
    assert "TimeLimit=00:30:00" in settings
    assert "mem=1G" in settings
    slurm_helper.wait_until_empty()


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Without the command that submits jobs, another try is of no use."""
    scheduler = Scheduler.with_slurm(n_workers=1, **JOBS, submit_command="sbatch-4711")
    said = run_broken(scheduler)
    assert "no job can be submitted" in said
    assert "sbatch-4711" in said
    assert "succession" not in said


@pytest.mark.integration
def test_jobs_that_wait_are_told_until_the_worker_timeout(slurm: None) -> None:
    """The display and `explain` say that a job waits and why, and so does the error after `worker_timeout`."""
    scheduler = Scheduler.with_slurm(n_workers=2, **JOBS, job_extra_directives=["--hold"], worker_timeout="20 s")
    told: list[str] = []
    explained: list[str] = []

    @scheduler.on_start
    def look() -> None:
        snapshot = Snapshot.of(scheduler)
        assert snapshot.workers is not None
        told.append(str(snapshot.workers))
        explained.extend(scheduler.explain(future) for future in scheduler.queue)
        if scheduler.running():
            scheduler.call_later(0.2, look)

    said = run_broken(scheduler)
    assert "no worker was up within worker_timeout=20 s: 0 of 2 workers are up, 2 jobs wait in the queue since " in said
    assert "(JobHeldUser)" in said
    assert any(text.endswith("(JobHeldUser)") for text in told), told
    assert any(text.startswith("waits for a worker: 0 of 2 workers are up, 2 jobs wait") for text in explained)
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_a_job_that_would_wait_forever_is_a_failed_start(
    slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm keeps a job whose time limit is above that of its partition; nobody should wait for it."""
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\nfor job in $(echo $5 | tr , " "); do echo "$job|PENDING|PartitionTimeLimit"; done\n')
    squeue.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        said = run_broken(Scheduler.with_slurm(n_workers=1, **JOBS, job_extra_directives=["--hold"]))
    assert "waits for what does not come by itself: PartitionTimeLimit" in said
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_jobs_write_into_the_folder_of_the_journal(slurm: None, tmp_path: Path) -> None:
    """A run with a journal has the logs of its jobs there, and one that has nothing to compute submits no job."""
    results: list[int] = []
    for _ in range(2):
        scheduler = Scheduler.with_slurm(n_workers=1, **JOBS)
        task = scheduler.task(abs)
        scheduler.on_start(lambda task=task: task.submit(-42))
        task.on_result(lambda _, result: results.append(result))
        assert scheduler.run(journal=tmp_path / "experiment") == EXHAUSTED
        slurm_helper.wait_until_empty()
    assert results == [42, 42]
    assert len(list((tmp_path / "experiment" / "jobs").glob("dask-worker-*.err"))) == 1
    assert os.listdir(tmp_path) == ["experiment"]


@pytest.mark.integration
def test_the_users_folder_for_logs_is_kept(slurm: None, tmp_path: Path) -> None:
    """`log_directory=` says where the logs of the jobs are."""
    scheduler = Scheduler.with_slurm(n_workers=1, **JOBS, log_directory=str(tmp_path / "mine"))
    scheduler.on_start(lambda: scheduler.submit(abs, -42))
    assert scheduler.run() == EXHAUSTED
    assert len(list((tmp_path / "mine").glob("dask-worker-*.err"))) == 1
    assert os.listdir(tmp_path) == ["mine"]
    slurm_helper.wait_until_empty()


def test_a_scheduler_that_never_runs_submits_no_job() -> None:
    """Jobs are submitted with the first call: here sbatch would fail, and nothing does."""
    Scheduler.with_slurm(n_workers=1, **JOBS, submit_command="false").close()


# ------------------------------------------------------------------------------------------------------- given clusters


def test_a_dask_cluster_without_workers_is_not_waited_for_forever() -> None:
    """`worker_timeout` also counts for a Dask cluster that was given."""
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster,
        Scheduler.with_dask(cluster, worker_timeout=0.5) as scheduler,
    ):
        said = run_broken(scheduler)
    assert "no worker was up within worker_timeout=0.5 s" in said
    assert f"dask worker {cluster.scheduler_address}" in said


def test_a_worker_timeout_does_not_end_a_run_whose_workers_are_up() -> None:
    """It is about the first worker only, however long the calls take."""
    from distributed import LocalCluster

    with (
        Gate() as gate,
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Scheduler.with_dask(cluster, worker_timeout=0.1) as scheduler,
    ):
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
        gate.when_begun(1, lambda: scheduler.call_later(0.3, gate.open))
        assert scheduler.run() == EXHAUSTED


def test_a_dask_address_that_does_not_answer_is_named() -> None:
    """Nothing listens there: the error has the address, and Dask's words."""
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1 s"}),
        pytest.raises(ExecutorBrokenError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
    ):
        Scheduler.with_dask("tcp://127.0.0.1:9")


def test_a_ray_address_that_does_not_answer_is_named() -> None:
    """Ray itself would try for minutes, with lines of its own on the terminal."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("!!! NOT TESTED ON RAY: it is not installed")
    os.environ.update(engines.RAY_SETTINGS)  # which Ray reads when it is imported
    import ray

    if ray.is_initialized():
        pytest.skip("a Ray of other tests is joined")
    with pytest.raises(ExecutorBrokenError, match=r"no Ray answers at '127\.0\.0\.1:9': .*ray start --head"):
        Scheduler.with_ray(address="127.0.0.1:9")


@pytest.mark.parametrize("factory", ["with_slurm", "with_dask"])
def test_a_worker_timeout_is_a_duration(factory: str) -> None:
    """Anything else is refused at once."""
    options = {"n_workers": 1, **JOBS} if factory == "with_slurm" else {}
    with pytest.raises(ValueError, match="worker_timeout=0: must be finite and above 0"):
        getattr(Scheduler, factory)(worker_timeout=0, **options)
