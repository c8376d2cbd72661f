"""Jobs on Slurm take the options of sbatch under their own names."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("dask_jobqueue") is None:  # not imported here: that would make Ctrl-C end all tests at once
    pytest.skip("!!! NOT TESTED WITH DASK-JOBQUEUE: it is not installed", allow_module_level=True)

from amltk.scheduling import Scheduler
from amltk.scheduling.executors.remote.dask.jobs.slurm_names import merged, of_slurm


@pytest.mark.parametrize(
    ("time", "walltime"),
    [
        ("30", "00:30:00"),
        ("30:00", "00:30:00"),
        ("1:30:00", "01:30:00"),
        ("2-12", "2-12:00:00"),
        ("2-12:30", "2-12:30:00"),
        ("1-00:00:10", "1-00:00:10"),
        ("90 min", "01:30:00"),
        (timedelta(days=3), "3-00:00:00"),
        ("UNLIMITED", "UNLIMITED"),
    ],
)
def test_a_time_limit_is_read_as_slurm_reads_it(time: Any, walltime: str) -> None:
    """Slurm's own forms, and durations with a unit."""
    assert of_slurm({"time": time}) == {"walltime": walltime}


@pytest.mark.parametrize(
    ("mem", "size"), [("4000", 4000 << 20), ("4000M", 4000 << 20), ("16g", 16 << 30), ("16 GB", 16 * 10**9)]
)
def test_memory_is_read_as_slurm_reads_it(mem: str, size: int) -> None:
    """Slurm's letters are powers of 1024; `GB` is what it is elsewhere in this package."""
    assert of_slurm({"mem": mem}) == {"memory": f"{size}B"}


def test_other_names_become_directives() -> None:
    """GPUs also are what the worker has."""
    assert of_slurm({"partition": "long", "cpus_per_task": 8, "gpus": "a100:2", "qos": "high"}) == {
        "queue": "long",
        "cores": 8,
        "job_extra_directives": ["--gpus=a100:2", "--qos=high"],
        "resources": {"gpu": 2},
    }


def test_a_walltime_is_read_in_the_same_way() -> None:
    """`30:00` are minutes for Slurm: a worker must leave before its job is killed."""
    assert of_slurm({"walltime": "30:00"}) == {"walltime": "00:30:00"}
    assert of_slurm({"walltime": "whenever"}) == {"walltime": "whenever"}  # Slurm says what it thinks of this


def test_a_group_replaces_what_all_share_under_either_name() -> None:
    """And it keeps the rest."""
    assert merged({"queue": "long", "qos": "high"}, {"partition": "gpu"}) == {"partition": "gpu", "qos": "high"}
    assert merged({"mem": "1G"}, {"memory": "2GB"}) == {"memory": "2GB"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"time": "soon"}, "time='soon': must be a time limit in Slurm's form"),
        ({"time": 30}, "time=30: must be a time limit"),
        ({"mem": 4000}, "mem=4000: must be the memory of a job"),
        ({"gpus": "many"}, "gpus='many': must be the number of GPUs"),
        ({"cpus_per_task": 0}, "cpus_per_task=0: must be at least 1"),
        ({"partition": "a", "queue": "b"}, "partition='a': queue='b' is given as well"),
    ],
)
def test_errors_name_the_option_that_was_written(options: dict[str, Any], says: str) -> None:
    """They are raised at once, before anything is started."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the words are compared below
        Scheduler.with_slurm(n_workers=1, **options)
    assert says in str(raised.value)
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        Scheduler.with_slurm(n_workers=1, groups={"one": options})
    assert f"groups['one']: {says}" in str(raised.value)


def test_other_batch_systems_say_what_to_write() -> None:
    """Slurm's names mean nothing to them."""
    with pytest.raises(TypeError, match=r"partition='a': this is an option of Slurm, and not of pbs; write queue="):
        Scheduler.with_pbs(n_workers=1, partition="a")
    with pytest.raises(TypeError, match=r"gpus=1: this is an option of Slurm.*job_extra_directives"):
        Scheduler.with_lsf(n_workers=1, gpus=1)


def test_other_batch_systems_name_their_own_option() -> None:
    """Slurm's names on another batch system are errors with the option that it has, before anything starts."""
    with pytest.raises(TypeError, match=r"write walltime='1:00:00'"):
        Scheduler.with_pbs(n_workers=1, time="1:00:00")
    with pytest.raises(TypeError, match=r"write job_extra_directives=\[...\], as in a job script"):
        Scheduler.with_lsf(gres="gpu:1")
