"""An executor whose calls take virtual time: a long experiment on many workers is rehearsed in little real time."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from amltk import _clock
from amltk._checks import check_count, check_seconds
from amltk.scheduling.executors.light_future import LightFuture
from amltk.scheduling.executors.whereabouts import Whereabouts
from amltk.testing.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.types import Duration

P = ParamSpec("P")
T = TypeVar("T")


class SimulatedFuture(LightFuture[Any]):
    """The outcome of one call of a `SimulatedExecutor`. It can be cancelled while it runs, which frees its worker.

    Attributes:
        worker: Which worker has begun it, from `"worker 0"` on; None if none has.
        began: When that was, in virtual seconds; None if none has.
        ended: When the worker was free again, in virtual seconds; None if it is not.
    """

    def __init__(
        self, owner: SimulatedExecutor, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__()
        self._owner = owner
        self.call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = (fn, args, kwargs)
        self.timer: asyncio.TimerHandle | None = None
        self.worker: str | None = None
        self.began: float | None = None
        self.ended: float | None = None

    @property
    def whereabouts(self) -> Whereabouts:
        """The worker as the name of a thread, and its times as if virtual time had begun with the first submission."""
        began, ended = (None if at is None else self._owner.epoch + at for at in (self.began, self.ended))
        return Whereabouts(thread=self.worker, began=began, ended=ended)

    def running(self) -> bool:
        """Whether a worker is at it."""
        return self.began is not None and self.ended is None

    def cancel(self) -> bool:
        """Cancel it. If it waits, it never begins; if it runs, its worker is free from now on.

        Returns:
            False if it had ended before.
        """
        if self.running():
            self._owner.free_worker_of(self)
        self.call = None
        return super().cancel()


class SimulatedExecutor(Executor):
    """Pretends to compute: a call takes as long as you say, in virtual time, on one of as many workers as you like.

    Whatever a program decides on outcomes, it decides as it would in the real run; only that hours pass in no time. It
    takes a `VirtualTimeLoop`:

    ```python
    executor = SimulatedExecutor(100, duration=lambda fn, trial: 60 * trial.epochs)
    scheduler = Scheduler(executor)
    ...  # the program subscribes its callbacks
    run_in_virtual_time(scheduler.async_run(timeout=24 * 3600, display=False))
    print(executor.makespan / 3600, "hours,", f"{executor.utilisation:.0%} busy")
    ```

    Calls begin in the order of their submission. A running call that is cancelled frees its worker at once. No thread
    and no process is started; `shutdown` never waits. An executor serves one run.

    Args:
        n_workers: How many calls run at a time, at least 1.
        duration: How long each call takes: seconds, a text such as `"1.5 h"`, or a `timedelta`; or what tells it,
            called as `duration(fn, *args, **kwargs)` when a worker begins the call. What it raises is the call's
            exception, at once.
        outcome: Called as `outcome(fn, *args, **kwargs)` when the call ends; what it returns or raises is the call's.
            `operator.call` really calls the function. By default, the result is None.

    Raises:
        TypeError: `n_workers` is no whole number, or `duration` neither a duration nor callable.
        ValueError: `n_workers` is below 1; `duration` is negative or not finite.

    Attributes:
        n_workers: How many workers there are.
        n_ended: How many calls have left a worker: they succeeded, failed, or were cancelled while they ran.
        busy: Virtual seconds that those took, of all workers together.
        epoch: What the virtual time 0 is in `whereabouts`, in seconds since the epoch. The first submission is now; a
            `Timeline` tells submissions in real time, and workers' times in virtual time from there on.
    """

    def __init__(
        self,
        n_workers: int,
        duration: Duration | Callable[..., Duration] = 1.0,
        *,
        outcome: Callable[..., Any] | None = None,
    ) -> None:
        self.n_workers: int = check_count("n_workers", n_workers)
        self.n_ended: int = 0
        self.busy: float = 0.0
        self.epoch: float = 0.0
        self._seconds: float | None = None if callable(duration) else check_seconds("duration", duration)
        self._duration: Any = duration
        self._outcome = outcome
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = self._last_end = 0.0
        self._free = [f"worker {n}" for n in reversed(range(n_workers))]
        self._waiting: deque[SimulatedFuture] = deque()
        self._shut_down = False

    @property
    def makespan(self) -> float:
        """Virtual seconds from the first submission to the last time that a call has left its worker."""
        return self._last_end - self._began

    @property
    def utilisation(self) -> float:
        """Which share of the makespan the workers were busy, from 0 to 1; 0 if no time has passed."""
        return self.busy / (self.n_workers * self.makespan) if self.makespan else 0.0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a free worker begin a call now, or the first one that will be free.

        Raises:
            RuntimeError: After `shutdown`; or this is not the run's loop, or its time is not virtual.
        """
        if self._shut_down:
            raise RuntimeError("this SimulatedExecutor was shut down; make a new one")
        loop = asyncio._get_running_loop()
        if loop is not self._loop or loop is None:
            loop = self._enter(loop)
        future = SimulatedFuture(self, fn, args, kwargs)
        if self._free:
            self._begin(future, loop.time())
        else:
            self._waiting.append(future)
        return future

    def _enter(self, loop: asyncio.AbstractEventLoop | None) -> VirtualTimeLoop:
        if not isinstance(loop, VirtualTimeLoop):
            raise RuntimeError(
                f"a SimulatedExecutor takes calls in virtual time only, not in {loop!r}: use"
                " run_in_virtual_time(scheduler.async_run(...)), and submit on its thread"
            )
        if self._loop is not None:
            raise RuntimeError("this SimulatedExecutor has served another loop; make a new one for each run")
        self._loop = loop
        self._began = self._last_end = loop.time()
        self.epoch = _clock.now() - self._began
        return loop

    def _begin(self, future: SimulatedFuture, now: float) -> None:
        """Have a free worker begin it. Its end comes from the loop in any case, and never from within `submit`."""
        assert future.call is not None
        assert self._loop is not None
        future.worker = self._free.pop()
        future.began = now
        seconds = self._seconds
        if seconds is None:
            fn, args, kwargs = future.call
            try:
                seconds = check_seconds("duration", self._duration(fn, *args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is the future's
                future.timer = self._loop.call_at(now, self._fail, future, now, error)
                return
        end = now + seconds
        future.timer = self._loop.call_at(end, self._end, future, end)

    def _end(self, future: SimulatedFuture, now: float) -> None:
        assert future.call is not None
        result: Any = None
        if self._outcome is not None:
            fn, args, kwargs = future.call
            try:
                result = self._outcome(fn, *args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the future's
                self._fail(future, now, error)
                return
        self._leave(future, now)
        future.set_result(result)

    def _fail(self, future: SimulatedFuture, now: float, error: BaseException) -> None:
        self._leave(future, now)
        future.set_exception(error)

    def free_worker_of(self, future: SimulatedFuture) -> None:
        """Have its worker leave a running call. For the future alone."""
        assert self._loop is not None
        assert future.timer is not None
        future.timer.cancel()
        self._leave(future, self._loop.time())

    def _leave(self, future: SimulatedFuture, now: float) -> None:
        """Have its worker go on with what has waited longest."""
        assert future.began is not None
        assert future.worker is not None
        future.ended = self._last_end = now
        future.call = future.timer = None
        self.n_ended += 1
        self.busy += now - future.began
        self._free.append(future.worker)
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self._begin(waiting, now)
                return

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - the interface's
        """Accept no more calls.

        Args:
            wait: Without effect: time passes in the loop only, where accepted calls go on.
            cancel_futures: Cancel what no worker has begun.
        """
        self._shut_down = True
        if cancel_futures:
            for future in list(self._waiting):
                future.cancel()
