"""Parsl, Dask and Ray with two workers on this machine, each as ways to drive scripts through it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from _drivers import Drive, in_callbacks, one_by_one, ways
from _pools import WORKERS, Function, help_programs
from _scripts import Script

RAY_SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way of saying: no cluster, listen on the loopback interface
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise Ray warns about what a later version will do
}
os.environ |= RAY_SETTINGS  # now, since Ray reads some of them when it is imported

LARGE = 1_000_000
"""Size in bytes from which Dask wants an argument to be scattered first."""


def dask_cluster(**options: Any) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None, **options
    )


def start_ray() -> None:
    import ray

    options = {"include_dashboard": False, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}
    ray.init("local", num_cpus=WORKERS, logging_level="ERROR", **options)


@contextmanager
def started_parsl() -> Iterator[None]:
    import parsl
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    help_programs()
    executor = HighThroughputExecutor(
        address="127.0.0.1",
        loopback_address="127.0.0.1",
        max_workers_per_node=WORKERS,
        cores_per_worker=1e-3,  # so that the number of workers does not depend on the machine's cores
        encrypted=False,
        heartbeat_period=1,
        heartbeat_threshold=5,  # seconds after which workers abandoned by their program exit
        provider=LocalProvider(),
    )
    with tempfile.TemporaryDirectory() as directory:
        options = {"run_dir": directory, "usage_tracking": 0, "strategy": "none", "initialize_logging": False}
        with parsl.load(parsl.Config(executors=[executor], **options)):
            yield


@contextmanager
def parsl(fn: Function) -> Iterator[Sequence[Drive]]:
    import parsl

    with started_parsl():
        yield ways(one_by_one(parsl.python_app(fn)))


@contextmanager
def dask(fn: Function) -> Iterator[Sequence[Drive]]:
    from dask.sizeof import sizeof
    from distributed import Client, as_completed

    def submit(argument: Any) -> Any:
        if sizeof(argument) < LARGE:
            return client.submit(fn, argument, pure=False)
        (sent,) = client.scatter([argument], direct=True, hash=False)
        future = client.submit(fn, sent, pure=False)
        future.add_done_callback(lambda _future, _kept=sent: None)  # Dask drops results that have no reference
        return future

    def as_they_complete(script: Script) -> None:
        completed = as_completed(map(submit, next(script)), with_results=True)
        for _future, result in completed:
            try:
                completed.update(map(submit, script.send(result)))
            except StopIteration:
                return

    with dask_cluster() as cluster, Client(cluster) as client:
        yield [lambda script: in_callbacks(one_by_one(submit), script), as_they_complete]


@contextmanager
def ray(fn: Function) -> Iterator[Sequence[Drive]]:
    import ray

    def as_they_complete(script: Script) -> None:
        pending = [remote.remote(argument) for argument in next(script)]
        while pending:
            ended, pending = ray.wait(pending)
            try:
                pending += [remote.remote(argument) for argument in script.send(ray.get(ended[0]))]
            except StopIteration:
                return

    start_ray()
    try:
        remote = ray.remote(fn)
        send = one_by_one(lambda argument: remote.remote(argument).future())
        yield [lambda script: in_callbacks(send, script), as_they_complete]
    finally:
        ray.shutdown()
