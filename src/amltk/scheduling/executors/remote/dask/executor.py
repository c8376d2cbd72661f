"""Dask: workers on this machine, or in any cluster that a `distributed.Client` reaches."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from dask import config
from distributed import Client, Future, LocalCluster, Nanny
from distributed.comm import get_address_host
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from amltk._checks import check_count, check_optional_seconds, one_given
from amltk._process import clock
from amltk._process.cpus import usable_cpus
from amltk.exceptions import ExecutorBrokenError, PoolBrokenError
from amltk.scheduling._admission.amounts import amount_of, units_of
from amltk.scheduling._admission.cluster import WorkerKind
from amltk.scheduling.executors.cluster_workers import FirstWorker
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.executors.remote.dask.devices import lend
from amltk.scheduling.executors.remote.dask.replacer import keep_workers
from amltk.scheduling.executors.remote.dask.scattered import Scattered
from amltk.scheduling.executors.remote.dask.tracker import OWNER_CHARS, Tracker, begin_and_compute, topic_of
from amltk.scheduling.executors.remote.executor import PlacingExecutor, RemoteExecutor, RemoteFuture
from amltk.scheduling.executors.termination import kill_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed.deploy.spec import SpecCluster

    from amltk.scheduling.executors.remote.executor import Lend

ANY_PORT = "127.0.0.1:0"
"""The address of Dask's dashboard: without one, Dask would still try to bind its well-known port."""

OVER_IP = ("tcp://", "tls://", "ws://", "wss://")
"""How addresses in Dask begin that have an IP address."""

COUNTED_BY = frozenset({"n_workers", "threads_per_worker", "processes"})
"""The options with which Dask decides how many workers there are."""

LOOK_SECONDS = 0.05
"""How many seconds pass at least between two looks at what workers declare: a thousand of them may come at once."""

SILENT = "1 TiB"
"""The size above which Dask warns of large arguments; users decide what they submit."""


def make(
    client: Client | Cluster | str | None = None,
    *,
    max_workers: int | None = None,
    worker_timeout: Any = None,
    **options: Any,
) -> RemoteExecutor:
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


class DaskExecutor(PlacingExecutor):
    """Computes on the workers of a Dask cluster that it does not own.

    A call that a worker has begun cannot be cancelled: Dask cannot end it. A call whose worker is lost fails with
    `WorkerLostError`, and is not repeated; calls that were only waiting there go to other workers.

    Args:
        client: A connected client. Its Dask scheduler gets a plugin that reports lost workers.
        close: Called at the end.
        worker_timeout: How many seconds to wait for the first worker, from the first call on; None for as long as it
            takes.
    """

    place = "the Dask cluster"
    remedy = 'start workers with dask worker --resources, such as "gpu=1", or give the scheduler resources= of its own'
    lend: ClassVar[Lend] = staticmethod(lend)

    def __init__(self, client: Client, close: Callable[[], Any], worker_timeout: float | None = None) -> None:
        super().__init__()
        self._worker_timeout = worker_timeout
        self._client = client
        self._close_client = close
        self._owner = uuid.uuid4().hex[:OWNER_CHARS]
        self._numbers = itertools.count(1)
        self._topic = topic_of(self._key_of("", 0))
        self._calls: dict[str, RemoteFuture] = {}
        self._running: dict[RemoteFuture, None] = {}
        self._left: dict[RemoteFuture, bytes] = {}  # the outcomes of those whose results stay on their workers
        self._declared: tuple[WorkerKind, ...] | None = None  # not asked for yet
        self._looking = asyncio.Lock()  # of the client's loop
        self._has_changed = False  # what workers declare, since the last look began
        self._looker: asyncio.Task[None] | None = None
        self._first_worker = FirstWorker()
        self._names: dict[str, str] = {}  # as workers spell them, by their lower-case form
        self._outcomes = ThreadPoolExecutor(1, "amltk-dask-outcomes")  # unpickles those that are sent ahead
        self._client.register_plugin(Tracker())
        self._client.subscribe_topic(self._topic, self._hear)
        self._client._send_to_scheduler({"op": "amltk-enter", "topic": self._topic})

    def _key_of(self, name: str, number: int) -> str:
        """The key of a call in Dask, which groups calls by what precedes the last dash."""
        return f"{name.replace('-', '_')}-{self._owner}{number:0{OWNER_CHARS}x}"

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        if self._broken:
            self.end(call, error=PoolBrokenError(str(self._broken)))
            return
        self._expect_worker()
        key = self._key_of(call.name, next(self._numbers))
        self._calls[key] = call
        resources = {self._names.get(name, name): amount_of(units) for name, units in call.wanted.items() if units}
        with config.set({"distributed.admin.large-graph-warning-threshold": SILENT}):
            # pure=False and a unique key: equal calls are not merged. retries=0: nothing is repeated.
            future = self._client.submit(
                begin_and_compute,
                key,
                self._topic,
                payload,
                call.references,
                key=key,
                pure=False,
                retries=0,
                resources=resources,
            )
        call.handle = future
        if call.done():  # cancelled by another thread meanwhile
            self.end(call)
            return
        future.add_done_callback(lambda future: self._arrived(call, future))

    def declared(self) -> tuple[WorkerKind, ...]:
        """What the workers of the cluster declare. The first time this asks the cluster, and waits for its answer."""
        if self._declared is None:
            try:
                self._client.sync(self._look)
            except OSError:  # the connection is lost, which ends the calls there, and the run
                return ()
        return self._declared or ()

    async def _look(self) -> None:
        """Ask what workers declare. One question at a time, so that no old answer comes last."""
        scheduler: Any = self._client.scheduler
        async with self._looking:
            self._has_changed = False
            told: list[tuple[dict[str, float], int]] = await scheduler.amltk_declared(topic=self._topic)
            self._names = {name.lower(): name for worker, _ in told for name in worker}
            self._declared = tuple(
                WorkerKind({name.lower(): units_of(name, amount) for name, amount in worker.items()}, count)
                for worker, count in told
            )

    async def _look_again(self) -> None:
        """Ask until all is known that has changed: once for all workers that come and go within a moment."""
        with contextlib.suppress(OSError):  # the connection may be lost, which is found out elsewhere
            while self._has_changed:
                await self._look()
                self.on_change()
                if self._declared:
                    self._first_worker.is_up()
                await asyncio.sleep(LOOK_SECONDS)

    def when_up(self, fn: Callable[[], object] | None) -> None:
        """Call `fn` once, on any thread, when a worker is up; None for nothing."""
        self._first_worker.tell(fn)
        if fn is not None:
            loop: Any = self._client.loop
            loop.add_callback(self._note_change)  # from then on, the scheduler tells when workers come

    def driver_address(self) -> str | None:
        """The address from which the client has connected to Dask's scheduler, as the workers have."""
        connection: Any = self._client.scheduler_comm
        here = "" if connection is None else connection.comm.local_address
        return get_address_host(here) if here.startswith(OVER_IP) else None

    @property
    def n_workers(self) -> int:
        """The threads of all current workers, as known to the client, which asks from time to time."""
        known: dict[str, Any] = self._client._scheduler_identity
        if "total_threads" in known:
            return int(known["total_threads"])
        return sum(worker["nthreads"] for worker in known.get("workers", {}).values())

    def put_shared(self, contents: memoryview) -> Scattered:
        """Give all workers the contents of a shared object."""
        return Scattered(self._client, contents)

    def withdraw(self, call: RemoteFuture) -> bool:
        """Withdraw a call unless it has begun."""
        return not call.running()  # `end` releases it, and Dask drops released calls

    def running_calls(self) -> list[RemoteFuture]:
        """The calls that workers have begun, in the order of the reports."""
        return list(self._running)

    def _expect_worker(self) -> None:
        """Give up if there is no worker in time. Only the first time."""
        seconds, self._worker_timeout = self._worker_timeout, None
        if seconds is not None:
            loop: Any = self._client.loop
            loop.add_callback(loop.call_later, seconds, self._give_up_without, seconds)

    async def _give_up_without(self, seconds: float) -> None:
        """Give up if there is no worker now, and was none before."""
        scheduler: Any = self._client.scheduler
        if self._running or not self._pending or self._client.status != "running":
            return
        with contextlib.suppress(OSError):  # the connection may be lost, which is found out elsewhere
            if not (await scheduler.ncores()):
                self.break_down(
                    f"no worker was up within worker_timeout={seconds:g} s: the Dask scheduler at {scheduler.address}"
                    f" has none; start some, such as by `dask worker {scheduler.address}`"
                )

    def break_down(self, words: str) -> None:
        """Fail all calls, those to come too: there will be no workers. May be called from any thread."""
        self._broken = words
        with self._changed:
            calls = list(self._pending)
        for call in calls:
            self.end(call, error=PoolBrokenError(words))

    def _kill(self) -> bool:
        return False

    def _close(self, *, wait: bool) -> None:  # noqa: ARG002 - closing a client never waits for work
        with contextlib.suppress(Exception):  # the connection may be lost
            self._client._send_to_scheduler({"op": "amltk-exit", "topic": self._topic})
            self._client.unsubscribe_topic(self._topic)
            if self._looker is not None:
                self._client.loop.add_callback(self._looker.cancel)
        self._outcomes.shutdown()
        self._close_client()

    def end(
        self, call: RemoteFuture, outcome: bytes | None = None, error: BaseException | None = None, left: Any = None
    ) -> None:
        """As in the base class; also releases the call in Dask, which then does not begin it any more."""
        super().end(call, outcome, error, left)
        self._running.pop(call, None)
        self._left.pop(call, None)
        future, call.handle = call.handle, None
        if future is not None:
            self._calls.pop(future.key, None)
            if left is None:  # else Dask keeps its result until nothing refers to it any more
                future.release()

    def bring(self, left: Future[Any]) -> bytes | None:
        """The pickle of a result that has stayed on its worker; None if it is lost."""
        value: bytes | None = left.result()
        return value

    # ------------------------------------------------------------------ on threads of the client

    def _arrived(self, call: RemoteFuture, future: Future[Any]) -> None:
        if call.done() or call not in self._pending:
            return  # it has an outcome, or was left running unnoticed
        if future.status == "finished":
            if (told := self._left.get(call)) is not None:
                self.end(call, told, left=future)
                return
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
        if kind == "workers":
            self._note_change()
            return
        call = self._calls.get(key)
        if call is None:
            return
        if kind == "ended":
            self._end_soon(call, *rest)
        elif kind == "left":
            (self._left[call],) = rest
        elif kind == "begun":
            pid, host = rest
            call.place = f"the Dask worker {worker} (process {pid})"
            call.execution_info = ExecutionInfo(host, pid, began=clock.now())  # the scheduler's clock may differ
            call.begin()
            self._running[call] = None
            if call.done():  # cancelled by another thread meanwhile
                self._running.pop(call, None)
        else:
            self._note_loss(call, worker)

    def _note_change(self) -> None:
        """Look again at what workers declare, soon."""
        self._has_changed = True
        if self._looker is None or self._looker.done():
            self._looker = asyncio.ensure_future(self._look_again())

    def _note_loss(self, call: RemoteFuture, worker: str) -> None:  # noqa: ARG002 - for subclasses
        """End a call that was lost with its worker."""
        self._end_soon(call, error=self.lost(call, "the worker was lost"))

    def _end_soon(self, call: RemoteFuture, outcome: bytes | None = None, error: BaseException | None = None) -> None:
        """Set an outcome, on a thread of its own: unpickling it runs users' code. One after the other."""
        with contextlib.suppress(RuntimeError):  # this executor is closed, so it is no longer needed
            self._outcomes.submit(self.end, call, outcome, error)


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
