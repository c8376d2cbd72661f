"""Dask: workers on this machine, or in any cluster that a `distributed.Client` reaches."""

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
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.executors.remote.dask.replacer import keep_workers
from amltk.scheduling.executors.remote.dask.tracker import Tracker, begin_and_compute
from amltk.scheduling.executors.remote.executor import RemoteExecutor, RemoteFuture
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed.deploy.spec import SpecCluster

ANY_PORT = "127.0.0.1:0"
"""The address of Dask's dashboard: without one, Dask would still try to bind its well-known port."""

COUNTED_BY = frozenset({"n_workers", "threads_per_worker", "processes"})
"""The options with which Dask decides how many workers there are."""

SILENT = "1 TiB"
"""The size above which Dask warns of large arguments; users decide what they submit."""


def make(client: Client | Cluster | str | None = None, **options: Any) -> RemoteExecutor:
    """Create an executor over Dask.

    Args:
        client: A client, a cluster or the address of a Dask scheduler: these stay open, and calls running there cannot
            be killed. None for workers on this machine, which end with the executor.
        **options: The options of `distributed.LocalCluster`. By default there is one worker for each CPU that this
            process may use, each a process with one thread, and the dashboard uses any free port of this machine.

    Raises:
        TypeError: `client` is none of these, or options are given for an existing cluster.
    """
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
        return DaskExecutor(client, lambda: None)
    if isinstance(client, Cluster | str):
        own = Client(client, set_as_default=False)
        return DaskExecutor(own, own.close)
    raise TypeError(f"client={client!r}: must be a distributed.Client, a cluster, an address, or None")


class DaskExecutor(RemoteExecutor):
    """Computes on the workers of a Dask cluster that it does not own.

    A call that a worker has begun cannot be cancelled: Dask cannot end it. A call whose worker is lost fails with
    `WorkerLostError`, and is not repeated; calls that were only waiting there go to other workers.

    Args:
        client: A connected client. Its Dask scheduler gets a plugin that reports lost workers.
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

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        key = f"{call.name.replace('-', '_')}-{uuid.uuid4().hex}"  # Dask groups calls by what precedes the last dash
        self._calls[key] = call
        with config.set({"distributed.admin.large-graph-warning-threshold": SILENT}):
            # pure=False and a unique key: equal calls are not merged. retries=0: nothing is repeated.
            future = self._client.submit(begin_and_compute, key, self._topic, payload, key=key, pure=False, retries=0)
        call.handle = future
        if call.done():  # cancelled by another thread meanwhile
            self.end(call)
            return
        future.add_done_callback(lambda future: self._arrived(call, future))

    @property
    def n_workers(self) -> int:
        """The threads of all current workers, as known to the client, which asks from time to time."""
        known: dict[str, Any] = self._client._scheduler_identity
        if "total_threads" in known:
            return int(known["total_threads"])
        return sum(worker["nthreads"] for worker in known.get("workers", {}).values())

    def withdraw(self, call: RemoteFuture) -> bool:
        """Withdraw a call unless it has begun."""
        return not call.running()  # `end` releases it, and Dask drops released calls

    def running_calls(self) -> list[RemoteFuture]:
        """The calls that workers have begun, in the order of the reports."""
        return list(self._running)

    def _kill(self) -> bool:
        return False

    def _close(self, *, wait: bool) -> None:  # noqa: ARG002 - closing a client never waits for work
        with contextlib.suppress(Exception):  # the connection may be lost
            self._client.unsubscribe_topic(self._topic)
        self._close_client()

    def end(self, call: RemoteFuture, outcome: bytes | None = None, error: BaseException | None = None) -> None:
        """As in the base class; also releases the call in Dask, which then does not begin it any more."""
        super().end(call, outcome, error)
        self._running.pop(call, None)
        future, call.handle = call.handle, None
        if future is not None:
            self._calls.pop(future.key, None)
            future.release()

    # ------------------------------------------------------------------ on threads of the client

    def _arrived(self, call: RemoteFuture, future: Future[Any]) -> None:
        if call.done() or call not in self._pending:
            return  # it has an outcome, or was left running unnoticed
        if future.status == "finished":
            try:
                outcome = future.result()
            except Exception as error:  # noqa: BLE001 - its outcome existed, and is lost with the worker
                self.end(call, error=self._failure(call, error))
                return
            if outcome is not None:  # otherwise its loss is reported
                self.end(call, outcome)
        elif future.status == "error":
            failure: Any = future.exception()
            self.end(call, error=self._failure(call, failure))
        elif self._client.status != "running":
            self._broken = f"the connection to the Dask scheduler {self._client!r} is lost"
            self.end(call, error=PoolBrokenError(self._broken))
        else:
            call.cancel()  # by another user of that client

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
            call.execution_info = ExecutionInfo(host, pid, began=_clock.now())  # the scheduler's clock may differ
            call.begin()
            self._running[call] = None
            if call.done():  # cancelled by another thread meanwhile
                self._running.pop(call, None)
        else:
            self.end(call, error=self.lost(call, "the worker was lost"))


class OwnDaskExecutor(DaskExecutor):
    """Computes on the workers of a Dask cluster that was created for it and ends with it.

    Args:
        cluster: The cluster; closed at the end.
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
            nanny.status = Status.closing_gracefully  # otherwise it would replace the worker
        kill_trees([nanny.pid for nanny in nannies if nanny.pid is not None])
        return True
