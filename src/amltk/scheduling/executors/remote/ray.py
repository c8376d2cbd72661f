"""Ray: tasks on a Ray cluster, or on a Ray started on this machine."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import ray
from ray import cloudpickle
from ray.exceptions import TaskCancelledError

from amltk._checks import check_count, one_given
from amltk._compat import keep_thread_state, when_ray_has
from amltk.exceptions import PoolBrokenError
from amltk.scheduling._admission.amounts import amount_of, amount_text, units_of
from amltk.scheduling._admission.cluster import WorkerKind
from amltk.scheduling._admission.pools import GPU
from amltk.scheduling.executors._transfer.contents import Contents
from amltk.scheduling.executors.remote.executor import PlacingExecutor, RemoteFuture, compute_leaving
from amltk.scheduling.executors.remote.ray_start import check_answer, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from amltk.scheduling.executors.remote.executor import Lend

_pickle: Any = cloudpickle  # Ray does not declare what that module exports

LOOK_SECONDS = 2.0
"""How many seconds the size of the cluster is cached."""

OPTIONS = {"cpu": "num_cpus", GPU: "num_gpus", "memory": "memory"}
"""The options of Ray's tasks by the names of resources; all others are among its `resources`."""

INIT_OPTIONS = {"cpu": "num_cpus", GPU: "num_gpus", "memory": "_memory"}
"""The same for `ray.init`."""


def make(
    task_options: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    max_workers: int | None = None,
    **init: Any,
) -> RayExecutor:
    """Create an executor over Ray.

    Args:
        task_options: The requirements of each call: `num_cpus`, `num_gpus`, `resources`, `runtime_env`, ...; see
            `ray.remote`. What a call asks for by `Resources` takes precedence.
        resources: What a Ray that is started here has; None for what it detects itself.
        max_workers: For how many calls at a time a Ray that is started here has CPUs; None for those it detects.
        **init: Arguments of `ray.init`, for a Ray that ends with the executor. Unless requested, it has no dashboard,
            and does not show workers' output or Ray's news. If the program has already initialised Ray, that one is
            used and stays, and no arguments are allowed.

    Raises:
        ValueError: Ray was already initialised, with other arguments; or something is given twice.
        TypeError: An amount is not a number.
        ExecutorBrokenError: No Ray answers at that address.
    """
    init |= _init_options(resources, init)
    address = init.get("address") or os.environ.get("RAY_ADDRESS")
    is_open = address not in {None, "local"} or (not started.is_used and ray.is_initialized())
    if max_workers is not None:
        n = check_count("max_workers", max_workers)
        init["num_cpus"] = _cpus_for(n, task_options or {}, init.get("num_cpus"), is_open=is_open)
    if address and not ray.is_initialized():
        check_answer(address)
    release = started.acquire(init)
    try:
        return RayExecutor(task_options or {}, release, is_open=is_open)
    except BaseException:
        release()
        raise


def _init_options(resources: Mapping[str, Any] | None, init: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `ray.init` that declare these resources."""
    options: dict[str, Any] = {}
    others: dict[str, float] = {}
    for name, value in (resources or {}).items():
        if name == GPU and value == "auto":
            continue  # Ray detects them itself
        given = f"resources[{name!r}]"
        if isinstance(value, list | tuple):
            raise TypeError(f"{given}={value!r}: must be an amount: Ray itself says which ones a call has")
        amount = amount_of(units_of(given, value))
        option = INIT_OPTIONS.get(name)
        if option is None:
            others[name] = amount
        elif option in init:
            raise ValueError(f"{given}={value!r}: {option}={init[option]!r} is given as well")
        else:
            options[option] = amount
    return options | ({"resources": others} if others else {})


def _cpus_for(n: int, task_options: Mapping[str, Any], num_cpus: Any, *, is_open: bool) -> int:
    """How many CPUs a Ray that is started here has, so that it computes `n` calls at a time."""
    one_given(max_workers=n, num_cpus=num_cpus)
    if is_open:
        raise ValueError(
            f"max_workers={n}: only for a Ray that is started here. How many calls another one computes at a time is up"
            " to its CPUs; a task is limited by Limiter(max_concurrent=...)"
        )
    each = task_options.get("num_cpus", 1)
    if not each or n * each % 1:
        raise ValueError(
            f"max_workers={n}: not with num_cpus={each!r} for each call; give num_cpus= of this Ray instead"
        )
    return int(n * each)


class _Here(threading.local):
    """What is known of the current thread."""

    is_kept = False


_here = _Here()


class InStore:
    """The contents of a shared object in Ray's store, as long as this object exists.

    Args:
        reference: Ray's reference.
    """

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __reduce__(self) -> Any:
        """Let Ray pickle its reference, so that it knows what still needs the contents."""
        return _in_store, (_pickle.dumps(self._reference),)

    def fetch(self) -> memoryview:
        """The contents, where Ray has them."""
        contents: Contents = ray.get(self._reference)
        return contents.view


def _in_store(reference: bytes) -> InStore:
    return InStore(_pickle.loads(reference))


@contextmanager
def lend(units: int) -> Iterator[tuple[tuple[str, ...], None]]:  # noqa: ARG001 - Ray knows
    """The GPUs that Ray has given to the call that is computed here; its process sees no others."""
    yield tuple(map(str, ray.get_gpu_ids())), None


def _compute(*parcel: bytes) -> Any:
    """Compute a call in a Ray worker: the outcome, and where its result is in Ray's store, if that stays there.

    Args:
        *parcel: The pickled call, and the pickles of the results that it needs. Ray compares the arguments of each call
            with the parameters, which takes least for a single one.
    """
    payload, *values = parcel
    outcome, left = compute_leaving(payload, values)
    return outcome if left is None else (outcome, ray.put(left))


def _remote_function(options: Mapping[str, Any]) -> Any:
    # Only the user may repeat a call that was lost with its worker, so Ray must not.
    make: Any = ray.remote(**{"max_retries": 0, **options})
    return make(_compute)


_task = _remote_function({})
"""One for all executors, where possible: what each makes for itself, each worker has to fetch."""


class RayExecutor(PlacingExecutor):
    """Computes in Ray tasks. Each call is computed once; cancelling it ends its worker, running or not.

    `running()` of a future is False until it has ended: Ray does not report when a task begins.

    Args:
        task_options: The options of `ray.remote`.
        release: Called at the end.
        is_open: Whether nodes may come that have what none has now: it is not known of a cluster of others.
    """

    place = "the Ray cluster"
    remedy = "start Ray with more, such as resources={'gpu': 2} of a Ray that is started here"
    lend: ClassVar[Lend] = staticmethod(lend)

    def __init__(self, task_options: Mapping[str, Any], release: Callable[[], None], *, is_open: bool) -> None:
        super().__init__()
        self._release = release
        self.is_open = is_open
        self._options = dict(task_options)
        self._task = _remote_function(task_options) if task_options else _task
        self._named: dict[Any, Any] = {}
        self._needs = {"CPU": float(task_options.get("num_cpus", 1)), "GPU": float(task_options.get("num_gpus", 0))}
        self._declared: tuple[WorkerKind, ...] = ()
        self._names: dict[str, str] = {}  # as Ray spells them, by their lower-case form
        self._n_workers = 0
        self._look_again_at = 0.0

    @property
    def n_workers(self) -> int:
        """For how many calls the cluster has CPUs and GPUs now; 0 if unknown. The value is cached for a while."""
        self._look()
        return self._n_workers

    def declared(self) -> tuple[WorkerKind, ...]:
        """What the nodes of the cluster have. The value is cached for a while."""
        self._look()
        return self._declared

    def driver_address(self) -> str | None:
        """The address of this machine among Ray's nodes; None if Ray is on this machine only."""
        address: str | None = ray.util.get_node_ip_address() if self.is_open else None
        return address

    def _look(self) -> None:
        if time.monotonic() < self._look_again_at or not ray.is_initialized():
            return
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        counts = [
            min((int(node.get(kind, 0) / n) for kind, n in self._needs.items() if n), default=0) for node in nodes
        ]
        self._n_workers = sum(counts)
        self._names = {name.lower(): name for node in nodes for name in node if _is_for_calls(name)}
        declared = tuple(
            WorkerKind(
                {name.lower(): units_of(name, amount) for name, amount in node.items() if _is_for_calls(name)}, 1
            )
            for node in nodes
        )
        if declared != self._declared:  # else it stays the same object
            self._declared = declared
        self._look_again_at = time.monotonic() + LOOK_SECONDS

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        key = (call.name, *call.wanted.items())
        task = self._named.get(key)
        if task is None:
            # The name is for Ray's own tools.
            task = self._named[key] = self._task.options(name=call.name, **self._options_for(call.wanted))
        call.handle = reference = task.remote(payload, *call.references)
        when_ray_has(reference, partial(self._arrived, call))

    def put_shared(self, contents: memoryview) -> InStore:
        """Put the contents of a shared object into Ray's store."""
        return InStore(ray.put(Contents(contents)))

    def _options_for(self, wanted: Mapping[str, int]) -> dict[str, Any]:
        """The options of a task that asks for this."""
        options: dict[str, Any] = {}
        others = dict(self._options.get("resources") or {})
        for name, units in wanted.items():
            if name in OPTIONS:
                options[OPTIONS[name]] = amount_of(units)
            else:
                others[self._names.get(name, name)] = amount_of(units)
        return options | ({"resources": others} if others else {})

    def why_waiting(self, call: RemoteFuture) -> str | None:
        """What it asks for, and how much of that is free: Ray does not say whether it runs."""
        lack = super().why_waiting(call)
        if lack is not None or not call.wanted:
            return lack
        free = ray.available_resources() if ray.is_initialized() else {}
        parts = []
        for name, units in call.wanted.items():
            left = units_of(name, free.get(self._names.get(name, name), 0))
            parts.append(f"{name}: {amount_text(units)} wanted, {amount_text(left)} free")
        return f"is with Ray, and runs, or waits there for {', '.join(parts)}"

    def bring(self, left: Any) -> bytes:
        """The pickle of a result that has stayed in the cluster."""
        if not ray.is_initialized():
            raise PoolBrokenError("Ray was shut down")  # which `ray.get` would start again
        value: bytes = ray.get(left)
        return value

    def withdraw(self, call: RemoteFuture) -> bool:
        """Withdraw a call; if it is running, its worker is killed."""
        reference = call.handle
        if reference is not None:
            ray.cancel(reference, force=True)
        return True

    def _kill(self) -> bool:
        return True  # by cancelling every call

    def _close(self, *, wait: bool) -> None:  # noqa: ARG002 - there is nothing to wait for
        self._release()

    def _arrived(self, call: RemoteFuture, told: Any) -> None:
        """Take what the task of a call has returned, or an exception in its place, on a thread of Ray's."""
        if not _here.is_kept:
            keep_thread_state()
            _here.is_kept = True
        call.handle = None  # lets Ray free the outcome in its store; before others are told, who need this thread's GIL
        if isinstance(told, bytes):
            self.end(call, told)
        elif isinstance(told, TaskCancelledError):
            call.cancel()
        elif isinstance(told, Exception):
            self.end(call, error=self._loss(call, told))
        else:
            self.end(call, told[0], left=told[1])

    def _loss(self, call: RemoteFuture, reason: Exception) -> Exception:
        """The error of a call that Ray has lost for this reason."""
        error: Exception
        if ray.is_initialized():
            error = self.lost(call, f"a Ray worker was lost: {reason}")
        else:
            self._broken = "Ray was shut down"
            error = PoolBrokenError(f"{self._broken}, while it computed {call.name}")
        error.__cause__ = reason
        return error


def _is_for_calls(name: str) -> bool:
    """Whether a resource of a node is for calls to ask for, and neither a label of that node nor internal to Ray."""
    return ":" not in name and name.isidentifier() and name != "object_store_memory"
