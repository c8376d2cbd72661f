"""Ray: tasks on a Ray cluster, or on a Ray of this machine."""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from amltk.exceptions import PoolBrokenError
from amltk.scheduling.executors.remote import RemoteExecutor, RemoteFuture, compute

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future


def make(task_options: Mapping[str, Any] | None = None, **init: Any) -> RayExecutor:
    """Make an executor over Ray.

    Args:
        task_options: What each call needs: `num_cpus`, `num_gpus`, `resources`, `runtime_env`, ...; see `ray.remote`.
        **init: Arguments of `ray.init`, for a Ray that ends with the executor. Without a dashboard, and without the
            output of workers, unless asked for. None of them is allowed where Ray was initialised before: that one is
            used then, and stays.

    Raises:
        ValueError: Ray was initialised before, and there are arguments for `ray.init`.
    """
    own = not ray.is_initialized()
    if own:
        _init(**init)
    elif init:
        raise ValueError(
            f"{', '.join(init)}: Ray was initialised before, so these have no effect; leave them out, or call"
            " ray.shutdown() first"
        )
    try:
        return RayExecutor(task_options or {}, own=own)
    except BaseException:
        if own:
            ray.shutdown()
        raise


def _init(**init: Any) -> None:
    """Initialise Ray, and let signals be handled as before: Ray would exit at once where a run ends in order."""
    if "address" not in init:
        init = {"include_dashboard": False, **init}  # an option of a Ray that is started
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**{"log_to_driver": False, **init})
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)


class RayExecutor(RemoteExecutor):
    """Computes in Ray tasks. Each call is made once; cancelling it ends its worker, running or not.

    `running()` of a future is False until it has ended: Ray does not tell when a task begins.

    Args:
        task_options: For `ray.remote`.
        own: Whether Ray is shut down at the end.
    """

    def __init__(self, task_options: Mapping[str, Any], *, own: bool) -> None:
        super().__init__()
        self._own = own
        # A call that went with its worker is the user's to repeat, so Ray must not.
        self._task = ray.remote(**{"max_retries": 0, **task_options})(compute)
        self._named: dict[str, Any] = {}

    def _send(self, call: RemoteFuture, parcel: bytes) -> None:
        task = self._named.get(call.name)
        if task is None:
            task = self._named[call.name] = self._task.options(name=call.name)  # what Ray's own tools show
        call.handle = reference = task.remote(parcel)
        reference.future().add_done_callback(partial(self._arrived, call))

    def withdraw(self, call: RemoteFuture) -> bool:
        """Take it back; if it runs, its worker is killed."""
        reference = call.handle
        if reference is not None:
            ray.cancel(reference, force=True)
        return True

    def _kill(self) -> bool:
        return True  # by cancelling every call

    def _close(self, *, wait: bool) -> None:  # noqa: ARG002 - nothing is left to wait for
        if self._own:
            ray.shutdown()

    def _arrived(self, call: RemoteFuture, outcome: Future[bytes]) -> None:
        """Take what has come of a call, on a thread of Ray's."""
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
            call.handle = None  # the outcome may go from Ray's store
