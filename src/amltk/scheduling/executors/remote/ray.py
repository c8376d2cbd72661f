"""Ray: tasks on a Ray cluster, or on a Ray started on this machine."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError, TaskCancelledError

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors._transfer.contents import Contents
from amltk.scheduling.executors.remote.executor import RemoteExecutor, RemoteFuture, compute
from amltk.scheduling.executors.remote.signal_handlers import kept_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

_pickle: Any = cloudpickle  # Ray does not say that it exports what is in there

LOOK_SECONDS = 2.0
"""How many seconds the size of the cluster is cached."""


def make(task_options: Mapping[str, Any] | None = None, **init: Any) -> RayExecutor:
    """Create an executor over Ray.

    Args:
        task_options: The requirements of each call: `num_cpus`, `num_gpus`, `resources`, `runtime_env`, ...; see
            `ray.remote`.
        **init: Arguments of `ray.init`, for a Ray that ends with the executor. Unless requested, it has no dashboard,
            and does not show workers' output or Ray's news. If the program has already initialised Ray, that one is
            used and stays, and no arguments are allowed.

    Raises:
        ValueError: Ray was already initialised, with other arguments.
    """
    release = _shared.acquire(init)
    try:
        return RayExecutor(task_options or {}, release)
    except BaseException:
        release()
        raise


class _Shared:
    """The Ray of this process, of which there can be only one; the last executor that uses it shuts it down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._init: dict[str, Any] = {}

    def acquire(self, init: dict[str, Any]) -> Callable[[], None]:
        """Initialise Ray if necessary; returns a function to call when it is no longer needed.

        Raises:
            ValueError: Ray was already initialised, with other arguments.
        """
        with self._lock:
            if self._users == 0 and ray.is_initialized():  # initialised by the user: it stays
                self._check(init, {})
                return lambda: None
            if self._users:
                self._check(init, self._init)
            else:
                _init(**init)
                self._init = init
            self._users += 1
            return self._release

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                ray.shutdown()

    @staticmethod
    def _check(init: dict[str, Any], present: dict[str, Any]) -> None:
        if init and init != present:
            raise ValueError(
                f"{', '.join(init)}: Ray was already initialised, with other arguments; leave these out, or call"
                " ray.shutdown() first"
            )


_shared = _Shared()


def _init(**init: Any) -> None:
    """Initialise Ray and restore the signal handlers: Ray's own would exit at once, before the run can end."""
    init = {"log_to_driver": False, "logging_level": logging.WARNING, **init}
    if "address" not in init:
        init = {"include_dashboard": False, **init}  # only valid for a Ray that is started here
    with kept_handlers():
        ray.init(**init)


class InStore:
    """The contents of a shared object in Ray's store, as long as this object is there.

    Args:
        reference: Ray's reference.
    """

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __reduce__(self) -> Any:
        """Let Ray pickle its reference: it knows by this who needs what is in its store."""
        return _in_store, (_pickle.dumps(self._reference),)

    def fetch(self) -> memoryview:
        """The contents, where Ray has them."""
        contents: Contents = ray.get(self._reference)
        return contents.view


def _in_store(reference: bytes) -> InStore:
    return InStore(_pickle.loads(reference))


class RayExecutor(RemoteExecutor):
    """Computes in Ray tasks. Each call is computed once; cancelling it ends its worker, running or not.

    `running()` of a future is False until it has ended: Ray does not report when a task begins.

    Args:
        task_options: The options of `ray.remote`.
        release: Called at the end.
    """

    def __init__(self, task_options: Mapping[str, Any], release: Callable[[], None]) -> None:
        super().__init__()
        self._release = release
        # Only the user may repeat a call that was lost with its worker, so Ray must not.
        self._task = ray.remote(**{"max_retries": 0, **task_options})(compute)
        self._named: dict[str, Any] = {}
        self._needs = {"CPU": float(task_options.get("num_cpus", 1)), "GPU": float(task_options.get("num_gpus", 0))}
        self._n_workers = 0
        self._look_again_at = 0.0

    @property
    def n_workers(self) -> int:
        """For how many calls the cluster has CPUs and GPUs now; 0 if unknown. The value is cached for a while."""
        if time.monotonic() >= self._look_again_at and ray.is_initialized():
            there_are = ray.cluster_resources()
            self._n_workers = min((int(there_are.get(kind, 0) / n) for kind, n in self._needs.items() if n), default=0)
            self._look_again_at = time.monotonic() + LOOK_SECONDS
        return self._n_workers

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        task = self._named.get(call.name)
        if task is None:
            task = self._named[call.name] = self._task.options(name=call.name)  # the name in Ray's own tools
        call.handle = reference = task.remote(payload)
        reference.future().add_done_callback(partial(self._arrived, call))

    def put_shared(self, contents: memoryview) -> InStore:
        """Put the contents of a shared object into Ray's store."""
        return InStore(ray.put(Contents(contents)))

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

    def _arrived(self, call: RemoteFuture, outcome: Future[bytes]) -> None:
        """Take the outcome of a call, on a thread of Ray's."""
        try:
            self.end(call, outcome.result())
        except TaskCancelledError:
            call.cancel()
        except RayError as error:
            if ray.is_initialized():
                failure: Exception = self.lost(call, f"a Ray worker was lost: {error}")
            else:
                self._broken = "Ray was shut down"
                failure = PoolBrokenError(f"{self._broken}, while it computed {call.name}")
            failure.__cause__ = error
            self.end(call, error=failure)
        finally:
            call.handle = None  # lets Ray free the outcome in its store
