"""Executors over a library's own pool, which nearly matches the standard library's."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.scheduling.executors.remote.executor import RemoteExecutor, RemoteFuture, compute

if TYPE_CHECKING:
    from concurrent.futures import Future


class PooledExecutor(RemoteExecutor):
    """Submits its calls to a pool, whose futures deliver the outcomes.

    Args:
        pool: The pool; shut down at the end.
    """

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self._pool: Any = pool

    def _send(self, call: RemoteFuture, payload: bytes) -> None:
        try:
            call.handle = handle = self._pool.submit(compute, payload)
        except BrokenExecutor as error:
            self._broken = str(error)
            raise
        handle.add_done_callback(partial(self._arrived, call))

    def withdraw(self, call: RemoteFuture) -> bool:
        """Take it back unless a worker has it."""
        handle = call.handle  # read once: its outcome may come meanwhile, on a thread of the pool
        return handle is None or bool(handle.cancel())

    def has_begun(self, call: RemoteFuture) -> bool:
        """As the pool sees it."""
        handle = call.handle
        return handle is not None and bool(handle.running())

    def _close(self, *, wait: bool) -> None:
        self._pool.shutdown(wait=wait)
        self._pool = None  # a broken pool holds descriptors

    def _arrived(self, call: RemoteFuture, outcome: Future[bytes]) -> None:
        """Take what has come of a call, on a thread of the pool."""
        call.handle = None  # which refers to the call by its callback
        if outcome.cancelled():
            call.cancel()
        elif (error := outcome.exception()) is not None:  # the pool's own error; the function's is in the outcome
            if isinstance(error, BrokenExecutor):
                self._broken = str(error)
            else:
                lost = self.lost(call, f"its pool failed: {error}")
                lost.__cause__ = error
                error = lost
            self.end(call, error=error)
        else:
            self.end(call, outcome.result())
