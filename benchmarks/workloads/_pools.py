"""Pools of two worker processes, each as one function that submits a call and tells somebody what came of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

WORKERS = 2

Submit = Callable[[Any, Callable[[Any], object]], object]
"""Takes the argument of the call, and who is told of its result or future."""


def stdlib_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))


@contextmanager
def ours(fn: Callable[[Any], Any]) -> Iterator[Submit]:
    from amltk.scheduling.executors import ProcessPool

    with ProcessPool(WORKERS) as pool:
        yield lambda argument, told: pool.submit(fn, argument).add_done_callback(told)


@contextmanager
def stdlib(fn: Callable[[Any], Any]) -> Iterator[Submit]:
    with stdlib_pool() as pool:
        yield lambda argument, told: pool.submit(fn, argument).add_done_callback(told)


@contextmanager
def loky(fn: Callable[[Any], Any]) -> Iterator[Submit]:
    from loky import ProcessPoolExecutor as LokyPool

    with LokyPool(WORKERS) as pool:
        yield lambda argument, told: pool.submit(fn, argument).add_done_callback(told)


@contextmanager
def pebble(fn: Callable[[Any], Any]) -> Iterator[Submit]:
    from pebble import ProcessPool as PebblePool

    with PebblePool(max_workers=WORKERS) as pool:
        yield lambda argument, told: pool.schedule(fn, args=[argument]).add_done_callback(told)
        pool.close()
        pool.join()


@contextmanager
def mpire(fn: Callable[[Any], Any]) -> Iterator[Submit]:
    from mpire import WorkerPool

    with WorkerPool(n_jobs=WORKERS) as pool:
        yield lambda argument, told: pool.apply_async(fn, (argument,), callback=told)
        pool.stop_and_join()


POOLS: dict[str, Callable[[Callable[[Any], Any]], AbstractContextManager[Submit]]] = {
    "ours": ours,
    "stdlib": stdlib,
    "loky": loky,
    "pebble": pebble,
    "mpire": mpire,
}


def outcome(told: Any) -> Any:
    """What a callback was told of: a future, or, by mpire, the result itself."""
    return told.result() if isinstance(told, Future) else told
