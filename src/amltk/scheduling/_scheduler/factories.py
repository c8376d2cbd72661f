"""Factories of schedulers for each executor that this package knows: one method for each row of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from amltk._checks import explains_options
from amltk.scheduling._scheduler.cluster_factories import WORKERS, ClusterFactories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from multiprocessing.context import BaseContext

    from amltk.types import Duration

_max_workers = explains_options(**dict.fromkeys(WORKERS, "max_workers"))


class Factories(ClusterFactories):
    """Makes schedulers that can run any number of times, with a fresh executor for each run."""

    @classmethod
    @_max_workers
    def with_processes(
        cls,
        max_workers: int | None = None,
        mp_context: BaseContext | Literal["fork", "spawn", "forkserver"] | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        preload: Iterable[str] | Literal["auto"] = "auto",
        exit_timeout: Duration = 10.0,
        idle_timeout: Duration | None = None,
        max_worker_memory: float | str | None = None,
        shared_memory: int | str | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Self:
        """A scheduler over local processes: a `ProcessPool`. A lost process costs only the call that it was running.

        In each process BLAS and OpenMP use as many threads as it has CPUs available, see `ProcessPool`.

        Args:
            max_workers: How many processes, at least 1; None for one per CPU that this process may use, as in
                `ProcessPool`.
            mp_context: The start method, as in `ProcessPool`. By default no `if __name__ == "__main__":` is needed.
            initializer: Called in each process before its first call. If it keeps raising, the run ends with
                `ExecutorBrokenError`.
            initargs: The arguments of the initializer, as in `ProcessPool`.
            max_tasks_per_child: Replace a process after this many calls; None for never.
            preload: Modules to import once, before any process is started: `"auto"` for those that calls turn out to
                need, a list of names, or `()` for none; see `ProcessPool`.
            exit_timeout: How long a process may take to shut down before it is killed: seconds, a string such as
                `"1 min"`, or a `timedelta`.
            idle_timeout: After how long without a call a process ends, so that its memory is free; None for never.
            max_worker_memory: How much memory a process may have between two calls before it is replaced, in bytes or
                as a text such as `"4 GB"`; None for no limit. See `ProcessPool` for both.
            shared_memory: How much shared memory large arrays may cross in: bytes, or a text such as `"4 GB"`; None for
                a quarter of the memory that this process may use, 0 for none; see `ProcessPool`.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.

        Raises:
            ValueError: `max_workers` or `max_tasks_per_child` is below 1, `mp_context` is not a start method,
                `shared_memory` is negative, or `preload` names modules although the start method is not `"forkserver"`.
            TypeError: `initializer` is not callable, it or something in `initargs` cannot be pickled, or `preload` is
                not a list of names.
        """
        return cls._made_by(
            "processes",
            terminate,
            resources,
            max_workers=max_workers,
            mp_context=mp_context,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
            preload=preload,
            exit_timeout=exit_timeout,
            idle_timeout=idle_timeout,
            max_worker_memory=max_worker_memory,
            shared_memory=shared_memory,
        )

    @classmethod
    @_max_workers
    def with_threads(
        cls,
        max_workers: int | None = None,
        thread_name_prefix: str = "amltk-worker",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Self:
        """A scheduler over threads, for work that waits or releases the GIL. Running work cannot be terminated.

        On a free-threaded CPython, all work runs in parallel.

        Args:
            max_workers: How many threads, at least 1; None for four more than the CPUs that this process may use, at
                most 32.
            thread_name_prefix: The prefix of the threads' names.
            initializer: Called in each thread before its first call. If it raises, the run ends with
                `ExecutorBrokenError`.
            initargs: The arguments of the initializer.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.

        Raises:
            ValueError: `max_workers` is below 1.
            TypeError: `initializer` is not callable.
        """
        return cls._made_by(
            "threads",
            terminate,
            resources,
            max_workers=max_workers,
            thread_name_prefix=thread_name_prefix,
            initializer=initializer,
            initargs=initargs,
        )

    @classmethod
    @explains_options(
        **dict.fromkeys((*WORKERS, "max_workers"), "it computes one call at a time; with_processes has max_workers")
    )
    def with_sequential(cls, *, resources: Mapping[str, Any] | None = None) -> Self:
        """A scheduler that computes in this process and thread, one call after the other. For debugging.

        Timers, timeouts and signals are handled between two calls.

        Args:
            resources: What calls share, as in `Scheduler(executor, resources=...)`.
        """
        return cls._made_by("sequential", True, resources)

    @classmethod
    @_max_workers
    def with_loky(
        cls,
        max_workers: int | None = None,
        context: BaseContext | Literal["loky", "loky_init_main", "spawn"] | None = None,
        timeout: Duration | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        env: Mapping[str, str] | None = None,
        terminate: Callable[[Executor], Any] | bool = True,
        resources: Mapping[str, Any] | None = None,
    ) -> Self:
        """A scheduler over processes of loky, joblib's engine. A worker that dies breaks the executor.

        It uses its own pool, not loky's reusable executor, which the end of a run would shut down for other users as
        well.

        Args:
            max_workers: How many processes, at least 1; None for one per CPU that this process may use, as in
                `ProcessPool`.
            context: The start method; see loky.
            timeout: How long a process may be idle before it ends: seconds, a string such as `"5 min"`, or a
                `timedelta`; None for no limit.
            initializer: Called in each process before its first call.
            initargs: The arguments of the initializer.
            env: Environment variables for the processes.
            terminate: As in `Scheduler(executor, terminate=...)`.
            resources: What calls share, as in `Scheduler(executor, resources=...)`.

        Raises:
            MissingExtraError: loky is not installed.
            ValueError: `max_workers` is below 1.
        """
        return cls._made_by(
            "loky",
            terminate,
            resources,
            max_workers=max_workers,
            context=context,
            timeout=timeout,
            initializer=initializer,
            initargs=initargs,
            env=env,
        )
