"""Dask: workers of this machine, or of any cluster that a `distributed.Client` reaches."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from dask import config
from distributed import Client, Future, LocalCluster, Nanny
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from amltk import _clock
from amltk._cpus import usable_cpus
from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.dask_replacer import keep_workers
from amltk.scheduling.executors.dask_tracker import Tracker, begin_and_compute
from amltk.scheduling.executors.remote import RemoteExecutor, RemoteFuture
from amltk.scheduling.executors.termination import kill_trees
from amltk.scheduling.executors.whereabouts import Whereabouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed.deploy.spec import SpecCluster

ANY_PORT = "127.0.0.1:0"
"""Where Dask serves its state: without a dashboard it would still claim, or miss, its well-known port."""

COUNTED_BY = frozenset({"n_workers", "threads_per_worker", "processes"})
"""The options by which Dask decides how many workers there are."""

SILENT = "1 TiB"
"""The size from which on Dask warns of large arguments: what users submit is theirs to decide."""


def make(client: Client | Cluster | str | None = None, **options: Any) -> RemoteExecutor:
    """Make an executor over Dask.

    Args:
        client: A client, a cluster or the address of a Dask scheduler: these stay open, and what runs there cannot be
            killed. None for workers of this machine, which end with the executor.
        **options: Those of `distributed.LocalCluster`. By default there is a worker for each CPU that this process may
            use, each is a process with one thread, and the dashboard is on any free port of this machine.

    Raises:
        TypeError: `client` is none of these, or there are options for a cluster that exists.
    """
    if client is None:
        if not options.keys() & COUNTED_BY:
            options["n_workers"] = usable_cpus()
        cluster = LocalCluster(**{"threads_per_worker": 1, "dashboard_address": ANY_PORT, **options})
        executor = OwnDaskExecutor(cluster)
        keep_workers(cluster, len(cluster.worker_spec))
        return executor
    if options:
        raise TypeError(f"{', '.join(options)}: only without a client, for a new LocalCluster; client is {client!r}")
    if isinstance(client, Client):
        if client.asynchronous:
            raise TypeError(f"client={client!r}: must not be asynchronous")
        return DaskExecutor(client, lambda: None)
    if isinstance(client, Cluster | str):
        own = Client(client, set_as_default=False)
        return DaskExecutor(own, own.close)
    raise TypeError(f"client={client!r}: must be a distributed.Client, a cluster, an address, or None")


class DaskExecutor(RemoteExecutor):
    """Computes on the workers of a Dask cluster that is somebody else's.

    A call that a worker has begun cannot be cancelled: Dask cannot end it. A call whose worker is gone fails with
    `WorkerLostError`, and is not repeated; those that were only waiting there go elsewhere.

    Args:
        client: A client that is connected. The scheduler that it is connected to is taught to tell of lost workers.
        close: Called at the end.
    """

    def __init__(self, client: Client, close: Callable[[], Any]) -> None:
        super().__init__()
        self._client = client
        self._close_client = close
        self._topic = f"amltk-{uuid.uuid4().hex}"
        self._calls: dict[str, RemoteFuture] = {}
        self._running: dict[RemoteFuture, None] = {}
        self._client.register_plugin(Tracker())
        self._client.subscribe_topic(self._topic, self._hear)

    def _send(self, call: RemoteFuture, parcel: bytes) -> None:
        key = f"{call.name.replace('-', '_')}-{uuid.uuid4().hex}"  # dask groups by what is before the last dash
        self._calls[key] = call
        with config.set({"distributed.admin.large-graph-warning-threshold": SILENT}):
            # pure=False and a key of its own: equal calls are not merged. retries=0: nothing is repeated.
            future = self._client.submit(begin_and_compute, key, self._topic, parcel, key=key, pure=False, retries=0)
        call.handle = future
        if call.done():  # cancelled meanwhile, by another thread
            self.end(call)
            return
        future.add_done_callback(lambda future: self._arrived(call, future))

    @property
    def n_workers(self) -> int:
        """How many threads the workers have that there are now: as the client knows it, which asks now and then."""
        known: dict[str, Any] = self._client._scheduler_identity
        if "total_threads" in known:
            return int(known["total_threads"])
        return sum(worker["nthreads"] for worker in known.get("workers", {}).values())

    def withdraw(self, call: RemoteFuture) -> bool:
        """Take it back unless it has begun."""
        return not call.running()  # once it has ended nobody wants it, and Dask forgets what nobody wants

    def running_calls(self) -> list[RemoteFuture]:
        """The calls that workers have begun, in the order in which that was told."""
        return list(self._running)

    def _kill(self) -> bool:
        return False

    def _close(self, *, wait: bool) -> None:  # noqa: ARG002 - closing a client never waits for work
        with contextlib.suppress(Exception):  # of a connection that is gone
            self._client.unsubscribe_topic(self._topic)
        self._close_client()

    def end(self, call: RemoteFuture, outcome: bytes | None = None, error: BaseException | None = None) -> None:
        """As in the base; Dask forgets it as well, and does not begin it if it has not."""
        super().end(call, outcome, error)
        self._running.pop(call, None)
        future, call.handle = call.handle, None
        if future is not None:
            self._calls.pop(future.key, None)
            future.release()

    # ------------------------------------------------------------------ on threads of the client

    def _arrived(self, call: RemoteFuture, future: Future[Any]) -> None:
        if call.done() or call not in self._pending:
            return  # it has its outcome, or was left to go on unseen
        if future.status == "finished":
            try:
                outcome = future.result()
            except Exception as error:  # noqa: BLE001 - it was there and is gone, with its worker
                self.end(call, error=self._failure(call, error))
                return
            if outcome is not None:  # else its loss is told
                self.end(call, outcome)
        elif future.status == "error":
            failure: Any = future.exception()
            self.end(call, error=self._failure(call, failure))
        elif self._client.status != "running":
            self._broken = f"the connection to the Dask scheduler {self._client!r} is lost"
            self.end(call, error=PoolBrokenError(self._broken))
        else:
            call.cancel()  # by somebody else who has that client

    def _failure(self, call: RemoteFuture, error: BaseException) -> BaseException:
        lost = self.lost(call, f"a Dask worker was lost: {error}")
        lost.__cause__ = error
        return lost

    def _hear(self, event: tuple[float, tuple[Any, ...]]) -> None:
        """Take an event of the tracker."""
        _, (kind, key, worker, *rest) = event
        call = self._calls.get(key)
        if call is None:
            return
        if kind == "begun":
            pid, host = rest
            call.place = f"the Dask worker {worker} (process {pid})"
            call.whereabouts = Whereabouts(host, pid, began=_clock.now())  # the scheduler's clock may differ
            call.begin()
            self._running[call] = None
            if call.done():  # cancelled meanwhile, by another thread
                self._running.pop(call, None)
        else:
            self.end(call, error=self.lost(call, "the worker was lost"))


class OwnDaskExecutor(DaskExecutor):
    """Computes on the workers of a Dask cluster that is made for it and ends with it.

    Args:
        cluster: It is closed at the end.
    """

    def __init__(self, cluster: SpecCluster) -> None:
        self._cluster = cluster
        try:
            client = Client(cluster, set_as_default=False)
            super().__init__(client, self._close_all)
        except BaseException:
            cluster.close()
            raise

    def _close_all(self) -> None:
        self._client.close()
        self._cluster.close()

    def _kill(self) -> bool:
        nannies = [worker for worker in self._cluster.workers.values() if isinstance(worker, Nanny)]
        for nanny in nannies:
            nanny.status = Status.closing_gracefully  # else it would replace the worker
        kill_trees([nanny.pid for nanny in nannies if nanny.pid is not None])
        return True
