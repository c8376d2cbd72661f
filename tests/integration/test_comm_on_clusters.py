"""`Comm` finds the address by which a cluster's workers reach the program."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from distributed import LocalCluster

from amltk.scheduling import Comm, ExitState, Scheduler
from amltk.scheduling.executors.remote.driver_address import address_towards
from tests.contract import engines
from tests.helpers import slurm as slurm_helper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def addresses() -> dict[str, str]:
    """The interfaces of this machine that other machines may reach, with their addresses."""
    return {
        name: entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("127.")
    }


@pytest.fixture
def interface() -> str:
    """An interface that is not the loopback one."""
    found = next(iter(addresses()), None)
    if found is None:
        pytest.skip("!!! NOT TESTED: this machine has no interface but the loopback one")
    return found


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
def test_jobs_of_slurm_with_an_interface(
    interface: str, slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `with_slurm(interface=...)` the run listens there."""
    monkeypatch.chdir(tmp_path)
    there = {"interface": interface, "scheduler_options": {"interface": interface}}
    scheduler = Scheduler.with_slurm(n_workers=1, **{**slurm_helper.JOBS, **there})
    assert ask(scheduler) == addresses()[interface]
    slurm_helper.wait_until_empty()


@pytest.mark.integration
def test_jobs_of_calls(slurm: None, tmp_path: Path) -> None:
    """With a job for each call, it is the address towards Slurm's controller, here of the loopback interface."""
    options = {"partition": "debug", "mem": "100M", "chdir": "/", "poll_interval": 0.2}
    assert ask(Scheduler.with_slurm_jobs(folder=tmp_path, **options)) == "127.0.0.1"
    slurm_helper.wait_until_empty()


@pytest.mark.integration
@pytest.mark.parametrize("given", ["cluster", "address"])
def test_a_dask_cluster(interface: str, given: str) -> None:
    """It is the address of the connection to Dask's scheduler."""
    host = addresses()[interface]
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0", "processes": False}
    with LocalCluster(host=host, protocol="tcp", **options) as cluster:
        scheduler = Scheduler.with_dask(cluster if given == "cluster" else cluster.scheduler_address)
        assert ask(scheduler) == host


@pytest.mark.integration
def test_a_local_dask_cluster() -> None:
    """Workers that are started on this machine connect by a Unix socket."""
    assert ask(Scheduler.with_dask(max_workers=1, processes=False)) == "/"  # the first character of its path


@pytest.mark.integration
def test_a_cluster_of_the_loopback_interface() -> None:
    """It stays on that interface."""
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0", "processes": False}
    with LocalCluster(host="127.0.0.1", protocol="tcp", **options) as cluster:
        assert ask(Scheduler.with_dask(cluster)) == "127.0.0.1"


def test_the_address_towards_a_machine(interface: str) -> None:
    """It is one of this machine's; a machine without an address has none."""
    host = addresses()[interface]
    assert address_towards(host) == host
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert address_towards("no-such-machine.invalid") is None
