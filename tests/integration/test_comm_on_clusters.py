"""`Comm` finds the address by which a cluster's workers reach the program."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import Comm, ExitState, Scheduler
from amltk.scheduling.executors.remote.driver_address import address_towards
from tests.contract import engines
from tests.helpers import slurm as slurm_helper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """A one-node Slurm."""
    with engines.slurm():
        yield


def ask(scheduler: Scheduler) -> str:
    """Have a call ask by its comm; returns the host to which it has connected."""

    def call(*, comm: Comm) -> tuple[str, int]:
        address = comm._source.address  # type: ignore[union-attr]
        with comm.open():
            return address[0], comm.request(41)

    task = scheduler.task(call, plugins=Comm.Plugin())
    task.on("comm-request")(lambda msg: msg.respond(msg.data + 1))
    results: list[Any] = []
    scheduler.on_start(lambda: task.submit())
    task.on_result(lambda _, result: results.append(result))
    assert scheduler.run().code is ExitState.Code.EXHAUSTED
    ((host, answer),) = results
    assert answer == 42
    return str(host)


@pytest.mark.integration
def test_jobs_of_slurm_with_an_interface(slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `with_slurm(interface=...)` the run listens there."""
    monkeypatch.chdir(tmp_path)
    there = {"interface": "lo", "scheduler_options": {"interface": "lo"}}
    assert ask(Scheduler.with_slurm(n_workers=1, **{**slurm_helper.JOBS, **there})) == "127.0.0.1"
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_jobs_of_calls(slurm: None, tmp_path: Path) -> None:
    """With a job for each call, it is the address towards Slurm's controller, here of the loopback interface."""
    options = {"partition": "debug", "mem": "100M", "chdir": "/", "poll_interval": 0.2}
    assert ask(Scheduler.with_slurm_jobs(folder=tmp_path, **options)) == "127.0.0.1"
    slurm_helper.wait_until_empty()


@pytest.mark.integration
@pytest.mark.parametrize("given", ["cluster", "address"])
def test_a_dask_cluster(given: str) -> None:
    """It is the address of the connection to Dask's scheduler."""
    from distributed import LocalCluster  # not before: it changes how exceptions are pickled

    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(host="127.0.0.1", protocol="tcp", **options) as cluster:
        assert ask(Scheduler.with_dask(cluster if given == "cluster" else cluster.scheduler_address)) == "127.0.0.1"


@pytest.mark.parametrize(
    ("here", "address"),
    [("tcp://10.0.0.5:4711", "10.0.0.5"), ("tls://[fe80::5]:4711", "fe80::5"), ("inproc://10.0.0.5/1/2", None)],
)
def test_the_address_of_a_connection_to_dask(here: str, address: str | None) -> None:
    """Only one over IP has an address at which the run can listen."""
    from amltk.scheduling.executors.remote.dask.executor import DaskExecutor

    client = SimpleNamespace(scheduler_comm=SimpleNamespace(comm=SimpleNamespace(local_address=here)))
    executor: Any = SimpleNamespace(_client=client)
    assert DaskExecutor.driver_address(executor) == address


@pytest.mark.integration
def test_a_local_dask_cluster() -> None:
    """Workers that are started on this machine connect by a Unix socket."""
    assert ask(Scheduler.with_dask(max_workers=1, processes=False)) == "/"  # the first character of its path


def test_the_address_towards_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one of this machine's; towards a machine that has no address, there is none."""
    assert address_towards("127.0.0.1") == "127.0.0.1"

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert address_towards("nowhere") is None
