"""Calls of the process pool, without any process."""

from __future__ import annotations

from amltk.scheduling.executors.process_pool.future import PoolFuture


class NoOwner:
    """Stands for the engine; tests do what it does."""

    def cancel(self, call: PoolFuture) -> bool:
        raise NotImplementedError

    def has_begun(self, call: PoolFuture) -> bool:
        raise NotImplementedError


def make_call(key: int) -> PoolFuture:
    """A call that is packed."""
    call = PoolFuture(NoOwner(), print, (), {})
    call.key = key
    call.payload = (1, b"", [], [])
    return call
