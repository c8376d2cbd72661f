"""An executor whose calls take virtual time: rehearse a long experiment on many workers in seconds of real time."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from amltk._checks import check_count, check_seconds
from amltk._process import clock
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.executors.light_future import LightFuture
from amltk.testing.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Self

    from amltk.testing.recorded_calls import RecordedCalls
    from amltk.types import Duration

P = ParamSpec("P")
T = TypeVar("T")


class SimulatedFuture(LightFuture[Any]):
    """The outcome of one call of a `SimulatedExecutor`. It can be cancelled while it runs, which frees its worker.

    Attributes:
        worker: The worker that began the call, from `"worker 0"` on; None if none has.
        began: When it began, in virtual seconds; None if it has not.
        ended: When its worker became free again, in virtual seconds; None if it has not.
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
    def execution_info(self) -> ExecutionInfo:
        """The worker as a thread name, and the call's times; virtual time 0 is at `SimulatedExecutor.epoch`."""
        began, ended = (None if at is None else self._owner.epoch + at for at in (self.began, self.ended))
        return ExecutionInfo(thread=self.worker, began=began, ended=ended)

    def running(self) -> bool:
        """Whether a worker is running the call."""
        return self.began is not None and self.ended is None

    def cancel(self) -> bool:
        """Cancel it. If it is waiting, it never begins; if it is running, its worker is free at once.

        Returns:
            False if it had already ended.
        """
        if self.running():
            self._owner.free_worker_of(self)
        self.call = None
        return super().cancel()


class SimulatedExecutor(Executor):
    """Pretends to compute: each call takes as long as you say, in virtual time, on as many workers as you like.

    The program makes the same decisions on outcomes as in the real run; only the hours pass in no time. It needs a
    `VirtualTimeLoop`:

    ```python
    executor = SimulatedExecutor(100, duration=lambda fn, trial: 60 * trial.epochs)
    scheduler = Scheduler(executor)
    ...  # the program subscribes its callbacks
    run_in_virtual_time(scheduler.async_run(timeout=24 * 3600, display=False))
    print(executor.makespan / 3600, "hours,", f"{executor.utilisation:.0%} busy")
    ```

    Calls begin in order of submission. A running call that is cancelled frees its worker at once. No thread
    and no process is started; `shutdown` never waits. Each executor serves one run.

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
        seed: The seed of `scheduler.random` in the run that `from_journal` plays; None if there is none.
        n_ended: How many calls have left a worker: succeeded, failed, or cancelled while running.
        busy: Virtual seconds that those calls took, summed over all workers.
        epoch: The time that `execution_info` gives for virtual time 0, in seconds since the epoch, chosen so that the
            first submission is at its real time. A `Timeline` shows submissions in real time, and workers' times in
            virtual time from there on.
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
        self.seed: int | None = None
        self._seconds: float | None = None if callable(duration) else check_seconds("duration", duration)
        self._duration: Any = duration
        self._outcome = outcome
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = self._last_end = 0.0
        self._free = [f"worker {n}" for n in reversed(range(n_workers))]
        self._waiting: deque[SimulatedFuture] = deque()
        self._shut_down = False
        self._recorded: RecordedCalls | None = None

    @classmethod
    def from_journal(
        cls,
        folder: str | os.PathLike[str],
        n_workers: int | None = None,
        duration: Duration | Callable[..., Duration] | None = None,
        *,
        outcome: Callable[..., Any] | None = None,
    ) -> Self:
        """Plays the calls of a recorded run: each takes as long as it did then, and returns or raises the same.

        This shows how other callbacks would have done on that run, in virtual time: another rule to stop it, fewer
        workers.

        A call is found by the name of its task and by its arguments, whatever its place in the order. Outcomes of
        equal calls come in their order, then the last one again. So the program must propose what was proposed then:
        `scheduler.random.seed(executor.seed)` makes `scheduler.random` draw the same numbers. What was cancelled or
        pending has no outcome, and what has sent messages by `Comm` counts as such. Values are unpickled: play only
        journals that you trust.

        Args:
            folder: The folder of the journal, of a run with any executor. It is only read.
            n_workers: How many calls run at a time, at least 1. None for as many as ran at a time then.
            duration: How long calls take for which the journal has no outcome, as for the class. None to refuse them:
                the submission raises a LookupError.
            outcome: What those calls return or raise, as for the class.

        Raises:
            JournalError: The journal cannot be read, or not all arguments can be loaded; see its subclasses.
            JournalUnsupportedError: Its calls have sent messages, and there is no `duration`.
            TypeError: As for the class.
            ValueError: As for the class.
        """
        from amltk.testing.recorded_calls import RecordedCalls, played_duration, played_outcome  # few programs need it

        recorded = RecordedCalls(folder, is_any_allowed=duration is not None)
        workers = recorded.most_at_once if n_workers is None else n_workers
        other = 0.0 if duration is None else duration
        if not callable(other):
            other = check_seconds("duration", other)
        executor = cls(workers, played_duration(other), outcome=played_outcome(outcome))
        executor._recorded, executor.seed = recorded, recorded.seed
        return executor

    @property
    def makespan(self) -> float:
        """Virtual seconds from the first submission until a call last left its worker."""
        return self._last_end - self._began

    @property
    def utilisation(self) -> float:
        """The share of the makespan for which the workers were busy, from 0 to 1; 0 if no time has passed."""
        return self.busy / (self.n_workers * self.makespan) if self.makespan else 0.0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Give the call to a free worker now, or else to the first that becomes free.

        Raises:
            RuntimeError: After `shutdown`; or when called outside the run's loop, or in a loop without virtual time.
            LookupError: The journal that `from_journal` plays has no outcome of the call.
        """
        if self._shut_down:
            raise RuntimeError("this SimulatedExecutor was shut down; create a new one")
        loop: asyncio.AbstractEventLoop | None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not self._loop or loop is None:
            loop = self._enter(loop)
        played = fn if self._recorded is None else self._recorded.find(fn, args, kwargs)
        future = SimulatedFuture(self, played, args, kwargs)
        if self._free:
            self._begin(future, loop.time())
        else:
            self._waiting.append(future)
        return future

    def _enter(self, loop: asyncio.AbstractEventLoop | None) -> VirtualTimeLoop:
        if not isinstance(loop, VirtualTimeLoop):
            raise RuntimeError(
                f"a SimulatedExecutor accepts calls only in virtual time, not in {loop!r}: use"
                " run_in_virtual_time(scheduler.async_run(...)), and submit on its thread"
            )
        if self._loop is not None:
            raise RuntimeError("this SimulatedExecutor has served another loop; create a new one for each run")
        self._loop = loop
        self._began = self._last_end = loop.time()
        self.epoch = clock.now() - self._began
        return loop

    def _begin(self, future: SimulatedFuture, now: float) -> None:
        """Give the call to a free worker. The call always ends in a later turn of the loop, never within `submit`."""
        assert future.call is not None
        assert self._loop is not None
        future.worker = self._free.pop()
        future.began = now
        seconds = self._seconds
        if seconds is None:
            fn, args, kwargs = future.call
            try:
                seconds = check_seconds("duration", self._duration(fn, *args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - belongs to the future
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
            except BaseException as error:  # noqa: BLE001 - belongs to the future
                self._fail(future, now, error)
                return
        self._leave(future, now)
        future.set_result(result)

    def _fail(self, future: SimulatedFuture, now: float, error: BaseException) -> None:
        self._leave(future, now)
        future.set_exception(error)

    def free_worker_of(self, future: SimulatedFuture) -> None:
        """Free the worker of a running call. Only for `SimulatedFuture`."""
        assert self._loop is not None
        assert future.timer is not None
        future.timer.cancel()
        self._leave(future, self._loop.time())

    def _leave(self, future: SimulatedFuture, now: float) -> None:
        """Free the worker, and give it the call that has waited longest."""
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
            wait: Has no effect: time passes only in the loop, where accepted calls continue.
            cancel_futures: Cancel the calls that no worker has begun.
        """
        self._shut_down = True
        if cancel_futures:
            for future in list(self._waiting):
                future.cancel()
