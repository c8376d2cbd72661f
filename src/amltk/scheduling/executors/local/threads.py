"""Local threads."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from amltk._checks import check_optional_count
from amltk.scheduling.executors.execution_info import ExecutionInfo

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_THREADS = 32
"""The maximum default number of threads; calls that wait for a network do not need more."""

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool(ThreadPoolExecutor):
    """The standard library's pool, with futures that report the thread and times of their call."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Like `ThreadPoolExecutor.submit`."""
        here = ExecutionInfo()
        future: Any = super().submit(_compute, here, fn, args, kwargs)
        future.execution_info = here
        return future  # type: ignore[no-any-return]


def _compute(here: ExecutionInfo, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    here.begin()
    try:
        return fn(*args, **kwargs)
    finally:
        here.end()


def make(
    max_workers: int | None = None,
    thread_name_prefix: str = "amltk-worker",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> ThreadPool:
    """Create a thread pool. Python cannot end a thread: when Python exits, it waits for all running calls.

    Args:
        max_workers: How many threads, at least 1; None for the number of CPUs that this process may use plus four, but
            at most 32.
        thread_name_prefix: The beginning of the threads' names.
        initializer: Called in each thread before its first call; if it raises, the executor is broken.
        initargs: The arguments of the initializer.

    Raises:
        ValueError: `max_workers` is below 1.
        TypeError: `initializer` is not callable.
    """
    max_workers = check_optional_count("max_workers", max_workers)
    if max_workers is None:
        from amltk._process.cpus import usable_cpus

        max_workers = min(
            MAX_THREADS, usable_cpus() + 4
        )  # like the standard library, but that counts all CPUs of the machine
    return ThreadPool(max_workers, thread_name_prefix, initializer, initargs)
