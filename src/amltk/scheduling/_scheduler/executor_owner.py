"""The executor of a scheduler, over all its runs."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from amltk.exceptions import ExecutorShutdownError
from amltk.scheduling.executors.adapter import ExecutorAdapter
from amltk.scheduling.executors.registry import ExecutorSpec, kind_of, workers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.executors.capabilities import Terminator
    from amltk.scheduling.executors.shared import Shared


T = TypeVar("T")


class ExecutorOwner:
    """Has an executor: one that was given, or a fresh one for each run, or one for all runs of a `with` block.

    Owns which executor is the current one and whether it can still be used. Its properties may be read from any thread;
    what changes it is called by one thread at a time, the one that begins or ends a run.

    Args:
        executor: The first executor.
        terminate: As in `Scheduler`.
    """

    def __init__(self, executor: Executor, terminate: Callable[[Executor], Any] | bool) -> None:
        if not isinstance(executor, Executor):
            raise TypeError(
                f"executor={executor!r}: must be a concurrent.futures.Executor, not {type(executor).__name__};"
                " Scheduler.with_processes() makes one for you"
            )
        if not isinstance(terminate, bool) and not callable(terminate):
            raise TypeError(f"terminate={terminate!r}: must be True, False or a function that takes the executor")
        self._executor = executor
        self._kind = kind_of(executor)
        self._terminate = terminate
        self._remake: Callable[[], Executor] | None = None  # set by factories
        self._is_used_up = False
        self._is_kept = False  # between runs
        self._backend: ExecutorAdapter | None = None  # of the run
        self._shared: WeakSet[Shared[Any]] = WeakSet()

    @property
    def executor(self) -> Executor:
        """The current executor. A scheduler made by a factory has a new one for each run."""
        return self._executor

    @property
    def n_workers(self) -> int | None:
        """How many calls the executor can compute at a time right now; adaptive clusters change it. None if unknown."""
        return workers_of(self._executor)

    @property
    def executor_kind(self) -> ExecutorSpec:
        """The capabilities of the executor, and how it is terminated."""
        return self._kind

    def share(self, value: T) -> Shared[T]:
        """Share an object that many calls need: put it once where all workers find it. At any time, from any thread.

        ```python
        data = scheduler.share(pandas.read_parquet("all.parquet"))
        for lr in (0.1, 0.01):
            train.submit(lr, data)
        ```

        As an argument of a call, the handle stands for the object; it may be used wherever a future may. Workers on
        this machine map the object: its arrays and tables are read-only views of one copy for all, and it is unpickled
        once in each worker. Threads have the object itself. If you keep only the handle, there is one copy in total.

        Returns:
            The handle. The object is shared until nothing refers to the handle any more, or it is closed, also by
            `close` of the scheduler or the end of its `with` block. Submitting it later raises `SharedObjectError`.

        Raises:
            OSError: There is not enough memory.
            Exception: The object cannot be pickled.
        """
        from amltk.scheduling.executors.shared import Shared  # few programs need it

        can = self._kind.capabilities
        shared = Shared(value, is_here=can.shares_objects, has_main=self._kind.name == "processes")
        self._shared.add(shared)
        return shared

    def _close_shared(self) -> None:
        for shared in list(self._shared):
            shared.close()

    def _renew_executor(self) -> None:
        """Have a usable executor.

        Raises:
            ExecutorShutdownError: The last run has shut the executor down, and nothing can make another one.
        """
        if not self._is_used_up:
            return
        if self._remake is None:
            raise ExecutorShutdownError(
                f"{self._executor!r} was shut down by the previous run; use a factory such as"
                " Scheduler.with_processes(), give a new executor, or keep it open with terminate=False"
            )
        self._executor = self._remake()
        self._is_used_up = False

    def _lend_executor(self) -> ExecutorAdapter:
        """The executor for a run, which ends it unless it is kept."""
        self._backend = self._adapt_executor(keep=self._is_kept)
        return self._backend

    def _note_use_of_executor(self) -> None:
        """Note that the run is over, and has ended the executor unless it is kept."""
        is_kept = self._backend is not None and self._backend.keep and not self._backend.is_used_up
        self._is_used_up = self._terminate is not False and not is_kept

    def _adapt_executor(self, *, keep: bool) -> ExecutorAdapter:
        terminators: dict[object, Terminator | None] = {True: self._kind.terminate, False: None}
        terminator = terminators[self._terminate] if isinstance(self._terminate, bool) else self._terminate
        is_own = self._terminate is True
        return ExecutorAdapter(self._executor, self._kind.capabilities, terminator, is_own=is_own, keep=keep)

    def _end_executor(self, *, at_once: bool) -> None:
        """End the executor between two runs, unless it was ended before or is to stay open."""
        if self._is_used_up or self._terminate is False:
            return
        self._is_used_up = True
        backend = self._adapt_executor(keep=False)
        if at_once:
            backend.kill()
        else:
            backend.close()
