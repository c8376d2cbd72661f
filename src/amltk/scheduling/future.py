"""The future that `submit` returns."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from amltk._checks import check_between
from amltk.scheduling.events import callback_name

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


class Future(asyncio.Future[R]):
    """The outcome of one submission: an `asyncio.Future` that can be awaited, cancelled and inspected.

    It ends right before the callbacks of its events run, on the thread of the run's loop. Made by `submit`.

    Attributes:
        function: The function that was submitted.
        args: The positional arguments that were submitted, before plugins changed them.
        number: Its place in the order of the scheduler's submissions, over all runs, starting at 0; -1 if it was
            refused, or, in a run with a journal, until the run has taken what another thread has submitted.
        task: The `Task` through which it was submitted, or None.
        call: The call as the task's plugins see it; None without plugins, and after the callbacks of its last event.
        work: The executor's own future; None until the executor has it, and after the callbacks of its last event.
    """

    __slots__ = ("_attempt", "_kwargs", "_run", "args", "call", "function", "number", "task", "work")

    def __init__(  # noqa: PLR0917 - by position, which takes less time
        self,
        run: Canceller,
        task: Any,
        function: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        call: Call | None = None,
    ) -> None:
        _init(self, loop=loop)
        self._run: Canceller | None = run  # None after its end: a future that is kept must not keep the run
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

        name = callback_name(self.function) if self.task is None else self.task.name
        return call_label(name, self.args, self.kwargs)

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - asyncio's interface
        """Cancel the call: if it has not begun it never does. `@future-cancelled` follows.

        A running call is terminated if the executor can do that; otherwise it runs on and its outcome is dropped. May
        be called from any thread; from threads other than the loop's it takes effect a little later.

        Returns:
            False if the future had ended before.
        """
        run = self._run  # read once: the future may end on the loop's thread meanwhile
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
        run = self._run
        return run is not None and not self.done() and run.prioritize(self, number)

    def add_done_callback(self, fn: Callable[[Self], object], /, *, context: Context | None = None) -> None:
        """Call `fn` with this future, through the loop, when it has ended; as `await` does."""
        run = self._run
        if run is not None:
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

    def mark_cancelled(self) -> None:
        """Set the future to cancelled, without notifying anyone. For the run only."""
        super().cancel()
        self._run = None

    def succeed(self, result: R) -> None:
        """Set the result. For the run only."""
        self._run = None
        _set_result(self, result)

    def fail(self, error: BaseException) -> None:
        """Set the exception. For the run only."""
        self._run = None
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
            f"the future of {self.label} cannot be sent to a worker, as an argument for instance: submit what needs its"
            " result in a callback of @result (task.on_result), with the result as the argument"
        )

    def __repr__(self) -> str:
        number = f" {self.number}" if self.number >= 0 else ""
        return f"<Future{number}: {self.label}, {self._state_in_words()}>"

    def _state_in_words(self) -> str:
        from amltk._labels import value_in_short

        if not self.done():
            return "pending"
        if self.cancelled():
            return "cancelled"
        error = self.exception()
        return f"raised {type(error).__name__}" if error is not None else f"result={value_in_short(super().result())}"
