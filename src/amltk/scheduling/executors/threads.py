"""Local threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def make(
    max_workers: int | None = None,
    thread_name_prefix: str = "amltk-worker",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> ThreadPoolExecutor:
    """Make a pool of threads. Python cannot end a thread: running work is always waited for when Python exits.

    Args:
        max_workers: How many threads, at least 1; None for the default of `ThreadPoolExecutor`.
        thread_name_prefix: What the names of the threads begin with.
        initializer: Called in each thread before its first work; if it raises, the executor is broken.
        initargs: The arguments of the initializer.

    Raises:
        ValueError: `max_workers` is below 1.
        TypeError: `initializer` is not callable.
    """
    return ThreadPoolExecutor(max_workers, thread_name_prefix, initializer, initargs)
