"""External clusters: they run before a scheduler is created, and outlive it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amltk.scheduling import Scheduler
from amltk.scheduling.executors.remote.signal_handlers import kept_handlers
from tests import leaks
from tests.helpers import slurm as slurm_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

RAY_CPUS = 6
"""The CPUs declared to the shared Ray: enough for two schedulers to have room for a call each."""

WORKERS = (2, 3)
"""The number of workers of each shared Dask cluster: two schedulers always have room for a call each."""

RAY_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way of saying: no cluster, listen on the loopback interface
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise Ray warns about what a later version will do
}

DASK_SETTINGS = {
    # Otherwise a LocalCluster gives up on a worker that happens to be restarting 15 s after an earlier loss.
    "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "1 day",
}

DASK_SERVER = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
    workers = int(sys.argv[1])
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": None}
    with LocalCluster(n_workers=workers, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""

RAY_SERVER = """
import sys
import ray

has = {"num_cpus": int(sys.argv[1]), "num_gpus": 2, "resources": {"licence": 1}}
context = ray.init("local", **has, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


def dask_address(workers: int) -> str:
    """The address of the Dask scheduler with this many workers, or one more."""
    return os.environ[f"AMLTK_TEST_DASK_{max(workers, min(WORKERS))}"]


@contextmanager
def server(source: str, argument: int, variable: str) -> Iterator[None]:
    """Run a program that prints its address and exits when its input closes; put the address into the environment."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "", **DASK_SETTINGS},
    )
    leaks.ENGINES.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, f"{variable}: the server does not start"
        os.environ[variable] = address
        yield
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        leaks.ENGINES.discard(process.pid)


@contextmanager
def dask() -> Iterator[None]:
    """A Dask cluster for each number of workers."""
    with ExitStack() as stack:
        for workers in WORKERS:
            stack.enter_context(server(DASK_SERVER, workers, f"AMLTK_TEST_DASK_{workers}"))
        yield


@contextmanager
def ray() -> Iterator[None]:
    """A one-node Ray that this process has joined: each time a process joins, Ray keeps a descriptor until it exits."""
    os.environ.update(RAY_SETTINGS)
    import ray

    if ray.is_initialized():  # by other tests of this process that have not ended with it yet
        yield
        return
    with server(RAY_SERVER, RAY_CPUS, "RAY_ADDRESS"):
        with kept_handlers():
            ray.init(log_to_driver=False, logging_level="WARNING")
        scheduler = Scheduler.with_ray()
        scheduler.on_start(lambda: scheduler.submit(bytes, bytes(1 << 22)))  # opens what the first large value opens
        scheduler.run()
        leaks.LIBRARIES.append("socket:")  # it connects to workers as they join
        yield
        leaks.LIBRARIES.remove("socket:")
        ray.shutdown()
        del os.environ["RAY_ADDRESS"]


@contextmanager
def mpi() -> Iterator[None]:
    """MPI, initialised: this opens descriptors that stay open until this process exits."""
    scheduler = Scheduler.with_mpi(1)
    scheduler.on_start(lambda: scheduler.submit(abs, 1))
    scheduler.run()
    yield


@contextmanager
def slurm() -> Iterator[None]:
    """A one-node Slurm."""
    why = slurm_helper.missing()
    if why is not None:
        pytest.skip(f"!!! NOT TESTED ON SLURM: {why}")
    with slurm_helper.slurm():
        yield


ENGINES = {"dask": dask, "ray": ray, "mpi": mpi, "slurm": slurm}
