"""The future that `submit` returns."""

from __future__ import annotations

import asyncio
import math
import weakref
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from amltk._checks import check_between
from amltk.scheduling._nested import replaced
from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.execution_info import execution_info

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future as Work
    from contextvars import Context

    from amltk.scheduling.call import Call

    Observer = Callable[["Future[Any]", tuple[Any, ...], dict[str, Any]], object]
    """Called for each attempt, before its events, with the call that the executor was given and its arguments."""

R = TypeVar("R")


# Looked up once: `super()` would be a tenth of the cost of a submission.
_init = asyncio.Future.__init__
_set_result = asyncio.Future.set_result
_set_exception = asyncio.Future.set_exception


class Canceller(Protocol):
    """Carries out the cancellation of a future: the run that it belongs to."""

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel the future; return whether that was still possible."""
        ...

    def note_waiter(self, future: Future[Any]) -> None:
        """Note that the future is awaited."""
        ...

    def prioritize(self, future: Future[Any], priority: float) -> bool:
        """Change the priority of the call; return whether it waits for its turn."""
        ...


class RunLink:
    """Leads from futures to the run that they belong to, until it is over: one that is kept must not keep the run.

    Attributes:
        run: The run; None once it is over.
    """

    __slots__ = ("run",)

    def __init__(self, run: Canceller) -> None:
        self.run: Canceller | None = run


class Future(asyncio.Future[R]):
    """The outcome of one submission: an `asyncio.Future` that can be awaited, cancelled and inspected.

    It ends right before the callbacks of its events run, on the thread of the run's loop. Made by `submit`.

    Attributes:
        function: The function that was submitted.
        args: The positional arguments that were submitted, before plugins changed them. A future among them is one
            here as well, though the function receives its result.
        number: Its place in the order of the scheduler's submissions, over all runs, starting at 0; -1 if it was
            refused, or, in a run with a journal, until the run has taken what another thread has submitted.
        task: The `Task` through which it was submitted, or None.
        call: The call as the task's plugins see it; None without plugins, and after the callbacks of its last event.
        work: The executor's own future; None until the executor has it, and after the callbacks of its last event.
    """

    __slots__ = ("_attempt", "_kwargs", "_run", "args", "call", "function", "number", "task", "work")

    is_dependent: bool = False
    """Whether there are futures among its arguments."""

    def __init__(  # noqa: PLR0917 - by position, which takes less time
        self,
        run: RunLink,
        task: Any,
        function: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        call: Call | None = None,
    ) -> None:
        _init(self, loop=loop)
        self._run: RunLink = run
        self.task: Any = task  # a Task, which is a layer above
        self.function: Callable[..., R] = function
        self.args: tuple[Any, ...] = args
        self._kwargs: dict[str, Any] | None = kwargs or None  # an empty dict takes as much memory as a small one
        self.number: int = -1  # assigned by `PendingCalls`
        self.call: Call | None = call
        self.work: Work[R] | None = None

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments that were submitted, before plugins changed them."""
        return {} if self._kwargs is None else self._kwargs

    @property
    def dependencies(self) -> tuple[Future[Any], ...]:
        """The futures among its arguments, each once: their calls are computed first, and their results are passed.

        Once a call that takes the result of this one has ended, those are left out that nothing else has kept.
        """
        return ()

    @property
    def attempt(self) -> int:
        """How often its computation was begun: more than once by a `Retry`, or if an earlier session saw no end."""
        return getattr(self, "_attempt", 1)

    def note_attempt(self, number: int) -> None:
        """Note that its computation is begun once more. For the run only."""
        self._attempt: int = number

    @property
    def label(self) -> str:
        """A short description of the call for people: `train('mnist', lr=0.1, depth=3)`.

        One line of at most 100 characters, computed on each access. Large values are shown by type and size.
        """
        from amltk._labels import call_label  # few programs need it

        return call_label(task_name(self), self.args, self.kwargs)

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - asyncio's interface
        """Cancel the call: if it has not begun it never does. `@future-cancelled` follows.

        A running call is terminated if the executor can do that; otherwise it runs on and its outcome is dropped. May
        be called from any thread; from threads other than the loop's it takes effect a little later.

        Returns:
            False if the future had ended before.
        """
        run = self._run.run  # read once: the run may end on the loop's thread meanwhile
        return run is not None and not self.done() and run.cancel(self)

    def set_priority(self, priority: float) -> bool:
        """Change the priority of the call while it waits for resources or for its turn.

        May be called from any thread; from threads other than the loop's it takes effect a little later.

        Args:
            priority: As `priority=` of `Scheduler.task`: of the calls that wait, those with the highest come first.

        Returns:
            False if it does not wait any more: it has ended, or the executor has it.

        Raises:
            TypeError: `priority` is no number.
            ValueError: It is not finite.
        """
        number = check_between("priority", priority, -math.inf)
        run = self._run.run
        return run is not None and not self.done() and run.prioritize(self, number)

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Call `fn` with this future, through the loop, when it has ended; as `await` does."""
        run = self._run.run
        if run is not None and not self.done():
            run.note_waiter(self)
        super().add_done_callback(fn, context=context)

    def result(self) -> R:
        """The result of the call.

        Raises:
            asyncio.InvalidStateError: The call has not ended.
            asyncio.CancelledError: The call was cancelled.
            BaseException: What the function raised.
        """
        if not self.done():
            raise asyncio.InvalidStateError(
                f"the call {self.label} has not ended: take its result in a callback of @result"
                " (task.on_result) or @future-result, or await the future in an `async def` callback"
            )
        try:
            return super().result()
        finally:
            del self  # the traceback of the exception refers to this frame, and so would keep the future

    def set_result(self, result: R) -> None:  # noqa: ARG002 - asyncio's interface
        """Refused: only the run sets the outcome of a submission.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            f"the outcome of the call {self.label} can be set by the executor only; call cancel() to discard it"
        )

    def set_exception(self, exception: type | BaseException) -> None:
        """Refused, as `set_result` is."""
        self.set_result(exception)  # type: ignore[arg-type]

    def is_of(self, run: RunLink) -> bool:
        """Whether it was submitted in this run."""
        return self._run is run

    def as_argument(self) -> R:
        """This future, for type checkers: as an argument it stands for its result, and so it is typed as that.

        ```python
        training.submit(preparing.submit(path).as_argument())
        ```
        """
        return self  # type: ignore[return-value] # see above

    def mark_cancelled(self) -> None:
        """Set the future to cancelled, without notifying anyone. For the run only."""
        super().cancel()

    def succeed(self, result: R) -> None:
        """Set the result. For the run only."""
        _set_result(self, result)

    def fail(self, error: BaseException) -> None:
        """Set the exception. For the run only."""
        if isinstance(error, StopIteration):
            # In a coroutine that awaits this future it would look like the coroutine's own end, so asyncio refuses it.
            stand_in = RuntimeError(f"the computed function raised {error!r}")
            stand_in.__cause__ = error
            error = stand_in
        _set_exception(self, error)
        self.exception()  # events deliver it: asyncio must not log it as "never retrieved" as well

    def __reduce__(self) -> Any:
        """Refused: a future belongs to this process, and has no value before its end.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"the future of {self.label} cannot be sent to a worker: a future is computed first, and its result passed"
            " in its place, where it is an argument of submit, or in a list, a tuple or a dict there. This one is"
            " elsewhere, in an attribute for instance: pass it as an argument of its own, or submit what needs its"
            " result in a callback of @result (task.on_result), with the result as the argument"
        )

    def __repr__(self) -> str:
        number = f" {self.number}" if self.number >= 0 else ""
        return f"<Future{number}: {self.label}, {self._state_in_words()}>"

    def in_short(self) -> str:
        """What stands for it in labels: those of other calls, whose own arguments may be futures, and so on."""
        return f"<{task_name(self)} {self.number}>"

    def _state_in_words(self) -> str:
        from amltk._labels import value_in_short

        if not self.done():
            return "pending"
        if self.cancelled():
            return "cancelled"
        error = self.exception()
        return f"raised {type(error).__name__}" if error is not None else f"result={value_in_short(super().result())}"


class PastFuture:
    """Stands for a future among the arguments of another that has ended, once nothing else has kept it.

    Attributes:
        number: Its number.
    """

    __slots__ = ("_future", "_name", "number")

    def __init__(self, future: Future[Any]) -> None:
        self._future = weakref.ref(future)
        self._name = future.in_short()
        self.number: int = future.number

    def kept(self) -> Future[Any] | None:
        """The future, if something else has kept it."""
        return self._future()

    def kept_or_past(self) -> Future[Any] | PastFuture:
        """The same, or else this."""
        future = self._future()
        return self if future is None else future

    def in_short(self) -> str:
        """As `Future.in_short`."""
        return self._name

    def __repr__(self) -> str:
        return f"<PastFuture {self._name}: it has ended, and nothing has kept it>"


def task_name(future: Future[Any]) -> str:
    """The name of the task of a call; that of its function if it has no task."""
    return callback_name(future.function) if future.task is None else future.task.name


def devices_of(future: Future[Any]) -> tuple[str, ...]:
    """The individual things that a call has, such as `gpu 0`: granted by the scheduler, or lent by its worker."""
    granted = () if future.call is None else future.call.devices
    info = execution_info(future.work)
    return (*granted, *info.devices) if info is not None and info.devices else granted


class DependentFuture(Future[R]):
    """A future with futures among its arguments.

    Once a call that takes its result has ended as well, it keeps its own arguments' futures no more: else the last
    future of a chain would keep the results of all.
    """

    __slots__ = ("_given", "_loosened", "_needed", "are_results_passed")

    is_dependent = True

    are_results_passed: bool
    """Whether its call, as plugins have prepared it, has results in place of futures by now."""

    def depend_on(self, futures: list[Future[Any]]) -> None:
        """Say which futures are among its arguments. For the run only, as the following ones."""
        self._needed: tuple[Future[Any], ...] | tuple[PastFuture, ...] = tuple(futures)
        self._loosened: bool = False
        self.are_results_passed = False

    @property
    def args(self) -> tuple[Any, ...]:
        """As in `Future`."""
        return replaced(self._given, _PAST, PastFuture.kept_or_past) if self._loosened else self._given

    @args.setter
    def args(self, given: tuple[Any, ...]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - as the field
        self._given: tuple[Any, ...] = given

    @property
    def kwargs(self) -> dict[str, Any]:
        """As in `Future`."""
        kwargs = super().kwargs
        return replaced(kwargs, _PAST, PastFuture.kept_or_past) if self._loosened else kwargs

    @property
    def dependencies(self) -> tuple[Future[Any], ...]:
        """As in `Future`."""
        kept = (needed.kept() if isinstance(needed, PastFuture) else needed for needed in self._needed)
        return tuple(future for future in kept if future is not None)

    def loosen(self) -> None:
        """Keep the futures among its arguments no more."""
        if not self._loosened:
            past = {id(future): PastFuture(future) for future in self.dependencies}
            self._given = replaced(self._given, FUTURES, lambda future: past[id(future)])
            if self._kwargs is not None:
                self._kwargs = replaced(self._kwargs, FUTURES, lambda future: past[id(future)])
            self._needed = tuple(past.values())
            self._loosened = True


FUTURES: frozenset[type] = frozenset({Future, DependentFuture})
"""The types of all futures that `submit` returns."""

_PAST: frozenset[type] = frozenset({PastFuture})
