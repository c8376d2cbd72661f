"""What an executor over Dask is made of: workers on this machine, or a cluster that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster
from distributed.deploy.cluster import Cluster

from amltk._checks import check_count, check_optional_seconds, one_given
from amltk._process.cpus import usable_cpus
from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling.executors.remote.dask.executor import DaskExecutor, OwnDaskExecutor
from amltk.scheduling.executors.remote.dask.replacer import keep_workers

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY_PORT = "127.0.0.1:0"
"""The address of Dask's dashboard: without one, Dask would still try to bind its well-known port."""

COUNTED_BY = frozenset({"n_workers", "threads_per_worker", "processes"})
"""The options with which Dask decides how many workers there are."""


def make(
    client: Client | Cluster | str | None = None,
    *,
    max_workers: int | None = None,
    worker_timeout: Any = None,
    **options: Any,
) -> DaskExecutor:
    """Create an executor over Dask.

    Args:
        client: A client, a cluster or the address of a Dask scheduler: these stay open, and calls running there cannot
            be killed. None for workers on this machine, which end with the executor.
        max_workers: How many workers on this machine, each with one thread; None for what `options` say.
        worker_timeout: How long to wait for the first worker of a given cluster, from the first call on; None for as
            long as it takes.
        **options: The options of `distributed.LocalCluster`. By default there is one worker for each CPU that this
            process may use, each a process with one thread, and the dashboard uses any free port of this machine.

    Raises:
        TypeError: `client` is none of these, or options are given for an existing cluster.
        ValueError: `max_workers` is below 1, or is given together with an option that decides how many calls there are.
        ExecutorBrokenError: Nothing answers at that address.
    """
    if max_workers is not None:
        options |= _for_workers(check_count("max_workers", max_workers), client, options)
    worker_timeout = check_optional_seconds("worker_timeout", worker_timeout, above_zero=True)
    if client is None:
        if not options.keys() & COUNTED_BY:
            options["n_workers"] = usable_cpus()
        cluster = LocalCluster(**{"threads_per_worker": 1, "dashboard_address": ANY_PORT, **options})
        executor = OwnDaskExecutor(cluster)
        keep_workers(cluster)
        return executor
    if options:
        raise TypeError(f"{', '.join(options)}: only without a client, for a new LocalCluster; client is {client!r}")
    if isinstance(client, Client):
        if client.asynchronous:
            raise TypeError(f"client={client!r}: must not be asynchronous")
        return DaskExecutor(client, lambda: None, worker_timeout)
    if isinstance(client, Cluster | str):
        own = _connect(client)
        return DaskExecutor(own, own.close, worker_timeout)
    raise TypeError(f"client={client!r}: must be a distributed.Client, a cluster, an address, or None")


def _for_workers(n: int, client: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `LocalCluster` that computes `n` calls at a time."""
    if client is not None:
        raise TypeError(
            f"max_workers={n}: only without a client, for a new LocalCluster. How many calls client={client!r} computes"
            " at a time is up to its workers' threads; a task is limited by Limiter(max_concurrent=...)"
        )
    for name in options.keys() & COUNTED_BY - {"processes"}:
        one_given(max_workers=n, **{name: options[name]})
    return {"n_workers": n}


def _connect(to: Cluster | str) -> Client:
    """Connect to a cluster that exists.

    Raises:
        ExecutorBrokenError: Nothing answers there.
    """
    client: Any = Client.__new__(Client)
    try:
        client.__init__(to, set_as_default=False)
    except OSError as error:
        client._loop_runner.stop()  # else its thread goes on
        raise ExecutorBrokenError(
            f"no Dask scheduler answers at {to!r}: {error}; is it running, is the address right, and may this machine"
            " connect to it?"
        ) from error
    connected: Client = client
    return connected
