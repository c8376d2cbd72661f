"""Pools of two worker processes on this machine, each as ways to drive scripts through it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _drivers import Drive, Told, by_asyncio, by_events, one_by_one, ways
from _scripts import Script

WORKERS = 2

Function = Callable[[Any], Any]


def help_programs() -> None:
    """Let workers that are separate programs find functions, and let the programs themselves be found."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


def stdlib_pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))


@contextmanager
def scheduler(fn: Function) -> Iterator[Sequence[Drive]]:
    from amltk.scheduling import Scheduler

    yield [by_events(lambda: Scheduler.with_processes(WORKERS), fn)]


@contextmanager
def scheduler_over_stdlib(fn: Function) -> Iterator[Sequence[Drive]]:
    from amltk.scheduling import Scheduler

    yield [by_events(lambda: Scheduler(stdlib_pool()), fn)]


@contextmanager
def stdlib(fn: Function) -> Iterator[Sequence[Drive]]:
    with stdlib_pool() as pool:
        yield ways(one_by_one(lambda argument: pool.submit(fn, argument)))


@contextmanager
def asyncio_over_stdlib(fn: Function) -> Iterator[Sequence[Drive]]:
    with stdlib_pool() as pool:
        yield [by_asyncio(pool, fn)]


@contextmanager
def loky(fn: Function) -> Iterator[Sequence[Drive]]:
    from loky import ProcessPoolExecutor as LokyPool

    with LokyPool(WORKERS) as pool:
        yield ways(one_by_one(lambda argument: pool.submit(fn, argument)))


@contextmanager
def pebble(fn: Function) -> Iterator[Sequence[Drive]]:
    from pebble import ProcessPool as PebblePool

    with PebblePool(max_workers=WORKERS) as pool:
        yield ways(one_by_one(lambda argument: pool.schedule(fn, args=[argument])))
        pool.close()
        pool.join()


@contextmanager
def mpire(fn: Function) -> Iterator[Sequence[Drive]]:
    from mpire import WorkerPool

    with WorkerPool(n_jobs=WORKERS) as pool:

        def send(arguments: Iterable[Any], told: Told) -> None:
            for argument in arguments:
                pool.apply_async(fn, (argument,), callback=told, error_callback=told)

        yield ways(send)
        pool.stop_and_join()


def executorlib_pool(**options: Any) -> Any:
    from executorlib import SingleNodeExecutor

    help_programs()
    return SingleNodeExecutor(hostname_localhost=True, **options)


@contextmanager
def executorlib(fn: Function) -> Iterator[Sequence[Drive]]:
    # Otherwise each call would get its own process, and its arguments would be searched for dependencies.
    options = {"block_allocation": True, "disable_dependencies": True}
    with executorlib_pool(max_workers=WORKERS, **options) as pool:
        yield ways(one_by_one(lambda argument: pool.submit(fn, argument)))


@contextmanager
def joblib(fn: Function) -> Iterator[Sequence[Drive]]:
    from joblib import Parallel, delayed

    def by_lists(script: Script) -> None:
        """What the ends of one list submit is the next list: nothing can be added to the one that is computed."""
        unsent = list(next(script))
        try:
            while True:
                results = parallel(delayed(fn)(argument) for argument in unsent)
                unsent = [argument for result in results for argument in script.send(result)]
        except StopIteration:
            return

    # Otherwise several calls would be sent, and would end, as one.
    options = {"batch_size": 1, "pre_dispatch": "all", "return_as": "generator_unordered"}
    with Parallel(n_jobs=WORKERS, **options) as parallel:
        yield [by_lists]
