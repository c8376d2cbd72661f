"""Retry failed calls."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk._checks import as_whole, check_between, check_count, check_seconds
from amltk.exceptions import DependencyError, ResourceUnavailableError, WorkerLostError
from amltk.scheduling.events import Event
from amltk.scheduling.plugin import PassingPlugin

if TYPE_CHECKING:
    import asyncio

    from amltk.scheduling.call import Call, Outcome
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.task import Task
    from amltk.types import Duration


_NEVER = (BrokenExecutor, DependencyError, ResourceUnavailableError)
"""What another attempt would end with as well."""


class Retry(PassingPlugin):
    """Has a call that failed computed again; to the outside it is one submission with one future and one ending.

    Exceptions of the function and lost workers are counted separately. A lost worker is not the call's fault, so the
    call is retried at once; after an exception it is retried after a wait, which grows by `factor` with each failure of
    the call. Waits are timers of the run's loop. Once a stop is requested, no further attempt begins: the last failure
    is the outcome. Errors that break the executor are never retried, nor are those that a `Memo` has kept, nor a
    `DependencyError` or a `ResourceUnavailableError`. Where futures were submitted as arguments, each attempt is given
    their results.

    `@retry` is emitted before each further attempt, and `@gave-up` before the `@exception` of a call that has used up
    its attempts. Other plugins follow each attempt.

    Args:
        on: Which exceptions of the function are tried again: a class or a tuple of classes. A group is matched by
            `ExceptionGroup`, as in `except`, and not by the classes of what is in it.
        attempts: How often the function may be begun, counting what it raises, at least 1.
        lost_workers: How many lost workers a call survives, at least 0. Or one number for each class of loss, such as
            `{WorkerOutOfMemoryError: 0, WorkerPreemptedError: 20, WorkerLostError: 3}`: for each loss, the first class
            that it belongs to counts, apart from the others. A loss of none of these classes is not survived.
        wait: How long to wait before the second attempt: seconds, a text such as `"1 min"`, or a `timedelta`.
        factor: What the wait is multiplied with each time, at least 1.
        max_wait: What it grows to at most, given likewise.
        jitter: Up to which share a wait is shortened at random, from 0 to 1, so that calls which failed together are
            not tried again together.
        seed: For the random numbers; None for others each time.

    Raises:
        ValueError: A number is out of its range.
        TypeError: An argument has a type that is not allowed.
    """

    name = "retry"

    RETRY: Event[[Future[Any], BaseException, int], Any] = Event("retry")
    """A call will be retried. Callbacks take the future, the error, and the number of the next attempt, from 2 on."""

    GAVE_UP: Event[[Future[Any], BaseException, int], Any] = Event("gave-up")
    """A call will not be retried any more. Callbacks take the future, the error, and the number of attempts made."""

    def __init__(
        self,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
        *,
        attempts: int = 3,
        lost_workers: int | Mapping[type[WorkerLostError], int] = 3,
        wait: Duration = 0.1,
        factor: float = 2.0,
        max_wait: Duration = 60.0,
        jitter: float = 0.5,
        seed: int | None = None,
    ) -> None:
        self.on: tuple[type[Exception], ...] = _check_classes(on)
        self.attempts: int = check_count("attempts", attempts)
        self.lost_workers: int | dict[type[WorkerLostError], int] = _check_lost(lost_workers)
        self.wait: float = check_seconds("wait", wait)
        self.factor: float = check_between("factor", factor, 1)
        self.max_wait: float = check_seconds("max_wait", max_wait)
        self.jitter: float = check_between("jitter", jitter, 0, 1)
        self._random = random.Random(seed if (number := as_whole(seed)) is None else number)
        self._waiting: dict[_Attempts, asyncio.Future[bool]] = {}
        self._subscriptions: dict[Task[..., Any], Subscription] = {}
        self._detached: set[Task[..., Any]] = set()
        self._retried = self._given_up = 0

    def attach_task(self, task: Task[..., Any]) -> None:
        """Try calls of this task again. One plugin may serve several tasks."""
        self._detached.discard(task)
        if task not in self._subscriptions:
            on_finishing = task.scheduler.on_finishing
            self._subscriptions[task] = on_finishing.register(partial(self._give_up_waiting, task), hidden=True)

    def detach_task(self, task: Task[..., Any]) -> None:
        """Try calls that are submitted from now on no more again."""
        self._detached.add(task)
        self._follow_no_more(task)

    def _follow_no_more(self, task: Task[..., Any]) -> None:
        """End the subscription of a task that was detached, once nothing waits for another attempt."""
        if task in self._detached and all(a.call.task is not task for a in list(self._waiting)):
            self._detached.discard(task)
            self._subscriptions.pop(task).end()

    def events(self) -> list[Event[..., Any]]:
        """The two events above."""
        return [self.RETRY, self.GAVE_UP]

    def prepare(self, call: Call) -> bool:
        """Follow the call."""
        call.on_outcome(partial(self._review, _Attempts(call)))
        return True

    def _review(self, attempts: _Attempts, outcome: Outcome) -> asyncio.Future[bool] | None:
        error = outcome.error
        if attempts.call.answer is not None:
            return None  # it was not computed, and would be the same once more
        if error is None or isinstance(error, _NEVER) or not isinstance(error, (WorkerLostError, *self.on)):
            return None
        if isinstance(error, WorkerLostError):
            attempts.note_lost(error, self._class_of(error))
        else:
            attempts.note_failed(error)
        task = attempts.call.task
        if self._are_used_up(attempts, error) or not task.scheduler.running():
            self._give_up(attempts)
            return None
        task.emit(self.RETRY, attempts.future, error, attempts.call.attempt + 1)
        self._retried += 1
        return self._again(attempts, self._pause(attempts, error))

    def _are_used_up(self, attempts: _Attempts, error: BaseException) -> bool:
        if isinstance(error, WorkerLostError):
            return attempts.lost[self._class_of(error)] > self._survived(error)
        return attempts.failed >= self.attempts

    def _class_of(self, error: WorkerLostError) -> type[WorkerLostError]:
        """The class under which a loss is counted."""
        if isinstance(self.lost_workers, int):
            return WorkerLostError
        return next((cls for cls in self.lost_workers if isinstance(error, cls)), WorkerLostError)

    def _survived(self, error: WorkerLostError) -> int:
        """How many losses of its class a call survives."""
        if isinstance(self.lost_workers, int):
            return self.lost_workers
        return self.lost_workers.get(self._class_of(error), 0)

    def _pause(self, attempts: _Attempts, error: BaseException) -> float:
        """How many seconds to wait before the next attempt."""
        if isinstance(error, WorkerLostError):
            return 0.0
        longest = min(self.wait if attempts.failed == 1 else self.factor * attempts.longest, self.max_wait)
        attempts.longest = longest
        return longest * (1 - self.jitter * self._random.random())

    def _again(self, attempts: _Attempts, pause: float) -> asyncio.Future[bool]:
        """A future that is done with True after the pause, or with False if the run ends first."""
        loop = attempts.future.get_loop()
        hold = self._waiting[attempts] = loop.create_future()

        def go_on() -> None:
            if not hold.done():  # it may have been done in the same turn of the loop
                hold.set_result(True)

        timer = attempts.call.task.scheduler.current_run.set_timer(pause, go_on)

        def forget(_: object) -> None:
            timer.cancel()
            self._waiting.pop(attempts, None)
            self._follow_no_more(attempts.call.task)

        hold.add_done_callback(forget)
        return hold

    def _give_up_waiting(self, task: Task[..., Any]) -> None:
        for attempts, hold in list(self._waiting.items()):
            if attempts.call.task is task and not hold.done():
                hold.set_result(False)
                self._give_up(attempts)

    def _give_up(self, attempts: _Attempts) -> None:
        self._given_up += 1
        attempts.call.task.emit(self.GAVE_UP, attempts.future, attempts.error, attempts.call.attempt)

    def status(self) -> str:
        """How many attempts were retries, and how many calls gave up."""
        waiting = f" · waiting {len(self._waiting)}" if self._waiting else ""
        return f"retried {self._retried} · gave up {self._given_up}{waiting}"


class _Attempts:
    """The attempts of one call so far."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.failed = 0
        self.lost: Counter[type[WorkerLostError]] = Counter()
        self.longest = 0.0  # the upper bound of the last wait
        self.error: BaseException = RuntimeError("no attempt has failed")

    @property
    def future(self) -> Future[Any]:
        assert self.call.future is not None  # it was submitted before it could fail
        return self.call.future

    def note_lost(self, error: WorkerLostError, cls: type[WorkerLostError]) -> None:
        self.error = error
        self.lost[cls] += 1

    def note_failed(self, error: BaseException) -> None:
        self.error = error
        self.failed += 1


def _check_lost(given: Any) -> int | dict[type[WorkerLostError], int]:
    if not isinstance(given, Mapping):
        return check_count("lost_workers", given, least=0)
    for cls in given:
        if not (isinstance(cls, type) and issubclass(cls, WorkerLostError)):
            raise TypeError(f"lost_workers: the key {cls!r} must be WorkerLostError or a subclass")
    return {cls: check_count(f"lost_workers[{cls.__name__}]", n, least=0) for cls, n in given.items()}


def _check_classes(on: Any) -> tuple[type[Exception], ...]:
    classes: tuple[Any, ...] = on if isinstance(on, tuple) else (on,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Exception)):
            raise TypeError(f"on={on!r}: must be Exception, a subclass, or a tuple of such classes")
    return classes
