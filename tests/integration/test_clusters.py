"""Specifics of cluster executors: lost workers, and the pitfalls of the underlying libraries."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import ExecutorBrokenError, WorkerLostError
from amltk.scheduling import ExitState, Scheduler
from amltk.scheduling.executors.remote.signal_handlers import kept_handlers
from tests.contract import work
from tests.contract.engines import DASK_SERVER, server
from tests.helpers import slurm as slurm_helper
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

EXHAUSTED = ExitState(ExitState.Code.EXHAUSTED)

EXTRAS = {
    "with_loky()": ("loky", "loky"),
    "with_dask()": ("dask", "dask"),
    "with_slurm(n_workers=1)": ("dask_jobqueue", "cluster"),
    "with_ray()": ("ray", "ray"),
    "with_mpi()": ("mpi4py", "mpi"),
}


def note(folder: str, n: int, seconds: float) -> int:
    """Create a file each time this call begins."""
    with open(os.path.join(folder, f"{n}-{time.time_ns()}"), "x"):
        pass
    time.sleep(seconds)
    return n


# ------------------------------------------------------------------------------------------------------------- extras


@pytest.mark.parametrize("call", EXTRAS)
def test_a_missing_library_is_one_line(call: str) -> None:
    """Without its library, a factory raises a one-line error with the pip command."""
    library, extra = EXTRAS[call]
    ended = run_script(f"""
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == {library!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Absent())
        from amltk.exceptions import MissingExtraError
        from amltk.scheduling import Scheduler

        try:
            Scheduler.{call}
        except MissingExtraError as error:
            print(error)
        """)
    assert ended.lines == [f"this needs {library!r}: pip install 'amltk[{extra}]'"], ended.errors


# ----------------------------------------------------------------------------------------------------------- the demo

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
LINE = "scheduler = Scheduler.with_processes(WORKERS, initializer=threadpool_limits, initargs=(1,))\n"


def run_demo_with(line: str) -> None:
    """Run the demo with the line that makes the scheduler replaced."""
    source = DEMO.read_text()
    assert source.count(LINE) == 1
    ended = run_script(source.replace(LINE, line + "\n"))
    assert ended.code == 0, ended.errors
    assert any("the best so far" in text for text in ended.lines), ended.lines


@pytest.mark.integration
def test_the_demo_on_a_dask_cluster() -> None:
    """The demo runs on Dask with only one line changed."""
    with server(DASK_SERVER, 2, "AMLTK_TEST_DASK_DEMO"):
        run_demo_with(f"scheduler = Scheduler.with_dask({os.environ['AMLTK_TEST_DASK_DEMO']!r})")


@pytest.mark.integration
def test_the_demo_on_slurm(slurm_options: dict[str, Any]) -> None:
    """The demo runs on Slurm with only one line changed."""
    run_demo_with(f"scheduler = Scheduler.with_slurm(n_workers=WORKERS, **{slurm_options!r})")


# --------------------------------------------------------------------------------------------------------------- dask


def test_a_killed_dask_worker_costs_one_call(tmp_path: Path) -> None:
    """A worker killed under a backlog fails what it ran or had not handed over; no call begins twice."""
    scheduler = Scheduler.with_dask(n_workers=2, memory_limit=None)
    results: list[int] = []
    errors: list[BaseException] = []

    @scheduler.on_start
    def launch() -> None:
        for n in range(20):
            scheduler.submit(note, str(tmp_path), n, 0.05)
        scheduler.submit(work.die, "kill")
        for n in range(20, 40):
            scheduler.submit(note, str(tmp_path), n, 0.05)

    scheduler.on_future_result(lambda _, result: results.append(result))
    scheduler.on_future_exception(lambda _, error: errors.append(error))
    assert scheduler.run(on_exception="continue") == EXHAUSTED
    assert {type(error) for error in errors} == {WorkerLostError}
    assert sum("computing die" in str(error) for error in errors) == 1
    assert len(results) + len(errors) == 41
    assert len(set(results)) == len(results) >= 35
    assert sorted(int(name.partition("-")[0]) for name in os.listdir(tmp_path)) == list(range(40))


def test_a_dask_worker_that_does_not_come_back_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Dask gives up a worker that is restarting, another replaces it, and no call waits forever."""
    import dask  # not before: it has exceptions pickled by tblib, which tests of other executors would see

    monkeypatch.setattr("amltk.scheduling.executors.remote.dask.replacer.RETURN_SECONDS", 1.0)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0 s"}):
        scheduler = Scheduler.with_dask(n_workers=1, memory_limit=None)
        outcomes: list[Any] = []

        scheduler.on_empty(lambda: scheduler.submit(work.die, "kill"), max_calls=2)
        scheduler.on_future_exception(lambda *_: scheduler.submit(work.double, 21))
        scheduler.on_future_exception(lambda _, error: outcomes.append(type(error)))
        scheduler.on_future_result(lambda _, result: outcomes.append(result))
        assert scheduler.run(on_exception="continue") == EXHAUSTED
    # A worker that returns just as its place is given to another is lost as well, with whatever it has begun; that
    # call is then one more lost call, reported as such, and is submitted again.
    assert [outcome for outcome in outcomes if outcome is not WorkerLostError] == [42, 42]
    assert outcomes.count(WorkerLostError) >= 2


def test_a_dask_scheduler_that_is_gone_ends_the_run() -> None:
    """When the cluster goes away, the run ends with an error that says so, and does not wait."""
    with ExitStack() as outer, ExitStack() as stack:
        gate = outer.enter_context(Gate())
        stack.enter_context(server(DASK_SERVER, 2, "AMLTK_TEST_DASK_GONE"))
        scheduler = Scheduler.with_dask(os.environ["AMLTK_TEST_DASK_GONE"])
        scheduler.on_start(lambda: [scheduler.submit(pass_gate, gate.address) for _ in range(5)])
        end_server = threading.Event()
        gate.when_begun(2, end_server.set)
        ender = threading.Thread(target=lambda: (end_server.wait(GUARD), stack.close()))
        ender.start()
        with pytest.raises(ExecutorBrokenError, match="Dask scheduler"):
            scheduler.run(on_exception="continue")
        ender.join()


def test_a_dask_client_must_be_one() -> None:
    """Anything but a client, cluster or address is rejected, and so are options for an existing cluster."""
    with pytest.raises(TypeError, match="client=7: must be"):
        Scheduler.with_dask(7)
    with pytest.raises(TypeError, match="n_workers: only without a client"):
        Scheduler.with_dask("tcp://127.0.0.1:1", n_workers=2)


# ---------------------------------------------------------------------------------------------------------------- ray


def test_a_ray_of_its_own_ends_with_the_run() -> None:
    """If no Ray is running, one is started for the run and ends with it; a lost worker costs one call."""
    pytest.importorskip("ray", reason="!!! NOT TESTED ON RAY: ray is not installed")
    ended = run_script(
        """
        import ray
        from amltk.scheduling import Scheduler
        from tests.contract import work

        scheduler = Scheduler.with_ray(num_cpus=2, address="local")

        @scheduler.on_start
        def launch():
            scheduler.submit(work.die, "kill")
            scheduler.submit(work.double, 21)

        scheduler.on_future_result(lambda _, result: print("+", result))
        scheduler.on_future_exception(lambda _, error: print("+", type(error).__name__))
        print("+", scheduler.run(on_exception="continue").code.name, ray.is_initialized())
        """,
        env={
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback interface
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    )
    assert ended.code == 0, ended.errors
    lines = [line for line in ended.lines if line.startswith("+ ")]  # Ray itself prints messages about the lost worker
    assert sorted(lines) == ["+ 42", "+ EXHAUSTED False", "+ WorkerLostError"]


# ------------------------------------------------------------------------------------------------------ batch systems


def test_the_import_of_dask_jobqueue_leaves_ctrl_c_alone() -> None:
    """dask-jobqueue installs a Ctrl-C handler when it is imported, which would tear a run down."""
    ended = run_script("""
        import signal
        import amltk.scheduling.executors.remote.dask.jobqueue
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        """)
    assert ended.lines == ["True"], ended.errors


def test_bad_arguments_of_batch_systems_are_refused() -> None:
    """Bad arguments are rejected at once, before anything is submitted."""
    with pytest.raises(ValueError, match="name='torque': must be one of 'slurm', 'pbs'"):
        Scheduler.with_dask_jobqueue("torque", n_workers=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_workers=0: must be at least 1"):
        Scheduler.with_pbs(n_workers=0)
    with pytest.raises(TypeError, match="n_workers='2': must be a whole number"):
        Scheduler.with_lsf(n_workers="2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unexpected keyword argument 'kores'"):
        Scheduler.with_slurm(n_workers=1, cores=1, memory="1GB", kores=2)


@pytest.mark.parametrize("name", ["slurm", "pbs", "sge", "oar", "moab", "lsf", "htcondor"])
def test_each_batch_system_has_a_class_and_a_short_form(name: str) -> None:
    """The table of batch systems agrees with dask-jobqueue and with the methods of `Scheduler`."""
    with kept_handlers():  # importing it makes Ctrl-C exit at once
        import dask_jobqueue

    from amltk.scheduling.executors.remote.dask.jobqueue import CLUSTERS

    assert issubclass(getattr(dask_jobqueue, CLUSTERS[name]), dask_jobqueue.core.JobQueueCluster)
    assert callable(getattr(Scheduler, f"with_{name}"))
    assert len(CLUSTERS) == 7


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [
        ("01:00:00", 3540.0),
        ("2-00:10:00", 2 * 86400 + 540.0),
        ("00:01:40", 80.0),
        ("02:30", 9000 - 60.0),
        ("soon", None),
        (None, None),
    ],
)
def test_workers_leave_before_their_walltime(walltime: str | None, seconds: float | None) -> None:
    """A worker stops a minute before its job's walltime, or after four fifths of a short one."""
    from amltk.scheduling.executors.remote.dask.jobqueue import lifetime_below

    assert lifetime_below(walltime) == seconds


@pytest.fixture
def slurm_options(slurm: None, tmp_path: Path) -> dict[str, Any]:
    """The options to reach the Slurm of these tests."""
    return {**slurm_helper.JOBS, "log_directory": str(tmp_path)}


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A single-node Slurm."""
    why = slurm_helper.missing()
    if why is not None:
        pytest.skip(f"!!! NOT TESTED ON SLURM: {why}")
    with slurm_helper.slurm():
        yield


@pytest.mark.integration
def test_a_cancelled_slurm_job_costs_one_call_and_is_replaced(
    slurm_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of a cancelled job fails with one error; another job replaces it; at the end the queue is empty.

    The new job may take long to start: Dask, which normally drops a lost worker's place after a while, keeps it.
    """
    import dask

    monkeypatch.setattr("amltk.scheduling.executors.remote.dask.replacer.RETURN_SECONDS", 0.0)
    monkeypatch.setitem(dask.config.get("distributed.deploy"), "lost-worker-timeout", "0.2 s")  # less than any start
    scheduler = Scheduler.with_slurm(n_workers=1, **slurm_options)
    results: list[int] = []
    errors: list[BaseException] = []
    with Gate() as gate:
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
        scheduler.on_start(lambda: scheduler.submit(work.double, 21))
        gate.when_begun(1, lambda: subprocess.run(["scancel", *slurm_helper.jobs()], check=True))
        scheduler.on_future_result(lambda _, result: results.append(result))
        scheduler.on_future_exception(lambda _, error: errors.append(error))
        assert scheduler.run(on_exception="continue") == EXHAUSTED
    (error,) = errors
    assert isinstance(error, WorkerLostError)
    assert "pass_gate" in str(error)
    assert results == [42]
    slurm_helper.wait_until_empty()


@pytest.mark.integration
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_commands_of_one_scheduler_are_its_own(
    slurm_options: dict[str, Any], adaptive: bool, tmp_path: Path
) -> None:
    """`submit_command` and `cancel_command` are used, and no other cluster of the program sees them."""
    with kept_handlers():
        import dask_jobqueue

    log = tmp_path / "commands"
    commands: dict[str, str] = {}
    for name in ("sbatch", "scancel"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {name} "$@"\n')
        script.chmod(0o755)
        commands[name] = str(script)
    scheduler = Scheduler.with_slurm(
        n_workers=1,
        adaptive=adaptive,
        submit_command=commands["sbatch"],
        cancel_command=commands["scancel"],
        **slurm_options,
    )
    results: list[int] = []
    scheduler.on_start(lambda: scheduler.submit(work.double, 21))
    scheduler.on_future_result(lambda _, result: results.append(result))
    assert scheduler.run() == EXHAUSTED
    assert results == [42]
    assert set(log.read_text().split()) == {"sbatch", "scancel"}
    assert dask_jobqueue.SLURMCluster.job_cls.submit_command == "sbatch"
    slurm_helper.wait_until_empty()
