"""Calls of the process pool, without processes."""

from __future__ import annotations

from amltk.scheduling.executors.process_pool.future import PoolFuture


class NoOwner:
    """Stands in for the engine, whose work the tests do."""

    def cancel(self, call: PoolFuture) -> bool:
        raise NotImplementedError

    def has_begun(self, call: PoolFuture) -> bool:
        raise NotImplementedError


def make_call(key: int) -> PoolFuture:
    """A packed call."""
    call = PoolFuture(NoOwner(), print, (), {})
    call.key = key
    call.payload = (1, b"", [], [])
    return call
