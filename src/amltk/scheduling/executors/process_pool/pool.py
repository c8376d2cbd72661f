"""The pool of local processes: its public interface."""

from __future__ import annotations

import atexit
import os
import weakref
from concurrent.futures import Executor
from inspect import iscoroutinefunction
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from amltk._checks import check_bytes, check_optional_bytes, check_optional_count, check_optional_seconds, check_seconds
from amltk._process.cpus import usable_cpus
from amltk._shield import shielded
from amltk.scheduling.executors._transfer.descriptors import know_connections
from amltk.scheduling.executors.process_pool._child.initializer import Initializer
from amltk.scheduling.executors.process_pool._engine.engine import Engine
from amltk.scheduling.executors.process_pool._system.memory_size import usable_memory
from amltk.scheduling.executors.process_pool._workers.forking import is_forked_for_pool
from amltk.scheduling.executors.process_pool.future import KeepingFuture, PoolFuture
from amltk.scheduling.executors.process_pool.limits import CallLimits
from amltk.scheduling.executors.process_pool.options import AUTO, EXIT_SECONDS, METHODS, WorkerOptions, check_preload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

    from amltk.scheduling.executors.process_pool.binding import Binding
    from amltk.types import Duration

P = ParamSpec("P")
T = TypeVar("T")

know_connections()

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class ProcessPool(Executor):
    """Computes in local processes; a lost process fails only the call that it ran, and is replaced. Linux and macOS.

    Workers are fresh interpreters, started on demand from a small process that is started first. No
    `if __name__ == "__main__":` is needed: functions and classes of `__main__`, of a notebook and of closures are sent
    by value, once per worker, and again when they or the globals of `__main__` that they use are redefined.

    Numerical libraries use as many threads in each worker as it has CPUs: `OMP_NUM_THREADS` is set to the number of
    CPUs that this process may use, divided by `max_workers`, unless it is already set.

    Args:
        max_workers: How many processes, at least 1; None for one for each CPU that this process may use: no more than
            its affinity, the quota of its container, what Slurm gives the job and `LOKY_MAX_CPU_COUNT` allow;
            `PYTHON_CPU_COUNT`, which CPython knows from 3.13 on, overrides all of that.
        mp_context: How they are started. None or `"forkserver"` as above, `"spawn"` each as a fresh interpreter,
            `"fork"` as copies of this process, with all that a lock held by another thread can do to them. Or a context
            of `multiprocessing`, whose start method is taken.
        initializer: Called in each worker before its first call. If it raises in three workers in succession, the
            pool is broken: all calls fail with `PoolBrokenError`, whose cause has the traceback.
        initargs: The arguments of the initializer, pickled now. They may hold locks, queues and shared values that
            `multiprocessing` makes, of the context by which workers are started or of `"forkserver"`.
        max_tasks_per_child: After how many calls a worker is replaced; None for never.
        preload: Which modules are imported once, ahead of the workers, by a process that the workers are then forked
            from: however many workers there are, there is one import, and a worker that replaces another one is ready
            in milliseconds. `"auto"` for the modules that calls turn out to need, a list of names for these and no
            others, `()` for none. A module that leaves a thread, an event loop, a connection, a process or an open
            file behind cannot be imported ahead: the log names it, and workers import it themselves. On Linux, with
            `"forkserver"`; elsewhere each worker imports.
        exit_timeout: How long a worker may take to end, for its threads, `atexit` handlers and the like: seconds, a
            text such as `"1 min"`, or a `timedelta`. One that takes longer is killed, and a warning says what it was
            waiting for.
        idle_timeout: After how long without a call a worker ends, so that its memory is free; None for never: seconds,
            a text such as `"5 min"`, or a `timedelta`. It ends after that time at the earliest and twice that time at
            the latest; a later call starts another one.
        max_worker_memory: How much memory a worker may have between two calls, in bytes or as a text such as `"4 GB"`;
            None for no limit. One that has more, even after garbage collection, is replaced once its call has ended:
            memory that a library leaks is freed, and no call is lost. It is checked at most once a second. `Limits`
            limits the memory of a call while it runs.
        shared_memory: How much shared memory may be used at most: bytes, or a text such as `"4 GB"`. Buffers of
            arguments and results, such as those of arrays and DataFrames, of 1 MB or more cross in it: the receiver
            uses them where they are. Memory that is no longer used is reused; up to a quarter of this is kept for that,
            and 4 GB at most. What does not fit goes through sockets, which is slower. None for a quarter of the memory
            that this process may use, 0 for no shared memory. On Linux; elsewhere there is none.

    A process that is forked from this one has nothing of the pool: to submit there, and to ask for outcomes that were
    not there yet, raises `RuntimeError`, and to shut it down does nothing. Make another pool there.

    Raises:
        ValueError: `max_workers` or `max_tasks_per_child` is below 1, or `mp_context` is unknown.
        TypeError: An argument has a type that is not allowed, or the initializer or something in `initargs` cannot be
            pickled; the message names it.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        preload: Iterable[str] | Literal["auto"] = AUTO,
        exit_timeout: Duration = EXIT_SECONDS,
        idle_timeout: Duration | None = None,
        max_worker_memory: float | str | None = None,
        shared_memory: int | str | None = None,
    ) -> None:
        workers = check_optional_count("max_workers", max_workers)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer={initializer!r}: must be callable, or None")
        if iscoroutinefunction(initializer):
            raise TypeError(
                f"initializer={initializer!r}: must be a plain function, not an `async def`: no worker would await it;"
                " it may call asyncio.run()"
            )
        self._max_workers = workers if workers is not None else usable_cpus()
        method = _method(mp_context)
        self._engine = Engine(
            self._max_workers,
            check_optional_count("max_tasks_per_child", max_tasks_per_child),
            WorkerOptions(
                method,
                _current_folder(),
                None if initializer is None else Initializer(initializer, tuple(initargs), forks=method == "fork"),
                check_preload(preload, method),
                check_seconds("exit_timeout", exit_timeout),
                check_optional_seconds("idle_timeout", idle_timeout, above_zero=True),
                check_optional_bytes("max_worker_memory", max_worker_memory),
                usable_memory() // 4 if shared_memory is None else check_bytes("shared_memory", shared_memory),
            ),
        )
        self._future: type[PoolFuture] = PoolFuture
        _engines.add(self._engine)
        # A pool without references finishes its calls, and ends.
        self._finalizer = weakref.finalize(self, self._engine.close, cancel=False)
        self._finalizer.atexit = False

    @shielded
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> PoolFuture:
        """Submit `fn(*args, **kwargs)`. If something cannot be pickled, the future fails with a `TypeError` naming it.

        Raises:
            PoolBrokenError: No worker can be started or initialised.
            RuntimeError: The pool was shut down.
        """
        call = self._future(self._engine, fn, args, kwargs)
        self._engine.accept(call)
        return call

    @shielded
    def submit_limited(
        self, limits: CallLimits, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> PoolFuture:
        """Submit `fn(*args, **kwargs)` with limits.

        A call that exceeds one fails with `WallTimeLimitError`, `CpuTimeLimitError` or `MemoryLimitError`; its worker
        is ended with all processes that it has started, and replaced.

        Raises:
            TypeError: `limits` are no `CallLimits`.
            PoolBrokenError: No worker can be started or initialised.
            RuntimeError: The pool was shut down.
        """
        if not isinstance(limits, CallLimits):
            raise TypeError(f"limits={limits!r}: must be amltk.scheduling.executors.CallLimits(...)")
        call = self._future(self._engine, fn, args, kwargs, limits or None)
        self._engine.accept(call)
        return call

    @shielded
    def submit_bound(
        self,
        binding: Binding | None,
        limits: CallLimits | None,
        fn: Callable[P, T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> PoolFuture:
        """Submit `fn(*args, **kwargs)` to a worker that has certain devices, and no others, for its whole life.

        No two workers exist at the same time that have the same device, unless all of them share it. Used by a run.

        Args:
            binding: The devices; None for those of this process.
            limits: What it may use; None for no limits.
            fn: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            PoolBrokenError: No worker can be started or initialised.
            RuntimeError: The pool was shut down.
        """
        call = self._future(self._engine, fn, args, kwargs, limits or None)
        if binding is not None:
            call.binding = binding
        self._engine.accept(call)
        return call

    def keep_pickles(self, on: bool) -> None:
        """Whether futures of calls that are submitted from now on keep the pickles of results. Used by a run."""
        self._future = KeepingFuture if on else PoolFuture

    def measure_calls(self, on: bool) -> None:
        """Whether workers measure the calls that they get from now on: `execution_info` has what they used."""
        self._engine.measure_calls(on)

    def when_left(self, call: PoolFuture, fn: Callable[[], object]) -> None:
        """Call `fn` when the worker has ended that was computing a call which was cancelled; else at once.

        It may be called on any thread, and must be quick.
        """
        self._engine.when_left(call, fn)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], chunksize: int = 1, **options: Any) -> Iterator[T]:
        """Like `Executor.map`.

        Args:
            fn: The function.
            *iterables: Its arguments.
            chunksize: Checked as in the standard library, but has no effect: short calls are sent together anyway.
            **options: `timeout`, and `buffersize` from CPython 3.14 on.

        Raises:
            ValueError: `chunksize` is below 1.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize={chunksize!r}: must be at least 1")
        return super().map(fn, *iterables, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls, and end when all accepted calls have ended.

        Args:
            wait: Return only when everything has ended and no process is left.
            cancel_futures: Cancel the calls that have not begun.
        """
        self._engine.close(cancel=cancel_futures)
        if wait:
            self._engine.join()

    @shielded
    def kill_workers(self) -> None:
        """Cancel calls that have not begun, kill the workers and all their descendants, and wait until they are gone.

        Running calls fail with `WorkerLostError`.
        """
        self._engine.kill()

    def attach(self, loop: asyncio.AbstractEventLoop, gather: Callable[[Callable[[], None]], None]) -> bool:
        """Let a loop send calls and receive outcomes, which saves a thread switch for each. Used by a run.

        Outcomes are then set on the loop's thread, or on the pool's own while the loop is busy.

        Args:
            loop: The loop; this must be called on its thread.
            gather: Called with a function that sets the outcomes of futures; it calls that, and handles what it raises.

        Returns:
            True if the loop does so until `detach` is called; False if another loop does, or this one cannot.
        """
        return self._engine.attach(loop, gather)

    def detach(self) -> None:
        """Undo `attach`, on the loop's thread."""
        self._engine.detach()

    def expect_end(self) -> None:
        """Stop waiting long for workers that do not become ready, since the run is about to end. Used by a run.

        A worker then has ten seconds. After that the pool is broken, which ends the calls that are waiting.
        """
        self._engine.expect_end()

    @shielded
    def running_calls(self) -> list[PoolFuture]:
        """The calls that workers are running now; takes the same time however many calls are waiting."""
        return self._engine.running_calls()

    @property
    def worker_pids(self) -> list[int]:
        """The process IDs of the current workers."""
        return self._engine.pids()

    @property
    def _broken(self) -> bool:
        """The attribute of the standard library's executors."""
        return self._engine.broken is not None

    def __repr__(self) -> str:
        return f"ProcessPool(max_workers={self._max_workers})"


def _current_folder() -> str | None:
    try:
        return os.getcwd()  # a string, since it is sent to workers
    except OSError:
        return None  # it was removed: workers start in the folder of this process


def _method(mp_context: Any) -> str:
    method = mp_context.get_start_method() if isinstance(mp_context, BaseContext) else mp_context or "forkserver"
    if method not in METHODS:
        raise ValueError(f"mp_context={mp_context!r}: must be one of {', '.join(map(repr, METHODS))}, or None")
    return str(method)


def _note_fork() -> None:
    is_worker = is_forked_for_pool()
    for engine in list(_engines):
        engine.note_fork(is_worker=is_worker)
    if is_worker:  # it closes the engines' descriptors itself: their numbers will be those of others
        _engines.clear()


os.register_at_fork(after_in_child=_note_fork)


@atexit.register
def _finish() -> None:
    """Let pools that were not shut down finish their calls before Python exits, as the standard library does."""
    for engine in list(_engines):
        engine.close(cancel=False)
    for engine in list(_engines):
        engine.join()
