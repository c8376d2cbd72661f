"""Limit the resources of a call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from amltk.exceptions import CpuTimeLimitError, MemoryLimitError, TaskLimitError, WallTimeLimitError
from amltk.scheduling.events import Event, take_names
from amltk.scheduling.executors.process_pool.limits import CallLimits
from amltk.scheduling.plugin import PassingPlugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.call import Call, Outcome
    from amltk.scheduling.future import Future
    from amltk.scheduling.task import Task
    from amltk.types import Duration


class Limits(PassingPlugin):
    """Ends calls that take too long or use too much: each fails with an error and an event of its own.

    On the executor of `Scheduler.with_processes` the pool enforces the limits: it ends the worker with all processes
    that the worker has started, and replaces it. On other executors each call is computed in a process of its own,
    which its worker starts and ends: that takes about a tenth of a second per call, and arguments and result are sent
    once more. A thread cannot be ended, so executors that compute in this process's threads are refused. Not available
    on Windows.

    The event comes before the call's `@exception`; `on_exception` decides what the error does to the run.

    Args:
        wall_time: How long the call may take from the moment that it is begun: seconds, a text such as `"90 s"` or
            `"1.5 h"`, or a `timedelta`; None for no limit.
        cpu_time: The same of CPU, which the worker and the processes that it has started have used since the call
            began. `CallLimits` says what is counted.
        memory: Bytes of memory of the worker and of the processes that it has started, or a string such as `"2 GB"`
            (1000³ bytes), `"2 GiB"` (1024³); None for no limit. What they share counts once. A process that has done
            nothing yet takes some 20 MB.

    Raises:
        ValueError: No limit is given, or one is not above 0, not finite or has no such unit.
        TypeError: A limit is neither a number nor a text, nor a `timedelta` where it is a duration.
    """

    name = "limits"

    WALL_TIME_LIMIT_REACHED: Event[[Future[Any], WallTimeLimitError], Any] = Event("wall-time-limit-reached")
    """A call took longer than `wall_time`. Callbacks take the future and the error."""

    CPU_TIME_LIMIT_REACHED: Event[[Future[Any], CpuTimeLimitError], Any] = Event("cpu-time-limit-reached")
    """A call used more CPU time than `cpu_time`. Callbacks take the future and the error."""

    MEMORY_LIMIT_REACHED: Event[[Future[Any], MemoryLimitError], Any] = Event("memory-limit-reached")
    """A call used more memory than `memory`. Callbacks take the future and the error."""

    def __init__(
        self,
        *,
        wall_time: Duration | None = None,
        cpu_time: Duration | None = None,
        memory: float | str | None = None,
    ) -> None:
        self.limits: CallLimits = CallLimits(wall_time=wall_time, cpu_time=cpu_time, memory=memory)
        if not self.limits:
            raise ValueError("Limits() has no limit: set wall_time, cpu_time or memory")
        self._reached: dict[type[TaskLimitError], Event[..., Any]] = {
            WallTimeLimitError: self.WALL_TIME_LIMIT_REACHED,
            CpuTimeLimitError: self.CPU_TIME_LIMIT_REACHED,
            MemoryLimitError: self.MEMORY_LIMIT_REACHED,
        }

    def attach_task(self, task: Task[..., Any]) -> None:
        """Limit the calls of this task. One plugin may serve several tasks.

        Raises:
            ValueError: Its scheduler computes in threads, or in interpreters of this process, which cannot be ended.
        """
        kind = task.scheduler.executor_kind
        if kind.capabilities.in_process and not kind.capabilities.in_loop:
            raise ValueError(
                f"Limits cannot end a call of {task.name} on {task.scheduler.executor!r}: Python cannot end a"
                " thread. Use Scheduler.with_processes(), or leave out the limits"
            )

    def events(self) -> list[Event[..., Any]]:
        """The three events above."""
        return list(self._reached.values())

    def prepare(self, call: Call) -> bool:
        """Compute the call within the limits."""
        if call.task.scheduler.executor_kind.capabilities.limits_calls:
            call.limits = self.limits
        else:
            call.function = LimitedFunction(call.function, self.limits)
        call.on_outcome(partial(self._tell, call))
        return True

    def _tell(self, call: Call, outcome: Outcome) -> None:
        if isinstance(outcome.error, TaskLimitError):
            call.task.emit(self._reached[type(outcome.error)], call.future, outcome.error)

    def status(self) -> str:
        """The limits."""
        limits = self.limits
        parts = []
        if limits.wall_time is not None:
            parts.append(f"wall time {limits.wall_time:g} s")
        if limits.cpu_time is not None:
            parts.append(f"CPU {limits.cpu_time:g} s")
        if limits.memory is not None:
            parts.append(f"memory {limits.memory / 1e6:,.0f} MB")
        return " · ".join(parts)


class LimitedFunction:
    """A function that is computed in a process of its own, within limits, for executors that cannot enforce them.

    Args:
        function: The function.
        limits: The limits of one call.
    """

    def __init__(self, function: Callable[..., Any], limits: CallLimits) -> None:
        self.__qualname__: str = take_names(self, function)
        self.function = function
        self.limits = limits

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute the function, and end the process.

        Raises:
            TaskLimitError: The call reached a limit.
            BaseException: Whatever the function raised.
        """
        from amltk.scheduling.executors.process_pool.pool import ProcessPool

        pool = ProcessPool(1, "spawn")
        try:
            return pool.submit_limited(self.limits, self.function, *args, **kwargs).result()
        finally:
            pool.kill_workers()
