"""`max_workers` means the same with every factory: how many calls are computed at the same time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors import KINDS
from amltk.scheduling.executors.remote.slurm_jobs import executor as slurm_jobs
from tests.contract import engines
from tests.helpers import slurm as slurm_helper
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JOBS: dict[str, Any] = {"cores": 4, "memory": "1GB", "interface": "lo", "scheduler_options": {"host": "127.0.0.1"}}


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A one-node Slurm."""
    with engines.slurm():
        yield


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Scheduler.with_sequential(max_workers=2), TypeError, "it computes one call at a time; with_processes has"),
    (
        lambda: Scheduler.with_dask("tcp://127.0.0.1:1", max_workers=2),
        TypeError,
        "only without a client",
    ),
    (lambda: Scheduler.with_dask(max_workers=2, n_workers=2), ValueError, "max_workers=2 and n_workers=2: give one"),
    (
        lambda: Scheduler.with_dask(max_workers=2, threads_per_worker=2),
        ValueError,
        "threads_per_worker=2: give one",
    ),
    (lambda: Scheduler.with_dask(max_workers=0), ValueError, "max_workers=0"),
    (lambda: Scheduler.with_slurm(max_workers=2, n_workers=2, **JOBS), ValueError, "max_workers=2 and n_workers=2"),
    (lambda: Scheduler.with_slurm(max_workers=0, **JOBS), ValueError, "max_workers=0"),
    (
        lambda: Scheduler.with_pbs(max_workers=2, groups={"a": {}}, **JOBS),
        ValueError,
        "2: not with groups=",
    ),
    (lambda: Scheduler.with_sge(max_workers=3, processes=2, **JOBS), ValueError, "a multiple of processes=2"),
    (
        lambda: Scheduler.with_lsf(max_workers=3, worker_extra_args=["--nthreads", "2"], **JOBS),
        ValueError,
        "max_workers=3: not with --nthreads",
    ),
    (
        lambda: Scheduler.with_slurm_jobs(max_workers=2, max_jobs=3),
        ValueError,
        "max_jobs=3 and max_workers=2",
    ),
    (lambda: Scheduler.with_slurm_jobs(max_workers=0), ValueError, "max_workers=0"),
    (lambda: Scheduler.with_ray(max_workers=2, num_cpus=2), ValueError, "max_workers=2 and num_cpus=2: give one"),
    (lambda: Scheduler.with_ray(max_workers=0), ValueError, "max_workers=0"),
    (lambda: Scheduler.with_ray({"num_cpus": 0}, max_workers=2), ValueError, "not with num_cpus=0 for each call"),
    (lambda: Scheduler.with_ray({"num_cpus": 0.25}, max_workers=2), ValueError, "not with num_cpus=0.25 for each"),
    (lambda: Scheduler.with_ray(max_workers=2, address="auto"), ValueError, "only for a Ray that is started here"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_where_it_cannot_be_kept_the_error_says_so(
    mistake: Callable[[], object], kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started, and the error says what to give instead."""
    if "ray" in sys.modules:  # other tests of this process may have joined one
        monkeypatch.setattr(sys.modules["ray"], "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(kind, match=message):
        mistake()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.factory is not None], ids=lambda kind: kind.name)
def test_every_factory_knows_the_name(kind: Any) -> None:
    """It is a parameter of each, except of the one whose calls are one after the other."""
    factory = getattr(Scheduler, f"with_{kind.name}")
    parameters = factory.__wrapped__.__code__.co_varnames
    assert ("max_workers" in parameters) is (kind.name != "sequential")


@pytest.mark.parametrize("name", ["max_jobs", "max_workers"])
def test_jobs_of_calls_are_workers(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For jobs of one call each, both names limit the number of jobs."""
    monkeypatch.setattr(slurm_jobs.slurm, "check_commands", lambda: None)
    with Scheduler.with_slurm_jobs(folder=tmp_path, **{name: 7}) as scheduler:
        assert scheduler.executor.n_workers == 7  # type: ignore[attr-defined]


def test_jobs_of_dask_have_one_thread() -> None:
    """Each worker has its job and one thread, so that it computes one call at a time, whatever CPUs it has."""
    with Scheduler.with_slurm(max_workers=3, **JOBS) as scheduler:
        cluster = scheduler.executor._cluster  # type: ignore[attr-defined]
        command = cluster.job_script().splitlines()[-1]
        assert "--nworkers" not in command
        assert command.split().count("--nthreads") == 2
        assert command.rpartition("--nthreads ")[2].split()[0] == "1"  # the last one counts
        assert scheduler.executor.n_workers == 3  # type: ignore[attr-defined]


def threads_of_a_worker(scheduler: Scheduler) -> int:
    """How many calls a Dask worker computes at a time."""

    def threads_here() -> int:
        from distributed import get_worker

        return int(get_worker().state.nthreads)

    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(threads_here))
    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.run()
    return results.pop()


@pytest.mark.integration
def test_a_job_with_many_cpus_computes_one_call_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slurm: None
) -> None:
    """On a real Slurm, a worker with two CPUs has one thread; with `n_workers` it has two."""
    monkeypatch.chdir(tmp_path)
    job = {**slurm_helper.JOBS, "cores": 2, "processes": 1}
    assert threads_of_a_worker(Scheduler.with_slurm(max_workers=1, **job)) == 1
    assert threads_of_a_worker(Scheduler.with_slurm(n_workers=1, **job)) == 2
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_local_workers_of_dask() -> None:
    """There are as many, with one thread each."""
    with Scheduler.with_dask(max_workers=2, processes=False) as scheduler:
        assert scheduler.executor.n_workers == 2  # type: ignore[attr-defined]
        assert threads_of_a_worker(scheduler) == 1


@pytest.mark.integration
def test_ray_has_the_cpus_that_they_need() -> None:
    """A Ray that is started here has room for that many calls of two CPUs."""
    run = run_script(f"""
        import os

        from amltk.scheduling import Scheduler

        os.environ.update({engines.RAY_SETTINGS})
        where = {{"address": "local", "_node_ip_address": "127.0.0.1"}}  # not the one of other tests
        with Scheduler.with_ray({{"num_cpus": 2}}, max_workers=3, **where) as scheduler:
            print(scheduler.executor.n_workers)
        """)
    assert run.lines == ["3"]
