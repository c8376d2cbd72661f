"""Local processes."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from multiprocessing.context import BaseContext


def make(
    max_workers: int | None = None,
    mp_context: BaseContext | str | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Executor:
    """Make a pool of local processes.

    Args:
        max_workers: How many processes, at least 1; None for one a CPU.
        mp_context: `"fork"`, `"spawn"` or `"forkserver"`, or a context of multiprocessing. None is "fork" on Linux, so
            that what lives in `__main__` or a notebook can be computed without a guard, and the platform's own method
            elsewhere.
        initializer: Called in each process before its first work; if it raises, the executor is broken.
        initargs: The arguments of the initializer.

    Raises:
        ValueError: `max_workers` is below 1, or this platform has no such context.
        TypeError: `initializer` is not callable.
    """
    # Imported here: multiprocessing would be a third of the time that it takes to import the package.
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_all_start_methods, get_context

    if isinstance(mp_context, str):
        methods = get_all_start_methods()
        if mp_context not in methods:
            raise ValueError(f"mp_context={mp_context!r}: must be one of {', '.join(map(repr, methods))}")
        mp_context = get_context(mp_context)
    elif mp_context is None and sys.platform == "linux":
        mp_context = get_context("fork")
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer={initializer!r}: must be callable, or None")
    return ProcessPoolExecutor(
        max_workers, mp_context=mp_context, initializer=_start_worker, initargs=(initializer, initargs)
    )


def _start_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    """Leave the signals to the parent: a forked worker inherits its handlers, and the terminal's Ctrl-C reaches all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if initializer is not None:
        initializer(*initargs)
